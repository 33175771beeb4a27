"""Compares records: those of interleaved runs with one another, and old ones with new ones. Pure functions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np

from edgeattn.bundle.records import Device, Record
from edgeattn.errors import BadInputError
from edgeattn.profile.latency import Interval, growth_of_runs, has_ratio, ratio_of_pairs

MAX_SLOWDOWN = 1.10


@dataclass(frozen=True)
class Ratio:
    """How many times as fast ``candidate`` is as ``baseline``, with its 95 % interval, from interleaved runs."""

    group: str
    baseline: str
    candidate: str
    times_as_fast: Interval


def ratios(records: Sequence[Record]) -> tuple[Ratio, ...]:
    """The ratio of every record of a group to the group's first; none where the times are 0 ns, and have no ratio."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.group and record.samples_ns:
            groups.setdefault(record.group, []).append(record)
    return tuple(
        Ratio(
            group,
            baseline.subject.artifact,
            candidate.subject.artifact,
            ratio_of_pairs(baseline_ns=baseline.samples_ns, candidate_ns=candidate.samples_ns),
        )
        for group, (baseline, *candidates) in groups.items()
        for candidate in candidates
        if has_ratio(baseline.samples_ns, candidate.samples_ns)
    )


Quantity = Literal["time", "p99", "instructions", "load", "memory", "size", "layout ops", "parity"]
Outcome = Literal["faster", "slower", "can't tell", "fewer", "more", "same", "different"]


@dataclass(frozen=True)
class Limits:
    """The most that NEW may have, as a multiple of OLD or as a number; None is no limit."""

    slowdown: float = MAX_SLOWDOWN
    p99: float | None = None
    load: float | None = None
    memory: float | None = None
    size_growth: float | None = None
    layout_ops: int | None = None


@dataclass(frozen=True)
class Change:
    """One quantity of one artifact. ``growth`` is new / old, with its interval, or None if there is no such number.

    ``passed`` is False for a regression that is certain: the whole interval lies over the limit.
    """

    artifact: str
    target: str
    runtime: str
    threads: int
    quantity: Quantity
    old: float | None
    new: float | None
    growth: Interval | None
    verdict: Outcome
    passed: bool
    note: str = ""


# Model, artifact, target, runtime, threads, labels, and a number among records that are alike in all of these.
_Key = tuple[str, str, str, str, int, tuple[tuple[str, str], ...], int]


@dataclass(frozen=True)
class Comparison:
    """The changes in records that both files have; ``only_old`` and ``only_new`` name the records of one file."""

    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(change.passed for change in self.changes)


def compare(*, old: Sequence[Record], new: Sequence[Record], limits: Limits) -> Comparison:
    """Compare the records of the same model, artifact, target, runtime and number of threads.

    Raises:
        BadInputError: the two have no such record in common.
    """
    before, after = _by_key(old), _by_key(new)
    common = [key for key in before if key in after]
    if not common:
        raise BadInputError("the two files have no record of the same artifact, target, runtime and threads")
    return Comparison(
        tuple(change for key in common for change in _changes(before[key], after[key], limits)),
        tuple(_describe(record) for key, record in before.items() if key not in after),
        tuple(_describe(record) for key, record in after.items() if key not in before),
    )


def _by_key(records: Sequence[Record]) -> dict[_Key, Record]:
    by_key: dict[_Key, Record] = {}
    seen: Counter[tuple[Any, ...]] = Counter()
    for record in records:
        labels = tuple(sorted(record.labels.items()))
        subject = record.model, record.subject.artifact, record.target, record.runtime, record.threads, labels
        by_key[*subject, seen[subject]] = record
        seen[subject] += 1
    return by_key


def _describe(record: Record) -> str:
    return f"{record.subject.artifact} in {record.runtime} on {record.target}, threads {record.threads}"


def _changes(old: Record, new: Record, limits: Limits) -> Iterator[Change]:
    if old.samples_ns and new.samples_ns:
        yield _time(old, new, limits.slowdown)
        if limits.p99 is not None:
            yield _tail(old, new, limits.p99)
    if old.counts and new.counts:
        yield _instructions(old, new, limits.slowdown)
    if limits.load is not None:
        yield _single(old, new, "load", old.load_ns, new.load_ns, limits.load)
    if limits.memory is not None:
        yield _single(old, new, "memory", old.peak_memory_bytes, new.peak_memory_bytes, limits.memory)
    yield _size(old, new, limits.size_growth)
    yield _layout_ops(old, new, limits.layout_ops)
    if new.parity is not None and not new.parity.passed:
        note = f"the outputs are not the reference's: {new.parity.reason}"
        yield _change(new, "parity", None, None, None, "different", False, note)


def _change(
    new: Record,
    quantity: Quantity,
    old_value: float | None,
    new_value: float | None,
    growth: Interval | None,
    verdict: Outcome,
    passed: bool = True,
    note: str = "",
) -> Change:
    about = new.subject.artifact, new.target, new.runtime, new.threads
    return Change(*about, quantity, old_value, new_value, growth, verdict, passed, note)


