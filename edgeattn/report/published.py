"""The sections on what others have published. None of it enters a table, a picture or a verdict of measured times."""

from collections.abc import Iterator, Sequence

from edgeattn.errors import MissingError
from edgeattn.published import ai_hub
from edgeattn.published.figures import Published, figures
from edgeattn.report.document import Cell, Column, Part, Section, Table, Text

_LEAD = (
    "What others say, under conditions of their own: another conversion, device, warm-up and statistic. edgeattn "
    "measured none of it, and compares nothing with it."
)


def sections() -> Iterator[Section]:
    """What papers say; then, folded, Qualcomm's times of relatives, or why there are none.

    Raises:
        ArtifactError: the installed package with Qualcomm's times is damaged.
    """
    yield Section("Published, not measured here", _LEAD, (_table("Papers and guides", figures()),))
    part: Part
    try:
        part = _table("Qualcomm AI Hub Models", ai_hub.figures())
    except MissingError as error:
        part = Text(f"Qualcomm's times of relatives are not shown: {error}.")
    yield Section("Published by Qualcomm, not measured here", _LEAD, (part,), folded=True)


def _table(title: str, found: Sequence[Published]) -> Table:
    columns = (
        Column("Model"), Column("Runtime"), Column("Device"), Column("Published, ms", numeric=True), Column("Source"),
        Column("Date"),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(each.model, each.precision or "precision not told"),
            Cell(each.runtime),
            Cell(each.device),
            # With the digits that were published.
            Cell(f"{each.milliseconds:g}"),
            Cell(each.source, each.url),
            Cell(each.date or "not told"),
        )
        for each in found
    )
    return Table(title, columns, rows)
