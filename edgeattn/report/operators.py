"""Where the time of one run goes: by kind of operator, and by layer of the model."""

from collections import defaultdict
from collections.abc import Callable, Iterator

from edgeattn.records import Operator, Record
from edgeattn.report import words
from edgeattn.report.document import Part, Picture, Section, Text
from edgeattn.report.pictures import bars
from edgeattn.report.results import origin_name

_MOST = 10
_MOST_RECORDS = 12


def operators(records: tuple[Record, ...]) -> Iterator[Section]:
    """One section for all records that have times by operator, or a note why they have none."""
    parts: list[Part] = []
    drawn = 0
    for record in records:
        about = f"{record.subject.artifact}, {record.runtime}, {record.target} ({origin_name(record.origin)})"
        if record.operators and drawn < _MOST_RECORDS:
            drawn += 1
            parts.append(_picture(f"{about}: by operator", record, lambda op: op.kind))
            if any(op.layer for op in record.operators):
                parts.append(_picture(f"{about}: by layer", record, lambda op: op.layer or "(no layer)"))
        if record.operators_note:
            parts.append(Text(f"{about}: {record.operators_note}"))
    if left := sum(bool(record.operators) for record in records) - drawn:
        parts.append(Text(f"{words.number(left, 'record')} more with times by operator are not drawn."))
    if any(isinstance(part, Picture) for part in parts):
        lead = "Medians over runs that were made for this alone, as watching operators slows a run down. Layout ops, "
        lead += "which move data and compute nothing, stand out."
        yield Section("Where the time goes", lead, tuple(parts))
    elif parts:
        yield Section("Where the time goes", "No runtime gave times by operator.", tuple(parts), folded=True)


def _picture(title: str, record: Record, key: Callable[[Operator], str]) -> Picture:
    spent: dict[tuple[str, bool], int] = defaultdict(int)
    for op in record.operators:
        spent[key(op), op.layout] += op.median_ns
    total = sum(spent.values()) or 1
    ordered = sorted(spent.items(), key=lambda item: (-item[1], item[0]))
    shown = [_bar(name, layout, ns, total) for (name, layout), ns in ordered[:_MOST]]
    if rest := ordered[_MOST:]:
        shown.append(_bar(f"{len(rest)} others", False, sum(ns for _, ns in rest), total))
    layout_ns = sum(op.median_ns for op in record.operators if op.layout)
    text = f"Layout ops take {layout_ns / total:.1%} of {total / 1e6:.3g} ms. {bars.describe(shown)}"
    return Picture(title, text, bars.draw(shown, title=title, unit="ms"))


def _bar(name: str, layout: bool, ns: int, total: int) -> bars.Bar:
    return bars.Bar(name + (" (layout)" if layout else ""), ns / 1e6, f"{ns / total:.0%}", layout)
