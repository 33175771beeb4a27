"""The paper's Table 1 (arXiv 2206.02680), measured: a whole network with different attentions."""

from collections.abc import Sequence

from edgeattn.bundle.records import Record
from edgeattn.report.document import Cell, Column, Part, Picture, Section, Statement, Table, Text
from edgeattn.report.pictures import curves
from edgeattn.report.studies import Chapter, _cost
from edgeattn.report.studies.scaling import NAMES

# Milliseconds on an iPhone 12, of MobileViT with the attention exchanged: the paper's Table 1.
PAPER_MS = {"separable": 3.4, "multi_head": 9.9, "linformer": 10.2}


class MobileVit(Chapter):
    """The chapter of the study mobilevit."""

    title = "What it saves in a whole network"
    order = 3

    def section(self, records: Sequence[Record]) -> Section:
        """A picture and a table for each environment, with the paper's own ratios."""
        parts: list[Part] = []
        for environment, group in _cost.by_environment(records).items():
            names = [name for name in NAMES if any(record.labels["attention"] == name for record in group)]
            unit = _cost.of(group[0]).unit
            series = [_series(name, group) for name in names]
            x, y = "size of the file, MiB (4 bytes a parameter)", f"{unit} for one image"
            parts.append(
                Picture(
                    environment,
                    curves.describe(series, x, y),
                    curves.draw(series, title=environment, x=x, y=y),
                    wide=True,
                )
            )
            parts.append(_table(environment, unit, names, group))
        paper = ", ".join(
            f"{NAMES[name]} {ms / PAPER_MS['separable']:.2f}" for name, ms in PAPER_MS.items() if name != "separable"
        )
        parts.append(
            Text(
                f"The paper has, on an iPhone 12, as times of separable attention: {paper} "
                f"({PAPER_MS['multi_head']} and {PAPER_MS['linformer']} ms to {PAPER_MS['separable']} ms). Where the "
                "figures here are nearer to 1, it is because on one CPU core the convolutions are the larger part of "
                "the network, and the attention's products a small one; the paper measured through Core ML on a "
                "phone, where transposes, reshapes and products of many small matrices can cost far more than their "
                "arithmetic."
            )
        )
        lead = (
            "MobileViTv2 as it is deployed, and the same network with another attention between the same convolutions."
        )
        return Section(self.title, lead, tuple(parts))

    def statement(self, records: Sequence[Record]) -> Statement:
        """The range of ratios over the widths, in all environments."""
        ranges = []
        for name in ("multi_head", "linformer"):
            ratios = []
            for group in _cost.by_environment(records).values():
                slow, fast = _by_width(name, group), _by_width("separable", group)
                ratios += [_cost.ratio(slow[w], fast[w]).value for w in slow if w in fast]
            if ratios:
                ranges.append(f"{_cost.span(ratios)} times cheaper than {NAMES[name]}")
        return Statement(
            self.title, ranges[0] if ranges else "nothing to compare", "; ".join(ranges[1:]) + "." if ranges[1:] else ""
        )


def _by_width(name: str, records: Sequence[Record]) -> dict[float, Record]:
    own = [record for record in records if record.labels["attention"] == name]
    return dict(sorted((float(record.labels["width"]), record) for record in own))


def _series(name: str, records: Sequence[Record]) -> curves.Series:
    own = _by_width(name, records).values()
    sizes = tuple(record.subject.size_bytes / 2**20 for record in own)
    return curves.Series(NAMES[name], sizes, tuple(_cost.of(record).value for record in own))


def _table(title: str, unit: str, names: list[str], records: Sequence[Record]) -> Table:
    others = [name for name in names if name != "separable"]
    columns = (
        Column("width", True),
        *(Column(f"{NAMES[name]}, {unit}", True) for name in names),
        *(Column(f"{NAMES[name]} / separable", True) for name in others),
    )
    by_name = {name: _by_width(name, records) for name in names}
    rows = []
    for width in sorted({w for own in by_name.values() for w in own}):
        present = {name: own[width] for name, own in by_name.items() if width in own}
        costs = (Cell(_cost.of(present[name]).text if name in present else "-") for name in names)
        ratios = (
            _cost.times_cheaper(present[name], present["separable"])
            if name in present and "separable" in present
            else Cell("-")
            for name in others
        )
        rows.append((Cell(f"{width:g}"), *costs, *ratios))
    return Table(title, columns, tuple(rows))


CHAPTER: Chapter = MobileVit()
