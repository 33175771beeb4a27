"""The paper's first figure (arXiv 2206.02680), measured: cost against tokens, with slopes and crossings."""

from collections.abc import Sequence
from math import exp, log

from edgeattn.bundle.records import Record
from edgeattn.report.document import Cell, Column, Part, Picture, Section, Statement, Table, Text
from edgeattn.report.pictures import curves
from edgeattn.report.studies import Chapter, _cost

NAMES = {"separable": "separable", "multi_head": "multi-head, 8 heads", "linformer": "Linformer, p = 256"}
# The largest exponent that counts as linear: 1, and a margin for cache misses.
LINEAR = 1.05


class Scaling(Chapter):
    """The chapter of the study scaling."""

    title = "How attention scales"
    order = 2

    def section(self, records: Sequence[Record]) -> Section:
        """A picture and a table for each environment."""
        parts: list[Part] = []
        for environment, group in _cost.by_environment(records).items():
            unit = _cost.of(group[0]).unit
            series = [_series(name, group) for name in NAMES if any(r.labels["attention"] == name for r in group)]
            x = "tokens"
            picture = curves.draw(series, title=environment, x=x, y=f"{unit} for one run")
            parts.append(Picture(environment, curves.describe(series, x, unit), picture, wide=True))
            parts += _sentences(series)
            parts.append(_table(environment, unit, group))
        lead = (
            "Separable, multi-head and Linformer attention with 512 channels. On logarithmic axes a power of the "
            "number of tokens is a straight line, and its slope the power."
        )
        return Section(self.title, lead, tuple(parts))

    def statement(self, records: Sequence[Record]) -> Statement:
        """The slopes in the first environment."""
        group = next(iter(_cost.by_environment(records).values()))
        series = [_series(name, group) for name in NAMES if any(r.labels["attention"] == name for r in group)]
        slopes = [f"{curve.label} {curve.slope:.2f}" for curve in series if curve.slope is not None]
        return Statement(self.title, f"with the power {slopes[0]}" if slopes else "-", "; ".join(slopes[1:]) + ".")


def _points(name: str, records: Sequence[Record]) -> dict[int, float]:
    own = [record for record in records if record.labels["attention"] == name]
    return dict(sorted((int(record.labels["tokens"]), _cost.of(record).value) for record in own))


def _series(name: str, records: Sequence[Record]) -> curves.Series:
    points = _points(name, records)
    return curves.Series(NAMES[name], tuple(map(float, points)), tuple(points.values()))


def _sentences(series: Sequence[curves.Series]) -> list[Text]:
    separable, *others = series
    sentences = []
    if separable.slope is not None:
        linear = separable.slope <= LINEAR
        conclusion = "linear." if linear else f"more than the {LINEAR} that we call linear.{_linear_up_to(separable)}"
        sentence = (
            f"The cost of separable attention grows with the power {separable.slope:.3f} of the tokens: {conclusion}"
        )
        sentences.append(Text(sentence, "good" if linear else "caution"))
    for other in others:
        crossed = crossing(separable, other)
        if crossed is None:
            slower = other.y[0] > separable.y[0]
            sentences.append(Text(f"{other.label} is {'slower' if slower else 'faster'} at every number of tokens."))
        else:
            sentences.append(Text(f"{other.label} and separable attention cross at about {crossed:,.0f} tokens."))
    return sentences


def _linear_up_to(series: curves.Series) -> str:
    """The range in which the cost is linear, as a sentence, if it has three points or more."""
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


def _table(title: str, unit: str, records: Sequence[Record]) -> Table:
    names = [name for name in NAMES if any(record.labels["attention"] == name for record in records)]
    columns = (Column("tokens", True), *(Column(f"{NAMES[name]}, {unit}", True) for name in names))
    values = {name: _points(name, records) for name in names}
    rows = []
    for tokens in sorted({n for points in values.values() for n in points}):
        cells = (Cell(f"{v:.4g}" if (v := values[name].get(tokens)) is not None else "-") for name in names)
        rows.append((Cell(f"{tokens:,}"), *cells))
    return Table(title, columns, tuple(rows))


CHAPTER: Chapter = Scaling()
