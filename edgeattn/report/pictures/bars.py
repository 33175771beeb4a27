"""Horizontal bars with names and numbers: shares of a whole, or values side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgeattn.report.pictures import canvas


@dataclass(frozen=True)
class Bar:
    """One bar; a ``marked`` bar has another colour, ``text`` is written beside it."""

    label: str
    value: float
    text: str
    marked: bool = False


def describe(bars: Sequence[Bar]) -> str:
    """A description for those who cannot see the picture."""
    return "; ".join(f"{bar.label}: {bar.text}" for bar in bars) + "."


def draw(bars: Sequence[Bar], *, title: str, unit: str) -> str:
    """An SVG of at least one bar, the first on top."""
    with canvas.figure(4.4, 0.75 + 0.27 * len(bars)) as figure:
        axes = figure.add_subplot()
        colours = [canvas.COLOURS["series-2" if bar.marked else "series-1"] for bar in bars]
        positions = range(len(bars))
        drawn = axes.barh(positions, [bar.value for bar in bars], color=colours, height=0.66)
        axes.bar_label(drawn, [canvas.plain(bar.text, 24) for bar in bars], padding=3, fontsize=8)
        axes.set_yticks(positions, [canvas.plain(bar.label, 30) for bar in bars])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.22)
        axes.set_xlim(left=0)
        axes.set_xlabel(unit)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return canvas.svg(figure, title, describe(bars))
