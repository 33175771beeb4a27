"""The one schema of a measurement: what ran where, and the raw samples or counts. Statistics are derived elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeattn import files
from edgeattn.errors import ArtifactError, BadInputError

# History: 1, the first.
SCHEMA = 1

Origin = Literal["phone", "board", "emulated", "host"]


@dataclass(frozen=True)
class Counts:
    """Instructions that one run took: all, those of SIMD and floating point, and loads and stores of any kind."""

    total: int
    simd: int
    memory: int


@dataclass(frozen=True)
class Device:
    """What it ran on: a name for people, and what else the target could tell (SoC, system, governor, temperature)."""

    name: str
    details: dict[str, str]


@dataclass(frozen=True)
class Subject:
    """The file that was measured. ``precision`` is None for a file that is not of a bundle."""

    artifact: str
    sha256: str
    size_bytes: int
    format: str
    precision: str | None


@dataclass(frozen=True)
class Record:
    """One artifact, measured once on one device.

    Attributes:
        model: the name that the bundle gives it.
        target: as it was asked for, for instance ``android:SERIAL``.
        versions: of the tools that made the artifact, and of what measured it.
        warmup: runs before the first sample.
        samples_ns: a number for each timed run, in the order in which they ran; empty where time means nothing.
        calls_per_sample: a sample is the mean of so many calls, where one is too short for the clock.
        clock_step_ns: the smallest step of the clock that was seen.
        counts: a count for each counted run; empty where nothing was counted.
        load_ns: from the file to a session that can run.
        first_run_ns: the very first run.
        peak_memory_bytes: the most that the process held, its own interpreter included.
        partial: it stopped before all runs were done.
        untrusted: why the figures should not be relied on, a sentence each; empty if nothing is known against them.

    Raises:
        BadInputError: it holds a time from emulation.
    """

    model: str
    subject: Subject
    target: str
    origin: Origin
    device: Device
    runtime: str
    runtime_version: str
    versions: dict[str, str]
    threads: int
    warmup: int
    samples_ns: tuple[int, ...] = ()
    calls_per_sample: int = 1
    clock_step_ns: int | None = None
    counts: tuple[Counts, ...] = ()
    load_ns: int | None = None
    first_run_ns: int | None = None
    peak_memory_bytes: int | None = None
    partial: bool = False
    untrusted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.origin == "emulated" and (self.samples_ns or self.load_ns is not None or self.first_run_ns is not None):
            raise BadInputError("a record from emulation must hold no times: they say nothing of the device")


@dataclass(frozen=True)
class Records:
    """A file of records."""

    schema_version: int
    records: tuple[Record, ...]


def dump(records: tuple[Record, ...]) -> bytes:
    from pydantic import TypeAdapter

    return TypeAdapter(Records).dump_json(Records(SCHEMA, records), indent=2) + b"\n"


def save(path: Path, records: tuple[Record, ...]) -> None:
    """Write ``path``, whole or not at all; a file that is there is replaced.

    Raises:
        BadInputError: it cannot be written.
    """
    files.write(path, dump(records))


def load(path: Path) -> tuple[Record, ...]:
    """Read a file of records.

    Raises:
        ArtifactError: in one sentence, what is wrong with it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    otherwise = "no file of records; make one with `edgeattn profile --out`"
    return files.parse(content, Records, path, newest=SCHEMA, otherwise=otherwise).records
