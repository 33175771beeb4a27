"""Compares records: those of interleaved runs with one another, and old ones with new ones. Pure functions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np

from edgeattn.bundle.records import Device, Record
from edgeattn.errors import BadInputError
from edgeattn.profile.growth import STARTS, Statistic, growth, midmean, needed, p99, side
from edgeattn.profile.latency import Interval, has_ratio, ratio_of_pairs

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


Quantity = Literal["time", "p99", "instructions", "load", "memory", "size", "layout ops", "parity", "record"]
Outcome = Literal["faster", "slower", "can't tell", "fewer", "more", "same", "different", "missing"]


@dataclass(frozen=True)
class Limits:
    """The most that NEW may have, as a multiple of OLD or as a number; None is no limit.

    ``allow_missing``: what OLD has measured and NEW has not is no failure. ``strict``: what cannot be told is one.
    """

    slowdown: float = MAX_SLOWDOWN
    p99: float | None = None
    load: float | None = None
    memory: float | None = None
    size_growth: float | None = None
    layout_ops: int | None = None
    allow_missing: bool = False
    strict: bool = False


@dataclass(frozen=True)
class Change:
    """One quantity of one artifact. ``growth`` is new / old, with its interval, or None if there is no such number.

    ``passed`` is False for a regression that is certain, as the whole interval lies over the limit; for what NEW lacks;
    and, if :class:`Limits` say so, for what cannot be told.
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
    gone = [record for key, record in before.items() if key not in after]
    return Comparison(
        (
            *(change for key in common for change in _changes(before[key], after[key], limits)),
            *(_missing(record, "record", None, limits) for record in gone),
        ),
        tuple(map(_describe, gone)),
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
    if old.samples_ns:
        yield _time(old, new, "time", midmean, limits.slowdown, limits)
        if limits.p99 is not None:
            yield _time(old, new, "p99", p99, limits.p99, limits)
    if old.counts:
        yield _instructions(old, new, limits)
    if limits.load is not None:
        yield _single(old, new, "load", old.load_ns, new.load_ns, limits.load, limits)
    if limits.memory is not None:
        yield _single(old, new, "memory", old.peak_memory_bytes, new.peak_memory_bytes, limits.memory, limits)
    yield _size(old, new, limits.size_growth)
    yield _layout_ops(old, new, limits)
    if new.parity is not None and not new.parity.passed:
        note = f"the outputs are not the reference's: {new.parity.reason}"
        yield _change(new, "parity", None, None, None, "different", False, note)


def _missing(old: Record, quantity: Quantity, value: float | None, limits: Limits) -> Change:
    note = "measured in OLD, and not in NEW"
    return _change(old, quantity, value, None, None, "missing", limits.allow_missing, note)


def _untold(
    new: Record,
    quantity: Quantity,
    before: float | None,
    after: float | None,
    limits: Limits,
    note: str,
    *,
    elsewhere: bool = False,
) -> Change:
    """What has no growth. ``elsewhere``: NEW has it of another device, so that OLD's has not been measured again."""
    passed = not limits.strict and (limits.allow_missing or not elsewhere)
    return _change(new, quantity, before, after, None, "can't tell", passed, note)


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


def _time(old: Record, new: Record, quantity: Quantity, statistic: Statistic, limit: float, limits: Limits) -> Change:
    before, after = (side(record.samples_ns, record.starts, statistic) for record in (old, new))
    if not new.samples_ns:
        return _missing(old, quantity, before.value if before else 0, limits)
    values = before.value if before else 0, after.value if after else 0
    if note := _other_device(old, new):
        return _untold(new, quantity, *values, limits, note, elsewhere=True)
    if before is None or after is None:
        note = "some times are 0 ns, which have no ratio: the clock is too coarse for this artifact"
        return _untold(new, quantity, *values, limits, note)
    interval = growth(before, after)
    verdict: Outcome = "can't tell"
    if interval.low > 1:
        verdict = "slower"
    elif interval.high < 1:
        verdict = "faster"
    elif 1 / limit <= interval.low and interval.high <= limit:
        verdict = "same"
    notes = [f"{untrusted} not to be trusted"] if (untrusted := _untrusted(old, new)) else []
    is_open = interval.low <= limit < interval.high
    if is_open:
        starts = needed(before, after, limit) or STARTS
        notes.append(f"it may be over the limit or not: about {starts} starts of each would tell (profile --starts)")
    passed = interval.low <= limit
    if limits.strict and is_open:
        verdict, passed = "can't tell", False
    return _change(new, quantity, *values, interval, verdict, passed, "; ".join(notes))


def _single(
    old: Record,
    new: Record,
    quantity: Quantity,
    before: int | None,
    after: int | None,
    limit: float,
    limits: Limits,
) -> Change:
    """A number that a record has once, without an interval: the time to load, the peak of memory."""
    if before is None:
        note = "not measured in OLD" + (" and NEW" if after is None else "")
        return _untold(new, quantity, before, after, limits, note)
    if after is None:
        return _missing(old, quantity, before, limits)
    if note := _other_device(old, new):
        return _untold(new, quantity, before, after, limits, note, elsewhere=True)
    ratio = _over(after, before)
    return _change(new, quantity, before, after, Interval(ratio, ratio, ratio), _more(before, after), ratio <= limit)


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


def _over(new: float, old: float) -> float:
    return new / old if old else (inf if new else 1.0)


def _instructions(old: Record, new: Record, limits: Limits) -> Change:
    a, b = (sorted(count.total for count in record.counts) for record in (old, new))
    if not b:
        return _missing(old, "instructions", float(np.median(a)), limits)
    medians = float(np.median(a)), float(np.median(b))
    if old.device.details.get("cpu") != new.device.details.get("cpu"):
        return _untold(new, "instructions", *medians, limits, "counted on another core", elsewhere=True)
    ratio = Interval(_over(medians[1], medians[0]), _over(b[0], a[-1]), _over(b[-1], a[0]))
    verdict: Outcome = "more" if ratio.low > 1 else "fewer" if ratio.high < 1 else "same"
    return _change(new, "instructions", *medians, ratio, verdict, ratio.low <= limits.slowdown)


def _size(old: Record, new: Record, limit: float | None) -> Change:
    a, b = old.subject.size_bytes, new.subject.size_bytes
    ratio = _over(b, a)
    return _change(new, "size", a, b, Interval(ratio, ratio, ratio), _more(a, b), limit is None or ratio <= limit)


def _layout_ops(old: Record, new: Record, limits: Limits) -> Change:
    a, b, limit = old.subject.layout_ops, new.subject.layout_ops, limits.layout_ops
    if b is None and a is not None and limit is not None:
        return _missing(old, "layout ops", a, limits)
    if b is None:
        return _change(new, "layout ops", a, b, None, "can't tell", limit is None or not limits.strict, "not counted")
    return _change(
        new, "layout ops", a, b, None, "can't tell" if a is None else _more(a, b), limit is None or b <= limit
    )


def _more(old: int, new: int) -> Outcome:
    return "same" if old == new else "more" if new > old else "fewer"
