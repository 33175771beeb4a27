"""Records against records: those that were measured in turn, and old ones against new ones. Pure."""

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
    """How many times as fast ``candidate`` is as ``baseline``, with its 95 % interval, from rounds of A B A B."""

    group: str
    baseline: str
    candidate: str
    times_as_fast: Interval


def ratios(records: Sequence[Record]) -> tuple[Ratio, ...]:
    """Every record of a group against the first of it."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.group and record.samples_ns:
            groups.setdefault(record.group, []).append(record)
    return tuple(
        Ratio(
            name,
            first.subject.artifact,
            other.subject.artifact,
            ratio_of_pairs(baseline_ns=first.samples_ns, candidate_ns=other.samples_ns),
        )
        for name, (first, *others) in groups.items()
        for other in others
    )


Quantity = Literal["time", "instructions", "size", "layout ops", "parity"]
Verdict = Literal["faster", "slower", "can't tell", "fewer", "more", "same", "different"]


@dataclass(frozen=True)
class Limits:
    """How much of the old is allowed to the new; None is any."""

    slowdown: float = MAX_SLOWDOWN
    size_growth: float | None = None
    layout_ops: int | None = None


@dataclass(frozen=True)
class Change:
    """One quantity of one artifact. ``growth`` is new / old, with its interval; None where there is no such number.

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
    verdict: Verdict
    passed: bool
    note: str = ""


# Model, artifact, target, runtime, threads, labels, and which it is of those that are alike in all this.
_Key = tuple[str, str, str, str, int, tuple[tuple[str, str], ...], int]


@dataclass(frozen=True)
class Comparison:
    """All that both files have; ``only_old`` and ``only_new`` name what the other lacks."""

    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(change.passed for change in self.changes)


def compare(*, old: Sequence[Record], new: Sequence[Record], limits: Limits) -> Comparison:
    """Compare the records of the same model, artifact, target, runtime and number of threads.

    Raises:
        BadInputError: there are none.
    """
    before, after = _by_key(old), _by_key(new)
    common = [key for key in before if key in after]
    if not common:
        raise BadInputError("the two files have no record of the same artifact, target, runtime and threads")
    return Comparison(
        tuple(change for key in common for change in _changes(before[key], after[key], limits)),
        tuple(_told(record) for key, record in before.items() if key not in after),
        tuple(_told(record) for key, record in after.items() if key not in before),
    )


def _by_key(records: Sequence[Record]) -> dict[_Key, Record]:
    found: dict[_Key, Record] = {}
    for record in records:
        labels = tuple(sorted(record.labels.items()))
        what = record.model, record.subject.artifact, record.target, record.runtime, record.threads, labels
        found[*what, sum(key[:-1] == what for key in found)] = record
    return found


def _told(record: Record) -> str:
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
    verdict: Verdict,
    passed: bool = True,
    note: str = "",
) -> Change:
    about = new.subject.artifact, new.target, new.runtime, new.threads
    return Change(*about, quantity, old_value, new_value, growth, verdict, passed, note)


def _time(old: Record, new: Record, most: float) -> Change:
    a, b = float(np.median(old.samples_ns)), float(np.median(new.samples_ns))
    if not _same_device(old.device, new.device):
        note = f"measured on {old.device.name}, then on {new.device.name}: not the same device"
        return _change(new, "time", a, b, None, "can't tell", note=note)
    doubtful = [which for which, record in (("OLD", old), ("NEW", new)) if record.untrusted]
    if doubtful:
        growth = _range_of(old, new)
        note = f"{' and '.join(doubtful)} not to be trusted: judged by the middle 80 % of the samples"
    else:
        speed = ratio_of_runs(baseline_ns=old.samples_ns, candidate_ns=new.samples_ns)
        growth, note = Interval(1 / speed.value, 1 / speed.high, 1 / speed.low), ""
    verdict: Verdict = "slower" if growth.low > 1 else "faster" if growth.high < 1 else "can't tell"
    return _change(new, "time", a, b, growth, verdict, growth.low <= most, note)


def _same_device(old: Device, new: Device) -> bool:
    """The same name, or, as machines of a test service have a new one each time, the same kind of processor."""
    kinds = [(device.details.get("cpu"), device.details.get("cores")) for device in (old, new)]
    return old.name == new.name or (kinds[0] == kinds[1] and kinds[0][0] is not None)


def _range_of(old: Record, new: Record) -> Interval:
    """What can be said of samples that their own record does not trust: where the middle 80 % of them lie."""
    (a, b, c), (d, e, f) = (np.percentile(record.samples_ns, (10, 50, 90)).tolist() for record in (old, new))
    return Interval(_over(e, b), _over(d, c), _over(f, a))


def _over(new: float, old: float) -> float:
    return new / old if old else (inf if new else 1.0)


def _instructions(old: Record, new: Record, most: float) -> Change:
    a, b = (sorted(count.total for count in record.counts) for record in (old, new))
    medians = float(np.median(a)), float(np.median(b))
    if old.device.details.get("cpu") != new.device.details.get("cpu"):
        return _change(new, "instructions", *medians, None, "can't tell", note="counted on another core")
    growth = Interval(_over(medians[1], medians[0]), _over(b[0], a[-1]), _over(b[-1], a[0]))
    verdict: Verdict = "more" if growth.low > 1 else "fewer" if growth.high < 1 else "same"
    return _change(new, "instructions", *medians, growth, verdict, growth.low <= most)


def _size(old: Record, new: Record, most: float | None) -> Change:
    a, b = old.subject.size_bytes, new.subject.size_bytes
    growth = _over(b, a)
    return _change(new, "size", a, b, Interval(growth, growth, growth), _more(a, b), most is None or growth <= most)


def _layout_ops(old: Record, new: Record, most: int | None) -> Change:
    a, b = old.subject.layout_ops, new.subject.layout_ops
    if b is None:
        return _change(new, "layout ops", a, b, None, "can't tell", note="not counted in NEW")
    return _change(new, "layout ops", a, b, None, "can't tell" if a is None else _more(a, b), most is None or b <= most)


def _more(old: int, new: int) -> Verdict:
    return "same" if old == new else "more" if new > old else "fewer"
