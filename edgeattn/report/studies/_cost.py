"""What a record cost: a time, or counted instructions. The two never stand in one table."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from edgeattn.latency import ratio_of_pairs
from edgeattn.records import Record
from edgeattn.report.document import Cell
from edgeattn.report.results import origin_name


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


def times_cheaper(baseline: Record, candidate: Record) -> Cell:
    """How many times cheaper the candidate is; with its interval where both were timed in turn."""
    if baseline.samples_ns and candidate.samples_ns and baseline.group == candidate.group:
        r = ratio_of_pairs(baseline_ns=baseline.samples_ns, candidate_ns=candidate.samples_ns)
        tone = "good" if r.low > 1 else "bad" if r.high < 1 else ""
        return Cell(f"{r.value:.2f}", f"{r.low:.2f} to {r.high:.2f}", tone)  # type: ignore[arg-type]  # a Tone
    return Cell(f"{of(baseline).value / of(candidate).value:.2f}")


def place(record: Record) -> str:
    """Where and in what it was measured, as the title of a table."""
    threads = "" if record.threads == 1 else f", {record.threads} threads"
    where = f"{record.runtime} {record.runtime_version} on {record.device.name}{threads}"
    return f"{origin_name(record.origin)}: {record.labels.get('runtime', record.runtime)}, {record.target} ({where})"


def by_place(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records that may be compared with one another."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.samples_ns or record.counts:
            groups.setdefault(place(record), []).append(record)
    return groups
