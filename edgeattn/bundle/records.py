"""The one schema of a measurement: what ran where, and the raw samples or counts. Statistics are derived elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeattn.errors import BadInputError
from edgeattn.system import files
from edgeattn.verdict import Verdict

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

# History: 1, the first. 2, time by operator, the state of the device before and after, parity of the measured runs, the
# warm-up's length, groups of interleaved records, what was not run; all of it may be missing. 3, the starts. 4, the
# stretches of a sustained run.
SCHEMA = 4

# The largest number of a record: no clock and no counter gives more, and statistics in floats take no larger ones.
_MOST = 2**63 - 1

# "browser" is a browser on a desktop or on an unknown device, never on a phone.
Origin = Literal["phone", "board", "emulated", "browser", "host"]


@dataclass(frozen=True)
class Counts:
    """Instructions that one run took: all, those of SIMD and floating point, and loads and stores of any kind."""

    total: int
    simd: int
    memory: int


def middle(counts: Sequence[Counts]) -> Counts:
    """The median run by instructions; its three numbers are of the same run."""
    return sorted(counts, key=lambda run: run.total)[len(counts) // 2]


@dataclass(frozen=True)
class Device:
    """What it ran on: a name for people, and details from the target (SoC, system, governor, temperature)."""

    name: str
    details: dict[str, str]


@dataclass(frozen=True)
class Operator:
    """Median time of one operator in one run: its name in the artifact, its kind there, and the model's layer that it
    comes from (a dotted module path; "" where that is not known). ``layout`` marks a layout op; ``unit`` is the compute
    unit that it is planned on, where a runtime has several."""

    name: str
    kind: str
    layer: str
    median_ns: int
    layout: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Likeness(Verdict):
    """Parity of the outputs of the measured runs themselves: the worst output of the first and of the last run."""

    max_noise_units: float | None
    rms_noise_units: float | None
    sqnr_db: float | None


@dataclass(frozen=True)
class Subject:
    """The file that was measured. ``precision`` is None for a file that is not of a bundle; ``layout_ops`` and the
    bytes that layout and copy ops move are None where they were not counted."""

    artifact: str
    sha256: str
    size_bytes: int
    format: str
    precision: str | None
    layout_ops: int | None = None
    layout_bytes: int | None = None
    copy_bytes: int | None = None


@dataclass(frozen=True)
class Stretch:
    """A minute of a sustained run, or a tenth of a short one: ``end_s`` is the time from the run's beginning to the end
    of the stretch, in seconds; ``runs`` are those that were timed in it, of which the record keeps ``samples``, spread
    evenly. ``temperature_c`` of the processor (or the hottest part that tells one) and ``frequency_mhz`` of its fastest
    cores were read at the end of the stretch; None where the device tells none."""

    end_s: float
    runs: int
    samples: int
    temperature_c: float | None = None
    frequency_mhz: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """The measured values of one artifact on one device. A target returns them with the outputs
    (``edgeattn.targets.Measurement``); a :class:`Record` adds what was measured, and documents the fields.
    """

    origin: Origin
    device: Device
    runtime: str
    runtime_version: str
    warmup: int
    samples_ns: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    calls_per_sample: int = 1
    clock_step_ns: int | None = None
    counts: tuple[Counts, ...] = ()
    load_ns: int | None = None
    first_run_ns: int | None = None
    peak_memory_bytes: int | None = None
    warmup_ns: int | None = None
    operators: tuple[Operator, ...] = ()
    operators_note: str = ""
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    untrusted: tuple[str, ...] = ()

    def as_fields(self) -> dict[str, Any]:
        """Its fields by name, without those that a subclass adds, to build a :class:`Record` from them."""
        return {f.name: getattr(self, f.name) for f in fields(Run)}


# The keys of a record in JSON, in this order, the subject first. A field that is missing here is an error.
_KEYS = (
    "model",
    "subject",
    "target",
    "origin",
    "device",
    "runtime",
    "runtime_version",
    "versions",
    "threads",
    "warmup",
    "samples_ns",
    "starts",
    "stretches",
    "calls_per_sample",
    "clock_step_ns",
    "counts",
    "load_ns",
    "first_run_ns",
    "peak_memory_bytes",
    "warmup_ns",
    "started_at",
    "group",
    "operators",
    "operators_note",
    "before",
    "after",
    "parity",
    "command",
    "labels",
    "partial",
    "untrusted",
)


@dataclass(frozen=True, kw_only=True)
class Record(Run):
    """One artifact, measured once on one device.

    Attributes:
        model: the name that the bundle gives it.
        target: as the user gave it, for instance ``android:SERIAL``.
        versions: of the tools that made the artifact, and of what measured it.
        warmup: runs before the first sample, in ``warmup_ns``.
        samples_ns: a number for each timed run, in the order in which they ran; empty where time means nothing.
        starts: the numbers of the samples of each start of the process, in order; empty for a single start.
        stretches: the parts of a sustained run, in order: the first one's samples come first; empty for any other run.
        calls_per_sample: a sample is the mean of so many calls, where one is too short for the clock.
        clock_step_ns: the smallest observed step of the clock.
        counts: a count for each counted run; empty where nothing was counted.
        load_ns: from the file to a session that can run.
        first_run_ns: the first run.
        peak_memory_bytes: the most that the process held, its own interpreter included.
        started_at: UTC, ISO 8601.
        group: records with the same group were interleaved, A B A B: sample i of one belongs to sample i of the
            others. "" is a record of its own.
        operators: time by operator, from runs of their own; ``operators_note`` says how far to trust them, or why
            there are none.
        before, after: the state of the device (temperatures, frequencies, battery), in words with units.
        parity: of the outputs of these runs; None where there was nothing to judge them by.
        command: the command line.
        labels: what a study varies, and its name as "study"; empty for a profile.
        partial: it stopped before all runs were done.
        untrusted: quality warnings, a sentence each: why the figures should not be relied on.

    Raises:
        BadInputError: it holds a time from emulation, a number that cannot be, or no runs at all.
    """

    model: str
    subject: Subject
    target: str
    versions: dict[str, str]
    threads: int
    started_at: str = ""
    group: str = ""
    parity: Likeness | None = None
    command: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    partial: bool = False

    def __post_init__(self) -> None:
        times = (self.load_ns, self.first_run_ns, self.warmup_ns)
        if self.origin == "emulated" and (self.samples_ns or self.operators or any(t is not None for t in times)):
            raise BadInputError("a record from emulation must hold no times: they say nothing of the device")
        if not self.samples_ns and not self.counts and not self.partial:
            raise BadInputError("a record must hold a run: it has neither samples nor counts")
        counted = (n for c in self.counts for n in (c.total, c.simd, c.memory))
        subject = self.subject.size_bytes, self.subject.layout_ops, self.subject.layout_bytes, self.subject.copy_bytes
        others = (*times, *subject, self.peak_memory_bytes, self.clock_step_ns)
        numbers = (*self.samples_ns, *counted, *(op.median_ns for op in self.operators), self.warmup)
        numbers += (self.threads, self.calls_per_sample, *(n for n in others if n is not None))
        if min(numbers) < 0:
            raise BadInputError("a record must hold no negative time, count, size or number of runs")
        if max(numbers) > _MOST:
            raise BadInputError("a record must hold no number beyond 2^63, which no clock and no counter gives")
        if self.starts and (min(self.starts) < 0 or sum(self.starts) != len(self.samples_ns)):
            raise BadInputError("the samples of a record's starts must be all of its samples")
        self._check_stretches()
        if self.threads < 1 or self.calls_per_sample < 1:
            raise BadInputError("a record must have at least one thread, and one call in a sample")

    def _check_stretches(self) -> None:
        if not self.stretches:
            return
        ends = [stretch.end_s for stretch in self.stretches]
        rising = all(a < b for a, b in pairwise((0.0, *ends))) and isfinite(ends[-1])
        counted = all(0 <= stretch.samples <= stretch.runs <= _MOST for stretch in self.stretches)
        measured = [stretch.temperature_c for stretch in self.stretches if stretch.temperature_c is not None]
        if not rising or not counted or not all(map(isfinite, measured)):
            raise BadInputError(
                "the stretches of a record must follow one another, and keep no more runs than they had"
            )
        if sum(stretch.samples for stretch in self.stretches) != len(self.samples_ns):
            raise BadInputError("the samples of a record's stretches must be all of its samples")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Changes only the order: inherited fields would come before the record's own."""
        schema = handler.resolve_ref_schema(handler(source))
        schema["fields"].sort(key=_KEYS.index)
        schema["schema"]["fields"].sort(key=lambda entry: _KEYS.index(entry["name"]))
        return schema


