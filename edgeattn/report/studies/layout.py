"""What the layout buys: four forms of the attention side by side, over shapes."""

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
    """Of the study layout."""

    title = "What the layout buys"
    order = 1

    def section(self, records: Sequence[Record]) -> Section:
        """A table for each place: cost, times cheaper than the reference, bytes that layout and copy ops move."""
        parts: list[Part] = []
        for place, own in _cost.by_place(records).items():
            found = _bars(own)
            title = f"{place}: times cheaper than the reference"
            if found:
                parts.append(Picture(title, bars.describe(found), bars.draw(found, title=title, unit="times cheaper")))
            parts.append(_table(place, own))
        lead = (
            "The same function in four forms, measured in turn. Cheaper is against the first form that the converter "
            "takes; the bytes are what layout and copy ops of the saved file move in one run and compute nothing."
        )
        return Section(self.title, lead, tuple(parts))

    def statement(self, records: Sequence[Record]) -> Statement:
        """How many times cheaper the deployed form is, over all shapes and places."""
        gains: list[float] = []
        linear: list[float] = []
        for own in _cost.by_place(records).values():
            for forms in _shapes(own).values():
                for name, found in (("reference", gains), ("channels_last_linear", linear)):
                    if {name, "deployed"} <= forms.keys():
                        found.append(_cost.ratio(forms[name], forms["deployed"]).value)
        told = [
            f"{_cost.span(found)} times cheaper than {name}"
            for found, name in ((gains, "the reference"), (linear, "channels-last with its transposes"))
            if found
        ]
        return Statement(
            self.title, told[0] if told else "no two forms to compare", "; ".join(told[1:]) + "." if told else ""
        )


def _bars(records: list[Record]) -> list[bars.Bar]:
    """How many times cheaper than the reference each form is, where the converter takes the reference."""
    found = []
    for shape, forms in _shapes(records).items():
        for form in _SHORT:
            if {"reference", form} <= forms.keys():
                times = _cost.ratio(forms["reference"], forms[form]).value
                found.append(bars.Bar(f"{shape}: {_SHORT[form]}", times, f"{times:.2f}", form == "deployed"))
    return found


def _shapes(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """The records by shape, then by form."""
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        found.setdefault(record.labels["shape"], {})[record.labels["form"]] = record
    return found


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
    for shape, forms in _shapes(records).items():
        there = [form for form in _FORMS if form in forms]
        for form in there:
            record = forms[form]
            cheaper = _cost.times_cheaper(forms[there[0]], record) if form != there[0] else Cell("1")
            moved = (record.subject.layout_bytes, record.subject.copy_bytes)
            kib = (Cell("-" if n is None else f"{n / 1024:,.0f}") for n in moved)
            rows.append((Cell(shape), Cell(_FORMS[form]), Cell(_cost.of(record).text), cheaper, *kib))
    return Table(place, columns, tuple(rows))


CHAPTER: Chapter = Layout()
