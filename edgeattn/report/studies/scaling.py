"""The paper's first figure (arXiv 2206.02680), measured: cost against tokens, with slopes and crossings."""

from collections.abc import Sequence
from math import exp, log

from edgeattn.bundle.records import Record
from edgeattn.report.document import Cell, Column, Part, Picture, Section, Statement, Table, Text
from edgeattn.report.pictures import curves
from edgeattn.report.studies import Chapter, _cost

NAMES = {"separable": "separable", "multi_head": "multi-head, 8 heads", "linformer": "Linformer, p = 256"}
# The exponent that the separable form may have: linear, and a little for what falls out of the caches.
LINEAR = 1.05


class Scaling(Chapter):
    """Of the study scaling."""

    title = "How attention scales"
    order = 2

    def section(self, records: Sequence[Record]) -> Section:
        """A picture and a table for each place."""
        parts: list[Part] = []
        for place, own in _cost.by_place(records).items():
            unit = _cost.of(own[0]).unit
            series = [_series(name, own) for name in NAMES if any(r.labels["attention"] == name for r in own)]
            x = "tokens"
            picture = curves.draw(series, title=place, x=x, y=f"{unit} for one run")
            parts.append(Picture(place, curves.describe(series, x, unit), picture, wide=True))
            parts += _sentences(series)
            parts.append(_table(place, unit, own))
        lead = (
            "Separable, multi-head and Linformer attention with 512 channels. On logarithmic axes a power of the "
            "number of tokens is a straight line, and its slope the power."
        )
        return Section(self.title, lead, tuple(parts))

    def statement(self, records: Sequence[Record]) -> Statement:
        """The slopes of the first place."""
        own = next(iter(_cost.by_place(records).values()))
        found = [_series(name, own) for name in NAMES if any(r.labels["attention"] == name for r in own)]
        slopes = [f"{one.label} {one.slope:.2f}" for one in found if one.slope is not None]
        return Statement(self.title, f"with the power {slopes[0]}" if slopes else "-", "; ".join(slopes[1:]) + ".")


def _points(name: str, records: Sequence[Record]) -> dict[int, float]:
    own = [record for record in records if record.labels["attention"] == name]
    return dict(sorted((int(record.labels["tokens"]), _cost.of(record).value) for record in own))


def _series(name: str, records: Sequence[Record]) -> curves.Series:
    points = _points(name, records)
    return curves.Series(NAMES[name], tuple(map(float, points)), tuple(points.values()))


def _sentences(series: Sequence[curves.Series]) -> list[Text]:
    separable, *others = series
    found = []
    if separable.slope is not None:
        linear = separable.slope <= LINEAR
        told = "linear." if linear else f"more than the {LINEAR} that we call linear.{_linear_up_to(separable)}"
        sentence = f"The cost of separable attention grows with the power {separable.slope:.3f} of the tokens: {told}"
        found.append(Text(sentence, "good" if linear else "caution"))
    for other in others:
        crossed = crossing(separable, other)
        if crossed is None:
            slower = other.y[0] > separable.y[0]
            found.append(Text(f"{other.label} is {'slower' if slower else 'faster'} at every number of tokens."))
        else:
            found.append(Text(f"{other.label} and separable attention cross at about {crossed:,.0f} tokens."))
    return found


def _linear_up_to(series: curves.Series) -> str:
    """Up to where the points lie on a line, if that is three points or more."""
    for n in range(len(series.x) - 1, 2, -1):
        part = curves.Series(series.label, series.x[:n], series.y[:n])
        if part.slope is not None and part.slope <= LINEAR:
            return f" Up to {part.x[-1]:,.0f} tokens the power is {part.slope:.3f}."
    return ""


def crossing(a: curves.Series, b: curves.Series) -> float | None:
    """Where two series cross, between two points on logarithmic axes; None if they do not."""
    points = sorted(set(a.x) & set(b.x))
    apart = [log(a.y[a.x.index(x)] / b.y[b.x.index(x)]) for x in points]
    for x, following, before, after in zip(points, points[1:], apart, apart[1:], strict=False):
        if before * after < 0:
            share = before / (before - after)
            return exp(log(x) + share * (log(following) - log(x)))
    return None


def _table(place: str, unit: str, records: Sequence[Record]) -> Table:
    names = [name for name in NAMES if any(record.labels["attention"] == name for record in records)]
    columns = (Column("tokens", True), *(Column(f"{NAMES[name]}, {unit}", True) for name in names))
    values = {name: _points(name, records) for name in names}
    rows = []
    for tokens in sorted({n for points in values.values() for n in points}):
        cells = (Cell(f"{v:.4g}" if (v := values[name].get(tokens)) is not None else "-") for name in names)
        rows.append((Cell(f"{tokens:,}"), *cells))
    return Table(place, columns, tuple(rows))


CHAPTER: Chapter = Scaling()
