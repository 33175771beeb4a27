"""The cost of a run: a time, or counted instructions. No table mixes the two."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

from edgeattn.bundle.records import Record
from edgeattn.profile.latency import Interval, has_ratio, ratio_of_pairs
from edgeattn.report.document import Cell, Tone
from edgeattn.report.result import origin_name


@dataclass(frozen=True)
class Cost:
    """``value`` in ``unit``."""

    value: float
    unit: str

    @property
    def text(self) -> str:
        return f"{self.value:.3g}" if self.value < 100 else f"{self.value:,.0f}"


def of(record: Record) -> Cost:
    """The median time in ms, or the median count in millions of instructions."""
    if record.counts:
        return Cost(median(c.total for c in record.counts) / 1e6, "M instructions")
    return Cost(median(record.samples_ns) / 1e6, "ms")


def ratio(baseline: Record, candidate: Record) -> Interval:
    """How many times cheaper the candidate is; with a bootstrap interval if their runs were interleaved, else none."""
    if baseline.group == candidate.group and has_ratio(baseline.samples_ns, candidate.samples_ns):
        return ratio_of_pairs(baseline_ns=baseline.samples_ns, candidate_ns=candidate.samples_ns)
    value, other = of(baseline).value, of(candidate).value
    value = value / other if other else (inf if value else 1.0)  # a clock may be too coarse to measure it
    return Interval(value, value, value)


def times_cheaper(baseline: Record, candidate: Record) -> Cell:
    """The ratio as a table cell."""
    r = ratio(baseline, candidate)
    tone: Tone = "good" if r.low > 1 else "bad" if r.high < 1 else ""
    return Cell(f"{r.value:.2f}", f"{r.low:.2f} to {r.high:.2f}" if r.low < r.high else "", tone)


def span(values: Sequence[float]) -> str:
    """The range of values as text."""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def environment(record: Record) -> str:
    """Runtime, target, device and threads of a record, as the title of a table."""
    threads = "" if record.threads == 1 else f", {record.threads} threads"
    device = "" if record.device.name == record.target else f", {record.device.name}"
    runtime = f"{record.runtime} {record.runtime_version}".strip()
    return f"{runtime} on {record.target}{device}{threads} ({origin_name(record.origin).lower()})"


def by_environment(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by environment: only those of one environment are comparable."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.samples_ns or record.counts:
            groups.setdefault(environment(record), []).append(record)
    return groups