def _time(old: Record, new: Record, limit: float) -> Change:
    medians = float(np.median(old.samples_ns)), float(np.median(new.samples_ns))
    if note := _other_device(old, new):
        return _change(new, "time", *medians, None, "can't tell", note=note)
    if untrusted := _untrusted(old, new):
        growth: Interval | None = _range_of(old, new)
        note = f"{untrusted} not to be trusted: judged by the middle 80 % of the samples"
    else:
        growth = growth_of_runs(old_ns=old.samples_ns, new_ns=new.samples_ns)
    return _grown(new, "time", *medians, growth, limit, note)


def _tail(old: Record, new: Record, limit: float) -> Change:
    """p99; records with warnings too, as what disturbs a median is what a tail consists of."""
    values = float(np.percentile(old.samples_ns, 99)), float(np.percentile(new.samples_ns, 99))
    if note := _other_device(old, new):
        return _change(new, "p99", *values, None, "can't tell", note=note)
    untrusted = _untrusted(old, new)
    note = f"{untrusted} not to be trusted: a tail may be a disturbance" if untrusted else ""
    growth = growth_of_runs(old_ns=old.samples_ns, new_ns=new.samples_ns, percentile=99)
    return _grown(new, "p99", *values, growth, limit, note)


def _grown(
    new: Record, quantity: Quantity, old_ns: float, new_ns: float, growth: Interval | None, limit: float, note: str
) -> Change:
    if growth is None or not growth.high < inf:
        note = "some times are 0 ns, which have no ratio: the clock is too coarse for this artifact"
        return _change(new, quantity, old_ns, new_ns, None, "can't tell", note=note)
    verdict: Outcome = "slower" if growth.low > 1 else "faster" if growth.high < 1 else "can't tell"
    return _change(new, quantity, old_ns, new_ns, growth, verdict, growth.low <= limit, note)


def _single(
    old: Record, new: Record, quantity: Quantity, before: int | None, after: int | None, limit: float
) -> Change:
    """A number that a record has once, without an interval: the time to load, the peak of memory."""
    note = _other_device(old, new)
    if before is None or after is None:
        note = f"not measured in {' and '.join(which for which, n in (('OLD', before), ('NEW', after)) if n is None)}"
    if note or before is None or after is None:
        return _change(new, quantity, before, after, None, "can't tell", note=note)
    growth = _over(after, before)
    passed = growth <= limit
    return _change(new, quantity, before, after, Interval(growth, growth, growth), _more(before, after), passed)


def _other_device(old: Record, new: Record) -> str:
    if _same_device(old.device, new.device):
        return ""
    return f"measured on {old.device.name}, then on {new.device.name}: not the same device"


def _untrusted(old: Record, new: Record) -> str:
    return " and ".join(which for which, record in (("OLD", old), ("NEW", new)) if record.untrusted)


def _same_device(old: Device, new: Device) -> bool:
    """The same name, or, as machines of a test service have a new one each time, the same kind of processor."""
    kinds = [(device.details.get("cpu"), device.details.get("cores")) for device in (old, new)]
    return old.name == new.name or (kinds[0] == kinds[1] and kinds[0][0] is not None)


def _range_of(old: Record, new: Record) -> Interval:
    """The growth of the median, with an interval from the middle 80 % of the samples, for records with warnings."""
    (a, b, c), (d, e, f) = (np.percentile(record.samples_ns, (10, 50, 90)).tolist() for record in (old, new))
    return Interval(_over(e, b), _over(d, c), _over(f, a))


def _over(new: float, old: float) -> float:
    return new / old if old else (inf if new else 1.0)


def _instructions(old: Record, new: Record, limit: float) -> Change:
    a, b = (sorted(count.total for count in record.counts) for record in (old, new))
    medians = float(np.median(a)), float(np.median(b))
    if old.device.details.get("cpu") != new.device.details.get("cpu"):
        return _change(new, "instructions", *medians, None, "can't tell", note="counted on another core")
    growth = Interval(_over(medians[1], medians[0]), _over(b[0], a[-1]), _over(b[-1], a[0]))
    verdict: Outcome = "more" if growth.low > 1 else "fewer" if growth.high < 1 else "same"
    return _change(new, "instructions", *medians, growth, verdict, growth.low <= limit)


def _size(old: Record, new: Record, limit: float | None) -> Change:
    a, b = old.subject.size_bytes, new.subject.size_bytes
    growth = _over(b, a)
    return _change(new, "size", a, b, Interval(growth, growth, growth), _more(a, b), limit is None or growth <= limit)


def _layout_ops(old: Record, new: Record, limit: int | None) -> Change:
    a, b = old.subject.layout_ops, new.subject.layout_ops
    if b is None:
        return _change(new, "layout ops", a, b, None, "can't tell", note="not counted in NEW")
    return _change(
        new, "layout ops", a, b, None, "can't tell" if a is None else _more(a, b), limit is None or b <= limit
    )


def _more(old: int, new: int) -> Outcome:
    return "same" if old == new else "more" if new > old else "fewer"
