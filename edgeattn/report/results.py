"""Derives the figures of each record. Nothing is measured here."""

from collections.abc import Callable
from math import isfinite

from edgeattn.bundle.records import Likeness, Record, middle
from edgeattn.profile import heat, latency
from edgeattn.report.content import Content, Judged
from edgeattn.report.result import NS_PER_MS, ORIGINS, Result


def results(content: Content) -> tuple[Result, ...]:
    """The results of all records, sorted by origin, model and target, then the fastest first."""
    known = list(ORIGINS)
    unsorted = [result(record, content.judged) for record in content.records]

    def order(r: Result) -> tuple[object, ...]:
        rank = known.index(r.origin) if r.origin in known else len(known)
        cost = r.p50_ms if r.p50_ms is not None else (r.instructions or float("inf"))
        return (rank, r.origin, r.model, r.target, r.device, r.threads, cost, r.artifact, r.runtime)

    return tuple(sorted(unsorted, key=order))


def result(record: Record, judged: tuple[Judged, ...] = ()) -> Result:
    """The figures of one record; its parity is its own, or else, on the host, that of the bundle."""
    times = latency.summary(record.samples_ns) if record.samples_ns else None
    course = heat.course(record)
    counts = middle(record.counts) if record.counts else None

    def ms(statistic: Callable[[latency.Summary], float]) -> float | None:
        return None if times is None else _ms(statistic(times))

    parity = record.parity or _of_bundle(record, judged)
    notes = [*record.untrusted]
    if parity and not parity.passed:
        notes.append(parity.reason)
    status = "partial" if record.partial else "doubtful" if record.untrusted else "measured"
    return Result(
        origin=record.origin,
        model=record.model,
        target=record.target,
        device=record.device.name,
        artifact=record.subject.artifact,
        format=record.subject.format,
        precision=record.subject.precision or "",
        runtime=record.runtime,
        runtime_version=record.runtime_version,
        threads=record.threads,
        status=status,
        runs=len(record.samples_ns) or len(record.counts),
        min_ms=ms(lambda t: t.min_ns),
        mean_ms=ms(lambda t: t.mean_ns),
        p50_ms=ms(lambda t: t.p50_ns),
        p50_low_ms=ms(lambda t: t.p50_interval_ns[0]),
        p50_high_ms=ms(lambda t: t.p50_interval_ns[1]),
        p90_ms=ms(lambda t: t.p90_ns),
        p99_ms=ms(lambda t: t.p99_ns),
        sd_ms=ms(lambda t: t.sd_ns),
        sustained_s=None if course is None else course.minutes[-1].end_s,
        first_p50_ms=None if course is None else _ms(course.minutes[0].p50_ns),
        last_p50_ms=None if course is None else _ms(course.minutes[-1].p50_ns),
        instructions=None if counts is None else counts.total,
        simd_instructions=None if counts is None else counts.simd,
        memory_instructions=None if counts is None else counts.memory,
        load_ms=_ms(record.load_ns),
        first_run_ms=_ms(record.first_run_ns),
        peak_memory_mib=None if record.peak_memory_bytes is None else record.peak_memory_bytes / 2**20,
        size_bytes=record.subject.size_bytes,
        layout_ops=record.subject.layout_ops,
        same_model=None if parity is None else parity.passed,
        parity=_finite(None if parity is None else parity.max_noise_units),
        sqnr_db=_finite(None if parity is None else parity.sqnr_db),
        notes="; ".join(notes),
    )


def _of_bundle(record: Record, judged: tuple[Judged, ...]) -> Likeness | Judged | None:
    """The bundle's parity of the same file in the same runtime. It holds on the host only, not on another device."""
    if record.origin != "host":
        return None
    same = (j for j in judged if j.sha256 == record.subject.sha256 and j.runtime == record.runtime)
    return next(same, None)


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ns / NS_PER_MS
