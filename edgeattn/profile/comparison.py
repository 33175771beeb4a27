"""Compares records: those of interleaved runs with one another, and old ones with new ones. Pure functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np

from edgeattn.bundle.records import Device, Record
from edgeattn.errors import BadInputError
from edgeattn.profile.latency import Interval, ratio_of_pairs, ratio_of_runs

MAX_SLOWDOWN = 1.10


@dataclass(frozen=True)
class Ratio:
    """How many times as fast ``candidate`` is as ``baseline``, with its 95 % interval, from interleaved runs."""

    group: str
    baseline: str
    candidate: str
    times_as_fast: Interval


def ratios(records: Sequence[Record]) -> tuple[Ratio, ...]:
    """The ratio of every record of a group to the group's first."""
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
    )


Quantity = Literal["time", "instructions", "size", "layout ops", "parity"]
Outcome = Literal["faster", "slower", "can't tell", "fewer", "more", "same", "different"]


@dataclass(frozen=True)
class Limits:
    """The most that NEW may have, as a multiple of OLD or as a number; None is no limit."""

    slowdown: float = MAX_SLOWDOWN
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
    for record in records:
        labels = tuple(sorted(record.labels.items()))
        subject = record.model, record.subject.artifact, record.target, record.runtime, record.threads, labels
        by_key[*subject, sum(key[:-1] == subject for key in by_key)] = record
    return by_key


def _describe(record: Record) -> str:
    return f"{record.subject.artifact} in {record.runtime} on {record.target}, threads {record.threads}"


def _changes(old: Record, new: Record, limits: Limits) -> Iterator[Change]:
    if old.samples_ns and new.samples_ns:
        yield _time(old, new, limits.slowdown)
    if old.counts and new.counts:
        yield _instructions(old, new, limits.slowdown)
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
    old_p50, new_p50 = float(np.median(old.samples_ns)), float(np.median(new.samples_ns))
    if not _same_device(old.device, new.device):
        note = f"measured on {old.device.name}, then on {new.device.name}: not the same device"
        return _change(new, "time", old_p50, new_p50, None, "can't tell", note=note)
    untrusted = [which for which, record in (("OLD", old), ("NEW", new)) if record.untrusted]
    if untrusted:
        growth = _range_of(old, new)
        note = f"{' and '.join(untrusted)} not to be trusted: judged by the middle 80 % of the samples"
    else:
        speed = ratio_of_runs(baseline_ns=old.samples_ns, candidate_ns=new.samples_ns)
        growth, note = Interval(1 / speed.value, 1 / speed.high, 1 / speed.low), ""
    verdict: Outcome = "slower" if growth.low > 1 else "faster" if growth.high < 1 else "can't tell"
    return _change(new, "time", old_p50, new_p50, growth, verdict, growth.low <= limit, note)


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
