"""The cost of the layout: four forms of the attention side by side, over shapes."""

from collections.abc import Sequence

from edgeattn.bundle.records import Record
from edgeattn.report.document import Cell, Column, Part, Picture, Section, Statement, Table
from edgeattn.report.pictures import bars
from edgeattn.report.studies import Chapter, _cost

_FORMS = {
    "reference": "channels-first, 1x1 convolutions (reference)",
    "channels_last_linear": "channels-last, linear layers, transposes",
    "folded": "reference, key folded",
    "deployed": "as deployed",
}

_SHORT = {"channels_last_linear": "channels-last", "folded": "folded", "deployed": "deployed"}


class Layout(Chapter):
    """The chapter of the study layout."""

    title = "What the layout buys"
    order = 1

    def section(self, records: Sequence[Record]) -> Section:
        """A table for each environment: cost, times cheaper than the reference, bytes that layout and copy ops move."""
        parts: list[Part] = []
        for environment, group in _cost.by_environment(records).items():
            drawn = _bars(group)
            title = f"{environment}: times cheaper than the reference"
            if drawn:
                parts.append(Picture(title, bars.describe(drawn), bars.draw(drawn, title=title, unit="times cheaper")))
            parts.append(_table(environment, group))
        lead = (
            'The same function in four forms, from interleaved runs. "Times cheaper" is against the first form that '
            "the converter takes. The bytes are those that layout and copy ops of the saved file move in one run."
        )
        return Section(self.title, lead, tuple(parts))

    def statement(self, records: Sequence[Record]) -> Statement:
        """How many times cheaper the deployed form is, over all shapes and environments."""
        gains: list[float] = []
        linear: list[float] = []
        for group in _cost.by_environment(records).values():
            for forms in _shapes(group).values():
                for name, ratios in (("reference", gains), ("channels_last_linear", linear)):
                    if {name, "deployed"} <= forms.keys():
                        ratios.append(_cost.ratio(forms[name], forms["deployed"]).value)
        sentences = [
            f"{_cost.span(ratios)} times cheaper than {name}"
            for ratios, name in ((gains, "the reference"), (linear, "channels-last with its transposes"))
            if ratios
        ]
        return Statement(
            self.title,
            sentences[0] if sentences else "no two forms to compare",
            "; ".join(sentences[1:]) + "." if sentences else "",
        )


def _bars(records: list[Record]) -> list[bars.Bar]:
    """How many times cheaper than the reference each form is, where the converter takes the reference."""
    result = []
    for shape, forms in _shapes(records).items():
        for form in _SHORT:
            if {"reference", form} <= forms.keys():
                times = _cost.ratio(forms["reference"], forms[form]).value
                result.append(bars.Bar(f"{shape}: {_SHORT[form]}", times, f"{times:.2f}", form == "deployed"))
    return result


def _shapes(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """The records by shape, then by form."""
    by_shape: dict[str, dict[str, Record]] = {}
    for record in records:
        by_shape.setdefault(record.labels["shape"], {})[record.labels["form"]] = record
    return by_shape


def _table(title: str, records: list[Record]) -> Table:
    unit = _cost.of(records[0]).unit
    columns = (
        Column("shape (C, P, N)"),
        Column("form"),
        Column(unit, True),
        Column("times cheaper", True),
        Column("layout ops, KiB", True),
        Column("copy ops, KiB", True),
    )
    rows = []
    for shape, forms in _shapes(records).items():
        present = [form for form in _FORMS if form in forms]
        for form in present:
            record = forms[form]
            cheaper = _cost.times_cheaper(forms[present[0]], record) if form != present[0] else Cell("1")
            moved = (record.subject.layout_bytes, record.subject.copy_bytes)
            kib = (Cell("-" if n is None else f"{n / 1024:,.0f}") for n in moved)
            rows.append((Cell(shape), Cell(_FORMS[form]), Cell(_cost.of(record).text), cheaper, *kib))
    return Table(title, columns, tuple(rows))


CHAPTER: Chapter = Layout()
