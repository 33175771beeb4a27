"""Rows as a Markdown table, stock and ours side by side; and the place of that table in a page."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.family.measure import DIFFERENT, OURS, STOCK, Row
from benchmarks.family.models import BY_NAME

HEADER = (
    "model", "of", "format", "operators", "layout ops", "multiply-adds", "XNNPACK partitions", "stock is the same?",
    "ours is the same?",
)  # fmt: skip
BEGIN, END = "<!-- family: begin -->", "<!-- family: end -->"

Pair = tuple[Row, Row]


def pairs(rows: Sequence[Row]) -> list[Pair]:
    """Stock and ours of each model and format."""
    by_key = {(row.model, row.format, row.form): row for row in rows}
    keys = dict.fromkeys((row.model, row.format) for row in rows)
    return [(by_key[*key, STOCK], by_key[*key, OURS]) for key in keys]


def table(rows: Sequence[Row]) -> str:
    """A line for each model and format; a number that is the same for both stands there once."""
    lines = [HEADER, ("---",) * len(HEADER), *(_cells(*pair) for pair in pairs(rows))]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines)


def _cells(stock: Row, ours: Row) -> tuple[str, ...]:
    member = BY_NAME[stock.model]

    def both(value: Callable[[Row], str]) -> str:
        before, after = value(stock), value(ours)
        return before if before == after else f"{before} → {after}"

    return (
        member.title,
        member.package,
        stock.format,
        both(lambda row: _number(row.operators)),
        both(lambda row: _number(row.layout_ops)),
        both(lambda row: "-" if row.macs is None else f"{row.macs / 1e6:.0f} M"),
        both(lambda row: _number(row.partitions)),
        _same(stock),
        _same(ours),
    )


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _same(row: Row) -> str:
    if row.refusal:
        return f"does not convert: {row.refusal}"
    return row.verdict if row.noise_units is None else f"{row.verdict}, {row.noise_units:.3g}"


def faults(rows: Sequence[Row]) -> list[str]:
    """What must not be: another model, a model that only converts without us, or one that we made larger."""
    found = []
    for stock, ours in pairs(rows):
        where = f"{stock.model}, {stock.format}"
        if ours.verdict == DIFFERENT:
            found.append(f"{where}: ours is another model")
        if ours.refusal and not stock.refusal:
            found.append(f"{where}: converts as it is, and not with edgeattn: {ours.refusal}")
        if ours.refusal or stock.refusal:
            continue
        for what in ("operators", "layout_ops", "macs"):
            before, after = getattr(stock, what), getattr(ours, what)
            if after > before:
                found.append(f"{where}: {what.replace('_', ' ')}: {before} in the stock file, {after} in ours")
    return found


def write(page: Path, text: str) -> None:
    """Replace what stands between the two marks of ``page``.

    Raises:
        ValueError: the page does not have both marks, once.
    """
    before = page.read_text()
    if (before.count(BEGIN), before.count(END)) != (1, 1):
        raise ValueError(f"{page} must have {BEGIN} and {END} once")
    section = f"{BEGIN}\n\n{text}\n\n{END}"
    page.write_text(re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: section, before, flags=re.DOTALL))
