"""A bundle, measured on a target: one record for each artifact that the target runs."""

from collections.abc import Callable
from dataclasses import dataclass

from edgeattn.errors import MissingError
from edgeattn.records import NotRun, Record, Subject
from export.bundle import Artifact, Bundle
from export.targets import Connection, Job, Measurement
from export.verify import golden_cases, inputs
from export.versions import versions


@dataclass(frozen=True)
class Options:
    """How to measure; ``target`` as the user spelled it. None is what suits the target."""

    target: str
    threads: int = 1
    runs: int | None = None
    warmup: int | None = None


@dataclass(frozen=True)
class Profile:
    """What was measured, and the artifacts that were not, with the reason."""

    records: tuple[Record, ...]
    not_run: tuple[NotRun, ...]

    @property
    def complete(self) -> bool:
        return not any(record.partial for record in self.records)


def profile(
    bundle: Bundle, connection: Connection, options: Options, say: Callable[[str], None] = lambda _: None
) -> Profile:
    """Measure the artifacts of ``bundle`` on the inputs of its first case; a run that stops early is the last one.

    Raises:
        BadInputError: the target refuses an artifact, its inputs or the number of threads.
        MissingError: the target runs none of the artifacts, or lacks the runtime.
        TargetError: a run came to nothing.
    """
    golden = next(iter(golden_cases(bundle).values()))
    warmup = connection.warmup if options.warmup is None else options.warmup
    records: list[Record] = []
    not_run: list[NotRun] = []
    for artifact in bundle.manifest.artifacts:
        path = artifact.file.path
        if artifact.format not in connection.runtimes:
            not_run.append(NotRun(path, options.target, f"{connection.place} does not run {artifact.format}"))
        elif records and records[-1].partial:
            not_run.append(NotRun(path, options.target, f"the run of {records[-1].subject.artifact} stopped"))
        else:
            say(f"{path} on {connection.place}")
            given = inputs(artifact, golden)
            job = Job(bundle.path(artifact.file), given, warmup, options.runs or connection.runs, options.threads)
            records.append(_record(bundle, artifact, options.target, job, connection.run(job)))
    if not records:
        raise MissingError(f"nothing was measured: {'; '.join(entry.reason for entry in not_run)}")
    return Profile(tuple(records), tuple(not_run))


def _record(bundle: Bundle, artifact: Artifact, target: str, job: Job, seen: Measurement) -> Record:
    file = artifact.file
    return Record(
        model=bundle.manifest.model,
        subject=Subject(file.path, file.sha256, file.size_bytes, artifact.format, artifact.precision),
        target=target,
        origin=seen.origin,
        device=seen.device,
        runtime=seen.runtime,
        runtime_version=seen.runtime_version,
        versions={**bundle.manifest.tools, "edgeattn": versions()["edgeattn"]},
        threads=job.threads,
        warmup=seen.warmup,
        samples_ns=seen.samples_ns,
        calls_per_sample=seen.calls_per_sample,
        clock_step_ns=seen.clock_step_ns,
        counts=seen.counts,
        load_ns=seen.load_ns,
        first_run_ns=seen.first_run_ns,
        peak_memory_bytes=seen.peak_memory_bytes,
        partial=bool(seen.stopped),
        untrusted=(*([seen.stopped] if seen.stopped else []), *seen.untrusted),
    )
