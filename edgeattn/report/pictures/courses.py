"""Sustained runs: the median of each stretch against time, a line for each artifact, and the temperature."""

from collections.abc import Sequence

from edgeattn.profile.heat import Course
from edgeattn.report.pictures import canvas


def describe(courses: Sequence[Course]) -> str:
    """A description for those who cannot see the picture."""
    return f"A line for each artifact over {len(courses[0].minutes)} stretches. " + " ".join(
        c.sentence for c in courses
    )


def draw(courses: Sequence[Course], *, title: str) -> str:
    """An SVG; ``courses`` are of one device at one time, so that the temperature of the first is that of all."""
    with canvas.figure(5.6, 3.4) as figure:
        axes = figure.add_subplot()
        for i, course in enumerate(courses):
            minutes = [minute.end_s / 60 for minute in course.minutes]
            style = canvas.STYLES[i % len(canvas.STYLES)]
            heights = [minute.p50_ns / 1e6 for minute in course.minutes]
            axes.plot(minutes, heights, style, marker="o", ms=2.5, lw=1.3, label=canvas.plain(course.artifact))
        axes.set(xlabel="minutes from the beginning", ylabel="p50 of the stretch, ms")
        # From zero: a change of a per cent must not look like a cliff.
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.grid(axis="y")
        known = [(m.end_s / 60, m.temperature_c) for m in courses[0].minutes if m.temperature_c is not None]
        if known:
            heat = axes.twinx()
            heat.plot(*zip(*known, strict=True), ":", lw=1.0, color=canvas.COLOURS["muted"], label="temperature")
            heat.set_ylabel("°C")
            heat.spines["right"].set_visible(True)
        figure.legend(loc="outside lower left", ncols=1)
        return canvas.svg(figure, title, describe(courses))
