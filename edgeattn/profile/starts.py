"""Artifacts measured in several starts of a process: one after another, and then as one measurement."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median_low

from edgeattn.bundle.records import Likeness
from edgeattn.errors import EdgeAttnError
from edgeattn.targets import INTERRUPTED, Connection, Job, Measurement


def each_start(connection: Connection, jobs: Sequence[Job], number: int) -> list[Sequence[Measurement]]:
    """The measurements of the jobs, for each start. One that stops early is the last; what came before is kept.

    Raises:
        EdgeAttnError, KeyboardInterrupt: there is none before it.
    """
    found: list[Sequence[Measurement]] = []
    for start in range(number):
        # The time by operator does not differ between starts.
        these = jobs if not start else [replace(job, operators=False) for job in jobs]
        try:
            found.append(connection.run_interleaved(these) if len(these) > 1 else [connection.run(these[0])])
        except (EdgeAttnError, KeyboardInterrupt) as error:
            if not found:
                raise
            reason = INTERRUPTED if isinstance(error, KeyboardInterrupt) else str(error)
            stopped = f"{reason}, after {start} of {number} starts"
            found[-1] = [replace(measurement, stopped=stopped) for measurement in found[-1]]
        if any(measurement.stopped for measurement in found[-1]):
            break
    return found


def joined(starts: Sequence[Measurement]) -> Measurement:
    """All samples, in order; the medians of the times that each start has once, and the most memory."""
    first, *others = starts
    if not others:
        return first
    return replace(
        first,
        samples_ns=tuple(ns for each in starts for ns in each.samples_ns),
        starts=tuple(len(each.samples_ns) for each in starts),
        stretches=tuple(stretch for each in starts for stretch in each.stretches),
        load_ns=_median(each.load_ns for each in starts),
        first_run_ns=_median(each.first_run_ns for each in starts),
        peak_memory_bytes=max((each.peak_memory_bytes for each in starts if each.peak_memory_bytes), default=None),
        after=starts[-1].after,
        untrusted=tuple(dict.fromkeys(warning for each in starts for warning in each.untrusted)),
        stopped=starts[-1].stopped,
    )


def _median(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return median_low(known) if known else None


def worst(found: Sequence[Likeness]) -> Likeness | None:
    """The first that failed, or the one with the most noise; None if there is none."""
    return max(found, key=lambda each: (not each.passed, each.max_noise_units or 0), default=None)
