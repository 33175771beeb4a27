"""Runs a study: converts, measures interleaved, and stores what is missing, group by group."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from edgeattn.bundle import records
from edgeattn.bundle.records import NotRun, Record
from edgeattn.errors import BadInputError, EdgeAttnError, MissingError, TargetError
from edgeattn.export import single
from edgeattn.formats import FORMATS
from edgeattn.profile import record as measured
from edgeattn.profile.studies import STUDIES, Group, Variant
from edgeattn.system.progress import Progress, silent
from edgeattn.targets import Connection, Job

STORE = "records.json"


@dataclass(frozen=True)
class Options:
    """How to run a study; ``target`` and ``command`` are as the user typed them. No ``formats``: the study's own."""

    target: str
    command: str = ""
    formats: tuple[str, ...] = ()
    threads: int = 1
    quick: bool = False


@dataclass(frozen=True)
class Outcome:
    """All records in the study's folder, those of other targets too, and what was not measured this time."""

    records: tuple[Record, ...]
    not_run: tuple[NotRun, ...]
    stopped: bool


def run(study: str, connection: Connection, options: Options, folder: Path, progress: Progress = silent) -> Outcome:
    """Measure what ``folder`` lacks, and store the records after each group. An interrupt loses only the current group.

    Raises:
        BadInputError: no such study or format, or ``folder`` cannot be written.
        MissingError: the target runs none of the formats.
        ArtifactError: the folder's records cannot be read.
    """
    plan = STUDIES.get(study)
    if plan.groups is None:
        raise BadInputError(f"study {study} measures no latency")
    formats = [name for name in options.formats or plan.formats if FORMATS.get(name)]
    if not set(formats) & set(connection.runtimes):
        raise MissingError(f"{connection.place} runs none of {', '.join(formats)}; choose another --format or --target")
    store = folder / STORE
    stored = _load(store, study)
    not_run: list[NotRun] = []
    todo: list[tuple[Group, str, str]] = []
    for group in plan.groups(options.quick):
        for format_ in formats:
            for runtime in connection.runtimes.get(format_, ()):
                missing = [v for v in group.variants if not _has(stored, v, format_, runtime, connection, options)]
                if missing:
                    todo.append((replace(group, variants=tuple(missing)), format_, runtime))
    progress.plan(len(todo))
    stopped = False
    try:
        for group, format_, runtime in todo:
            progress(f"{group.name}: {format_} in {runtime} on {connection.place}")
            stored += _measure(plan.model, study, group, format_, runtime, connection, options, not_run)
            _save(store, stored, not_run)
    except KeyboardInterrupt:
        stopped = True
    not_run += (
        NotRun(study, options.target, f"{connection.place} does not run {name}")
        for name in formats
        if name not in connection.runtimes
    )
    _save(store, stored, not_run)
    return Outcome(tuple(stored), tuple(not_run), stopped)


def _load(store: Path, study: str) -> list[Record]:
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"{store.parent} cannot be made: {error.strerror}") from error
    if not store.exists():
        return []
    stored = list(records.load(store).records)
    if any(record.labels.get("study") != study for record in stored):
        raise BadInputError(f"{store} holds other records than those of the study {study}; name another --out")
    return stored


def _save(store: Path, stored: list[Record], not_run: list[NotRun]) -> None:
    if stored or not_run:
        records.save(store, tuple(stored), tuple(not_run))


def _has(
    stored: Iterable[Record], variant: Variant, format_: str, runtime: str, connection: Connection, options: Options
) -> bool:
    labels = {**variant.labels, "runtime": runtime, "place": connection.place}
    return any(
        labels.items() <= record.labels.items()
        and (record.subject.format, record.threads) == (format_, options.threads)
        for record in stored
    )


def _measure(
    model: str,
    study: str,
    group: Group,
    format_: str,
    runtime: str,
    connection: Connection,
    options: Options,
    not_run: list[NotRun],
) -> list[Record]:
    """Measure one group in one runtime; variants that a converter or the runtime refuses go to ``not_run``."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
        converted, jobs = [], []
        for number, variant in enumerate(group.variants):
            path = Path(scratch) / f"{number}{FORMATS.get(format_).suffix}"
            try:
                inputs = single.convert(*variant.build(), format_, path, lowered=variant.lowered)
            except EdgeAttnError as error:
                not_run.append(_refused(variant, format_, options, error))
                continue
            runs = min(group.runs, connection.runs) if connection.warmup is not None else group.runs
            warmup = group.warmup if connection.warmup is None else connection.warmup
            converted.append(variant)
            jobs.append(Job(path, inputs, warmup, runs, options.threads, runtime))
        if not jobs:
            return []
        try:
            measurements = connection.run_interleaved(jobs)
        except (BadInputError, TargetError) as error:
            not_run += (_refused(variant, format_, options, error) for variant in converted)
            return []
        measured_records = []
        for variant, job, measurement in zip(converted, jobs, measurements, strict=True):
            name = " ".join((model, *variant.labels.values()))
            record = measured.record(measurement, job, measured.subject(job.artifact, name, format_), options.target)
            labels = {"study": study, "place": connection.place, "runtime": runtime, **variant.labels}
            record = replace(record, model=model, labels=labels, started_at=started, command=options.command)
            # The time alone is not unique: clocks are set back.
            interleaved = f"{study}, {group.name}, {format_} in {runtime}, {started}"
            measured_records.append(replace(record, group=interleaved if measurement.samples_ns else ""))
    if any(record.partial for record in measured_records):
        # Only whole groups are stored: the same command measures this group again.
        raise KeyboardInterrupt
    return measured_records


def _refused(variant: Variant, format_: str, options: Options, error: EdgeAttnError) -> NotRun:
    return NotRun(f"{', '.join(variant.labels.values())} ({format_})", options.target, str(error))
