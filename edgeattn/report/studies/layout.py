"""What the layout buys: four forms of the attention side by side, over shapes."""

from collections.abc import Sequence

from edgeattn.records import Record
from edgeattn.report.document import Cell, Column, Part, Section, Statement, Table
from edgeattn.report.studies import _cost

TITLE = "What the layout buys"
_FORMS = {
    "reference": "channels-first, 1x1 convolutions (reference)",
    "channels_last_linear": "channels-last, linear layers, transposes",
    "folded": "reference, key folded",
    "deployed": "as deployed",
}


def section(records: Sequence[Record]) -> Section:
    """A table for each place: cost, times cheaper than the reference, bytes that layout and copy ops move."""
    parts: list[Part] = [_table(place, own) for place, own in _cost.by_place(records).items()]
    lead = (
        "The same function in four forms, measured in turn. Cheaper is against the first form that the converter "
        "takes; the bytes are what layout and copy ops of the saved file move in one run and compute nothing."
    )
    return Section(TITLE, lead, tuple(parts))


def statement(records: Sequence[Record]) -> Statement:
    """How many times cheaper the deployed form is, over all shapes and places."""
    gains, linear = [], []
    for own in _cost.by_place(records).values():
        for shape in dict.fromkeys(record.labels["shape"] for record in own):
            costs = {r.labels["form"]: _cost.of(r).value for r in own if r.labels["shape"] == shape}
            if "deployed" in costs:
                gains += [costs["reference"] / costs["deployed"]] if "reference" in costs else []
                linear += [costs["channels_last_linear"] / costs["deployed"]] if "channels_last_linear" in costs else []
    told = [
        f"{min(found):.2f} to {max(found):.2f} times cheaper than {name}"
        for found, name in ((gains, "the reference"), (linear, "channels-last with its transposes"))
        if found
    ]
    return Statement(TITLE, told[0] if told else "no two forms to compare", "; ".join(told[1:]) + "." if told else "")


def _table(place: str, records: list[Record]) -> Table:
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
    for shape in dict.fromkeys(record.labels["shape"] for record in records):
        forms = {record.labels["form"]: record for record in records if record.labels["shape"] == shape}
        there = [form for form in _FORMS if form in forms]
        for form in there:
            record = forms[form]
            cheaper = _cost.times_cheaper(forms[there[0]], record) if form != there[0] else Cell("1")
            moved = (record.subject.layout_bytes, record.subject.copy_bytes)
            kib = (Cell("-" if n is None else f"{n / 1024:,.0f}") for n in moved)
            rows.append((Cell(shape), Cell(_FORMS[form]), Cell(_cost.of(record).text), cheaper, *kib))
    return Table(place, columns, tuple(rows))