@dataclass(frozen=True)
class NotRun:
    """What was not measured (an artifact, or a runtime on a target), where, and why."""

    subject: str
    target: str
    reason: str


@dataclass(frozen=True)
class Records:
    """A file of records."""

    schema_version: int
    records: tuple[Record, ...]
    not_run: tuple[NotRun, ...] = ()


def documents(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Records as they stand in a file, with their keys in its order."""
    from pydantic import TypeAdapter

    rows: list[dict[str, Any]] = TypeAdapter(list[Record]).dump_python(list(records))
    return rows


def dump(records: tuple[Record, ...], not_run: tuple[NotRun, ...] = ()) -> bytes:
    from pydantic import TypeAdapter

    return TypeAdapter(Records).dump_json(Records(SCHEMA, records, not_run), indent=2) + b"\n"


def save(path: Path, records: tuple[Record, ...], not_run: tuple[NotRun, ...] = ()) -> None:
    """Write ``path``, whole or not at all; an existing file is replaced.

    Raises:
        BadInputError: it cannot be written.
    """
    files.write(path, dump(records, not_run))


def load(path: Path) -> Records:
    """Read a file of records, of this schema version or an older one.

    Raises:
        ArtifactError: in one sentence, what is wrong with it.
    """
    otherwise = "no file of records; make one with `edgeattn profile --out`"
    return files.parse(files.read(path), Records, path, newest=SCHEMA, otherwise=otherwise)
