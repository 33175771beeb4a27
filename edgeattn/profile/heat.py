"""What sustained runs show: minute by minute, the first stretch against the last, and artifacts that change places as
the device gets warm. Pure functions of records."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.records import Record, Stretch
from edgeattn.profile import latency
from edgeattn.profile.latency import SEED, Interval, bounds, has_ratio, ratio_of_pairs, resampled
from edgeattn.system.duration import clock, words

# Artifacts change places only if in a stretch one is certainly faster, and by this share: else noise would now and then
# swap two that are alike.
APART = 0.02


@dataclass(frozen=True)
class Minute:
    """One stretch in figures; times in ns. ``end_s`` counts from the beginning of the run, ``runs`` are those timed."""

    end_s: float
    runs: int
    p50_ns: float
    p90_ns: float
    temperature_c: float | None
    frequency_mhz: int | None


@dataclass(frozen=True)
class Course:
    """A sustained record, minute by minute. ``last_to_first`` is the median of the last stretch as times that of the
    first, with its 95 % interval; None if there is one stretch, or its times are 0 ns."""

    artifact: str
    minutes: tuple[Minute, ...]
    last_to_first: Interval | None

    @property
    def is_steady(self) -> bool:
        """Whether the last stretch is about as fast as the first. Each is a start of a process, and starts differ by
        themselves: a small change is none."""
        ratio = self.last_to_first
        return ratio is None or ratio.low <= 1 <= ratio.high or abs(ratio.value - 1) < latency.MATTERS

    @property
    def sentence(self) -> str:
        """The first against the last stretch, in words."""
        first, last = self.minutes[0], self.minutes[-1]
        times = f"{first.p50_ns / 1e6:.3g} ms until {clock(first.end_s)}"
        if self.last_to_first is None:
            return f"{self.artifact}: {times}; there is no later stretch to compare it with."
        ratio = self.last_to_first
        if self.is_steady:
            change = "about as fast as at first"
        else:
            change = f"{abs(ratio.value - 1):.0%} {'slower' if ratio.value > 1 else 'faster'} than at first"
        known = [minute.temperature_c for minute in self.minutes if minute.temperature_c is not None]
        heat = f", from {known[0]:.0f} to {known[-1]:.0f} °C" if len(known) > 1 else ""
        return f"{self.artifact}: {times}, {last.p50_ns / 1e6:.3g} ms until {clock(last.end_s)}, {change}{heat}."


@dataclass(frozen=True)
class Places:
    """The artifacts of interleaved sustained runs, the fastest first, by stretch; ``ends_s`` are the ends of these."""

    group: str
    ends_s: tuple[float, ...]
    orders: tuple[tuple[str, ...], ...]

    @property
    def changed(self) -> bool:
        return len(set(self.orders)) > 1

    @property
    def sentence(self) -> str:
        """Which artifact is the fastest, and until when."""
        leaders = [(name, len(list(run))) for name, run in groupby(order[0] for order in self.orders)]
        (first, length), *later = leaders
        if not later:
            rest = "; the places behind it change" if self.changed else ""
            return f"{first} is the fastest from the first stretch to the last{rest}."
        text, at = f"{first} is the fastest for the first {words(self.ends_s[length - 1])}", length
        for name, length in later:
            at += length
            text += f", then {name}" + (f" until {clock(self.ends_s[at - 1])}" if at < len(self.orders) else "")
        return text + "."


def course(record: Record) -> Course | None:
    """The record minute by minute; None if its run was not sustained, or has no samples."""
    parts = [(stretch, part) for stretch, part in _parts(record) if part]
    if not parts:
        return None
    minutes = tuple(_minute(stretch, part) for stretch, part in parts)
    ratio = _ratio(parts[0][1], parts[-1][1]) if len(parts) > 1 else None
    return Course(record.subject.artifact, minutes, ratio)


def places(records: Sequence[Record]) -> tuple[Places, ...]:
    """The places of every group of interleaved sustained records."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.group and record.stretches and record.samples_ns:
            groups.setdefault(record.group, []).append(record)
    return tuple(_places(name, group) for name, group in groups.items() if len(group) > 1)


def _places(group: str, records: Sequence[Record]) -> Places:
    names = [record.subject.artifact for record in records]
    # What was cut off may lack the last stretch.
    stretches = list(zip(*([pair for pair in _parts(record) if pair[1]] for record in records), strict=False))
    order: list[int] = []
    orders = []
    for found in stretches:
        times = [part for _, part in found]
        by_median = sorted(range(len(names)), key=lambda i: float(np.median(times[i])))
        order = _reordered(order, times) if order else by_median
        orders.append(tuple(names[i] for i in order))
    return Places(group, tuple(found[0][0].end_s for found in stretches), tuple(orders))


def _reordered(order: Sequence[int], times: Sequence[Sequence[int]]) -> list[int]:
    """The order of the stretch before, with neighbours swapped as long as the later one is faster."""
    found = list(order)
    for _ in found:
        for i in range(len(found) - 1):
            if _is_faster(times[found[i + 1]], than=times[found[i]]):
                found[i], found[i + 1] = found[i + 1], found[i]
    return found


def _is_faster(times: Sequence[int], *, than: Sequence[int]) -> bool:
    if np.median(times) * (1 + APART) >= np.median(than) or not has_ratio(than, times):
        return False
    ratio = ratio_of_pairs(baseline_ns=than, candidate_ns=times)
    return ratio.low > 1 and ratio.value > 1 + APART


def _parts(record: Record) -> list[tuple[Stretch, tuple[int, ...]]]:
    """Each stretch with its samples."""
    ends = np.cumsum([0, *(stretch.samples for stretch in record.stretches)]).tolist()
    return [(stretch, record.samples_ns[ends[i] : ends[i + 1]]) for i, stretch in enumerate(record.stretches)]


def _minute(stretch: Stretch, samples_ns: Sequence[int]) -> Minute:
    p50, p90 = np.percentile(samples_ns, (50, 90)).tolist()
    return Minute(stretch.end_s, stretch.runs, p50, p90, stretch.temperature_c, stretch.frequency_mhz)


def _ratio(first_ns: Sequence[int], last_ns: Sequence[int]) -> Interval | None:
    """The median of the last samples as times that of the first, from both resampled."""
    first, last = (np.asarray(part, np.float64) for part in (first_ns, last_ns))
    below = resampled(first)
    if not below.min() > 0:
        return None
    # Both are drawn by the same numbers: in another order they are independent.
    above: npt.NDArray[np.float64] = np.random.default_rng(SEED).permutation(resampled(last))
    n = min(len(below), len(above))
    return Interval(float(np.median(last) / np.median(first)), *bounds(above[:n] / below[:n]))
