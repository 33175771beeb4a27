"""The samples of one record: their course over the run, where throttling is seen, and how they are distributed."""

from collections.abc import Sequence

import numpy as np

from edgeattn.profile.latency import Summary
from edgeattn.report.pictures import canvas

# Longer courses are drawn by the least and the largest sample of each of so many stretches.
_STRETCHES = 400
_DOTS = 120
_FAR = 3


def describe(samples_ms: Sequence[float], p50_ms: float, p99_ms: float) -> str:
    """What the picture shows, for those who cannot see it."""
    tenth = max(len(samples_ms) // 10, 1)
    first, last = float(np.median(samples_ms[:tenth])), float(np.median(samples_ms[-tenth:]))
    change = last / first - 1 if first else 0.0
    moved = "as fast at the end as at the start" if abs(change) < 0.02 else (
        f"{100 * abs(change):.0f} % {'slower' if change > 0 else 'faster'} at the end than at the start"
    )  # fmt: skip
    return (
        f"{len(samples_ms)} samples from {min(samples_ms):.4g} to {max(samples_ms):.4g} ms, p50 {p50_ms:.4g} ms, "
        f"p99 {p99_ms:.4g} ms; {moved}."
    )


def draw(samples_ns: Sequence[int], summary: Summary, *, title: str) -> tuple[str, str]:
    """An SVG of at least one sample, and its description."""
    samples = np.asarray(samples_ns, np.float64) / 1e6
    p50, p99 = summary.p50_ns / 1e6, summary.p99_ns / 1e6
    text = describe(samples.tolist(), p50, p99)
    with canvas.figure(4.4, 2.3) as figure:
        course, shape = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        places, values = _thinned(samples)
        # A dot for each sample, while there are so few that each is seen; a dot takes a hundred bytes.
        dots = {"marker": ".", "ms": 2.5} if len(places) <= _DOTS else {}
        course.plot(places, values, lw=0.7, color=canvas.COLOURS["series-1"], **dots)
        course.axhline(p50, lw=0.9, color=canvas.COLOURS["ink"])
        course.axhline(p99, lw=0.9, ls="--", color=canvas.COLOURS["series-2"])
        course.set(xlabel="run", ylabel="ms")
        if samples.min() > 0 and samples.max() > _FAR * p50:
            # A far outlier would press all others into a line.
            course.set(yscale="log", ylabel="ms, logarithmic")
            canvas.logarithmic(course.yaxis, samples.min(), samples.max())
        course.grid(axis="y")
        count, log = min(40, max(8, len(samples) // 4)), course.get_yscale() == "log"
        edges = np.geomspace(samples.min(), samples.max(), count) if log else count
        shape.hist(samples, bins=edges, orientation="horizontal", color=canvas.COLOURS["series-1"], alpha=0.75)
        shape.axhline(p50, lw=0.9, color=canvas.COLOURS["ink"])
        shape.axhline(p99, lw=0.9, ls="--", color=canvas.COLOURS["series-2"])
        shape.set(xlabel="runs")
        # The lines are named where nothing is drawn: at the right edge, outside.
        named = [(p50, "p50", canvas.COLOURS["ink"])]
        heights = course.transData.transform([(0, p50), (0, p99)])[:, 1] / course.bbox.height
        if heights[1] - heights[0] > 0.08:
            named.append((p99, "p99", canvas.COLOURS["series-2"]))
        for height, name, colour in named:
            shape.annotate(name, (1.02, height), xycoords=("axes fraction", "data"), va="center", size=8, color=colour)
        return canvas.svg(figure, title, text), text


def _thinned(samples: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> tuple[list[int], list[float]]:
    if len(samples) <= 2 * _STRETCHES:
        return list(range(1, len(samples) + 1)), samples.tolist()
    places: list[int] = []
    for stretch in np.array_split(np.arange(len(samples)), _STRETCHES):
        values = samples[stretch]
        places += sorted({int(stretch[values.argmin()]), int(stretch[values.argmax()])})
    return [place + 1 for place in places], samples[places].tolist()
