"""The samples of one record: in order of measurement, which shows throttling, and their distribution."""

from collections.abc import Sequence

import numpy as np

from edgeattn.profile.latency import Summary
from edgeattn.report.pictures import canvas

# A longer run is drawn as the smallest and the largest sample of each of this many stretches.
_STRETCHES = 400
_DOTS = 120
_FAR = 3


def describe(samples_ms: Sequence[float], p50_ms: float, p99_ms: float) -> str:
    """A description for those who cannot see the picture."""
    tenth = max(len(samples_ms) // 10, 1)
    first, last = float(np.median(samples_ms[:tenth])), float(np.median(samples_ms[-tenth:]))
    change = last / first - 1 if first else 0.0
    trend = "as fast at the end as at the start" if abs(change) < 0.02 else (
        f"{100 * abs(change):.0f} % {'slower' if change > 0 else 'faster'} at the end than at the start"
    )  # fmt: skip
    return (
        f"{len(samples_ms)} samples from {min(samples_ms):.4g} to {max(samples_ms):.4g} ms, p50 {p50_ms:.4g} ms, "
        f"p99 {p99_ms:.4g} ms; {trend}."
    )


def draw(samples_ns: Sequence[int], summary: Summary, *, title: str) -> tuple[str, str]:
    """An SVG of at least one sample, and its description."""
    samples = np.asarray(samples_ns, np.float64) / 1e6
    p50, p99 = summary.p50_ns / 1e6, summary.p99_ns / 1e6
    text = describe(samples.tolist(), p50, p99)
    with canvas.figure(4.4, 2.3) as figure:
        series, histogram = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        positions, values = _thinned(samples)
        # A dot for each sample, if they are few enough to see; a dot takes a hundred bytes.
        dots = {"marker": ".", "ms": 2.5} if len(positions) <= _DOTS else {}
        series.plot(positions, values, lw=0.7, color=canvas.COLOURS["series-1"], **dots)
        series.axhline(p50, lw=0.9, color=canvas.COLOURS["ink"])
        series.axhline(p99, lw=0.9, ls="--", color=canvas.COLOURS["series-2"])
        series.set(xlabel="run", ylabel="ms")
        if samples.min() > 0 and samples.max() > _FAR * p50:
            # A far outlier would compress all other samples into a line.
            series.set(yscale="log", ylabel="ms, logarithmic")
            canvas.logarithmic(series.yaxis, samples.min(), samples.max())
        series.grid(axis="y")
        count, log = min(40, max(8, len(samples) // 4)), series.get_yscale() == "log"
        edges = np.geomspace(samples.min(), samples.max(), count) if log else count
        histogram.hist(samples, bins=edges, orientation="horizontal", color=canvas.COLOURS["series-1"], alpha=0.75)
        histogram.axhline(p50, lw=0.9, color=canvas.COLOURS["ink"])
        histogram.axhline(p99, lw=0.9, ls="--", color=canvas.COLOURS["series-2"])
        histogram.set(xlabel="runs")
        # The labels of the lines are outside, at the right edge.
        labels = [(p50, "p50", canvas.COLOURS["ink"])]
        heights = series.transData.transform([(0, p50), (0, p99)])[:, 1] / series.bbox.height
        if heights[1] - heights[0] > 0.08:
            labels.append((p99, "p99", canvas.COLOURS["series-2"]))
        for height, name, colour in labels:
            histogram.annotate(
                name, (1.02, height), xycoords=("axes fraction", "data"), va="center", size=8, color=colour
            )
        return canvas.svg(figure, title, text), text


def _thinned(samples: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> tuple[list[int], list[float]]:
    if len(samples) <= 2 * _STRETCHES:
        return list(range(1, len(samples) + 1)), samples.tolist()
    positions: list[int] = []
    for stretch in np.array_split(np.arange(len(samples)), _STRETCHES):
        values = samples[stretch]
        positions += sorted({int(stretch[values.argmin()]), int(stretch[values.argmax()])})
    return [position + 1 for position in positions], samples[positions].tolist()
