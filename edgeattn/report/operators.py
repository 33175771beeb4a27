"""Where the time of one run goes: by kind of operator, and by layer of the model."""

from collections import defaultdict
from collections.abc import Iterator

from edgeattn.bundle.records import Record
from edgeattn.report import words
from edgeattn.report.document import Part, Picture, Section, Text
from edgeattn.report.pictures import bars
from edgeattn.report.result import describe

_MOST = 10
_MOST_LAYERS = 14
_MOST_RECORDS = 12
_NO_LAYER = "no layer of the model"


def operators(records: tuple[Record, ...]) -> Iterator[Section]:
    """One section for all records that have times by operator, or the reasons why they have none."""
    parts: list[Part] = []
    notes: list[str] = []
    drawn = 0
    for record in records:
        about = describe(record)
        if record.operators and drawn < _MOST_RECORDS:
            drawn += 1
            parts.append(_by_operator(f"{about}: by operator", record))
            if any(op.layer for op in record.operators):
                parts.append(_by_layer(f"{about}: by layer", record))
        # Records with counted instructions have no times, and nobody expects them.
        if (
            record.operators_note
            and not record.counts
            and (note := f"{record.runtime}: {record.operators_note}") not in notes
        ):
            notes.append(note)
    if undrawn := sum(bool(record.operators) for record in records) - drawn:
        parts.append(Text(f"{words.number(undrawn, 'record')} more with times by operator are not drawn."))
    parts += map(Text, notes)
    if any(isinstance(part, Picture) for part in parts):
        lead = "Medians over separate runs, because timing operators slows a run down. Layout ops, "
        lead += "which move data and compute nothing, stand out."
        yield Section("Where the time goes", lead, tuple(parts))
    elif parts:
        yield Section("Where the time goes", "No runtime gave times by operator.", tuple(parts), folded=True)


def _by_operator(title: str, record: Record) -> Picture:
    """The kinds that take the most time, the most expensive first."""
    ns_by_kind: dict[tuple[str, bool], int] = defaultdict(int)
    for op in record.operators:
        ns_by_kind[op.kind, op.layout] += op.median_ns
    total = _total(record)
    ordered = sorted(ns_by_kind.items(), key=lambda item: (-item[1], item[0]))
    shown = [_bar(kind, ns, total, layout=layout) for (kind, layout), ns in ordered[:_MOST]]
    if rest := ordered[_MOST:]:
        shown.append(_bar(f"{len(rest)} others", sum(ns for _, ns in rest), total))
    layout_ns = sum(op.median_ns for op in record.operators if op.layout)
    text = f"Layout ops take {layout_ns / total:.1%} of {total / 1e6:.3g} ms. {bars.describe(shown)}"
    return Picture(title, text, bars.draw(shown, title=title, unit="ms"))


def _by_layer(title: str, record: Record) -> Picture:
    """The parts of the model in order of execution, at the greatest depth with few enough parts to read."""
    paths = [op.layer.split(".") for op in record.operators if op.layer]
    depths = range(1, max(map(len, paths)) + 1)
    few = [d for d in depths if len({tuple(path[:d]) for path in paths}) <= _MOST_LAYERS]
    depth = few[-1] if few else 1
    ns_by_layer: dict[str, int] = defaultdict(int)
    for op in record.operators:
        ns_by_layer[".".join(op.layer.split(".")[:depth]) or _NO_LAYER] += op.median_ns
    ns_of_no_layer = ns_by_layer.pop(_NO_LAYER, 0)
    names = list(ns_by_layer)
    shown = [_bar(name, ns_by_layer[name], _total(record)) for name in names[:_MOST_LAYERS]]
    if rest := names[_MOST_LAYERS:]:
        shown.append(_bar(f"{len(rest)} others", sum(ns_by_layer[name] for name in rest), _total(record)))
    if ns_of_no_layer:
        shown.append(_bar(_NO_LAYER, ns_of_no_layer, _total(record)))
    return Picture(title, bars.describe(shown), bars.draw(shown, title=title, unit="ms"))


def _total(record: Record) -> int:
    return sum(op.median_ns for op in record.operators) or 1


def _bar(name: str, ns: int, total: int, *, layout: bool = False) -> bars.Bar:
    return bars.Bar(name + (" (layout)" if layout else ""), ns / 1e6, f"{ns / total:.0%}", layout)
