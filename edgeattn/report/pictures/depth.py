"""The error of each layer by depth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeattn.report.pictures import canvas

# The logarithmic axis shows an error of zero at this value.
_LEAST = 0.01


@dataclass(frozen=True)
class Curve:
    """One artifact in one runtime.

    Args:
        label: its name in the legend.
        noise_units: the largest error of each layer, in order of execution; None if it is unknown.
        first: the number and the name of the first layer over its limit.
    """

    label: str
    noise_units: tuple[float | None, ...]
    first: tuple[int, str] | None = None


def describe(curves: Sequence[Curve], limit: float) -> str:
    """A description for those who cannot see the picture."""
    sentences = [f"A line for each runtime, on a logarithmic axis; the limit is {limit:g}."]
    for curve in curves:
        known = [n for n in curve.noise_units if n is not None]
        where = "no layer is over its limit" if curve.first is None else f"{curve.first[1]} is the first over its limit"
        largest = f"the largest error is {max(known):.3g}" if known else "no error has a number"
        sentences.append(f"{curve.label}: {len(curve.noise_units)} layers, {largest}, {where}.")
    return " ".join(sentences)


def draw(curves: Sequence[Curve], *, title: str, limit: float, headed: bool = True) -> str:
    """An SVG with real text, a title (drawn too, if ``headed``) and a description. It needs matplotlib."""
    with canvas.figure(5.4, 3.9) as figure:
        axes = figure.add_subplot()
        for i, curve in enumerate(curves):
            heights = [math.nan if n is None else max(n, _LEAST) for n in curve.noise_units]
            style = canvas.STYLES[i % len(canvas.STYLES)]
            # In percent: the formats do not have the same number of layers.
            depths = [100 * (n + 1) / len(heights) for n in range(len(heights))]
            (line,) = axes.plot(depths, heights, style, lw=1.2, label=canvas.plain(curve.label))
            if curve.first is not None:
                at, name = curve.first
                height = limit if math.isnan(heights[at]) else heights[at]
                begins = canvas.plain(f"begins at {name}")
                axes.plot([depths[at]], [height], "o", color=line.get_color(), label=begins)
        axes.axhline(limit, color=canvas.COLOURS["bad"], lw=0.8, label=f"limit, {limit:g}")
        axes.set(
            yscale="log",
            xlabel="depth, % of the layers in order of execution",
            ylabel="largest error, times the noise floor",
        )
        axes.yaxis.set_major_formatter("{x:g}")
        if headed:
            axes.set_title(canvas.plain(title))
        axes.grid(axis="y")
        figure.legend(loc="outside lower left", ncols=1)
        return canvas.svg(figure, title, describe(curves, limit))
