"""Scaling curves: one quantity against another on logarithmic axes, a line and a fitted slope for each series."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeattn.report.pictures import canvas


@dataclass(frozen=True)
class Series:
    """Points (x, y), all above 0, in ascending x."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]

    @property
    def slope(self) -> float | None:
        """The exponent p of y ~ x^p, by least squares over the logarithms; None for fewer than two points."""
        if len(set(self.x)) < 2:
            return None
        return float(np.polyfit(np.log(self.x), np.log(self.y), 1)[0])

    @property
    def name(self) -> str:
        return self.label if self.slope is None else f"{self.label}, slope {self.slope:.2f}"


def describe(series: Sequence[Series], x: str, y: str) -> str:
    """A description for those who cannot see the picture."""
    lines = (f"{s.name}: from {s.y[0]:.4g} at {s.x[0]:g} to {s.y[-1]:.4g} at {s.x[-1]:g}" for s in series)
    return f"{y} against {x}, both axes logarithmic. " + "; ".join(lines) + "."


def draw(series: Sequence[Series], *, title: str, x: str, y: str) -> str:
    """An SVG; ``x`` and ``y`` name the axes with their units."""
    with canvas.figure(5.6, 4.0) as figure:
        axes = figure.add_subplot()
        for i, curve in enumerate(series):
            style = canvas.STYLES[i % len(canvas.STYLES)]
            axes.plot(curve.x, curve.y, style, marker="o", ms=3.5, lw=1.3, label=canvas.plain(curve.name))
        axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
        heights = [point for curve in series for point in curve.y]
        canvas.logarithmic(axes.yaxis, min(heights), max(heights))
        axes.xaxis.set_major_formatter("{x:,.10g}")
        ticks = sorted({point for curve in series for point in curve.x})
        if len(ticks) <= 10:
            axes.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks], rotation=30 if len(ticks) > 6 else 0)
            axes.minorticks_off()
        axes.grid(axis="both")
        figure.legend(loc="outside lower left", ncols=1)
        return canvas.svg(figure, title, describe(series, x, y))
