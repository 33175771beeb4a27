"""One record in figures."""

from dataclasses import dataclass

from edgeattn.bundle.records import Record

NS_PER_MS = 1e6


# Display names of origins, the most meaningful first.
ORIGINS = {
    "phone": "Phone",
    "board": "Board",
    "browser": "Desktop browser",
    "emulated": "Emulated",
    "host": "Host",
}


@dataclass(frozen=True)
class Result:
    """One record in figures; None means unknown. ``parity`` is in units of the noise floor.

    Of a sustained run, ``sustained_s`` is its length, and the times of its first and last stretch stand beside it.
    ``status`` is ``measured``, ``partial`` or ``doubtful``; ``notes`` says why.
    """

    origin: str
    model: str
    target: str
    device: str
    artifact: str
    format: str
    precision: str
    runtime: str
    runtime_version: str
    threads: int
    status: str
    runs: int
    min_ms: float | None
    mean_ms: float | None
    p50_ms: float | None
    p50_low_ms: float | None
    p50_high_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    sd_ms: float | None
    sustained_s: float | None
    first_p50_ms: float | None
    last_p50_ms: float | None
    instructions: int | None
    simd_instructions: int | None
    memory_instructions: int | None
    load_ms: float | None
    first_run_ms: float | None
    peak_memory_mib: float | None
    size_bytes: int
    layout_ops: int | None
    same_model: bool | None
    parity: float | None
    sqnr_db: float | None
    notes: str


def describe(record: Record) -> str:
    """A record in a line: artifact, runtime, threads, target and origin."""
    threads = "" if record.threads == 1 else f", {record.threads} threads"
    return f"{record.subject.artifact}, {record.runtime}{threads}, {record.target} ({origin_name(record.origin)})"


def origin_name(origin: str) -> str:
    return ORIGINS.get(origin, origin)
