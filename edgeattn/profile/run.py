"""A bundle, measured on a target: a record for each artifact, runtime and number of threads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.records import NotRun, Operator, Record, Subject
from edgeattn.errors import BadInputError, EdgeAttnError, MissingError
from edgeattn.parity.check import likeness
from edgeattn.profile import operators
from edgeattn.profile import record as measured
from edgeattn.system.parallel import InterruptedTargetError
from edgeattn.system.progress import Progress, silent
from edgeattn.system.versions import versions
from edgeattn.targets import TARGETS, Connection, Job, Measurement


@dataclass(frozen=True)
class Options:
    """How to measure; ``target`` and ``command`` as the user spelled them. None, or nothing, is what suits the target;
    a ``warmup`` "auto" goes on until the times settle. No ``runtimes`` are all that the target has."""

    target: str
    threads: tuple[int, ...] = (1,)
    runs: int | None = None
    warmup: int | Literal["auto"] | None = None
    runtimes: tuple[str, ...] = ()
    operators: bool = True
    command: str = ""


@dataclass(frozen=True)
class Profile:
    """What was measured, and what was not, with the reason; ``failed`` if any of that should have been,
    ``interrupted`` if the user ended it."""

    records: tuple[Record, ...]
    not_run: tuple[NotRun, ...]
    failed: bool
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        """Whether all was measured to the end, and all gave the outputs of the reference."""
        sound = all(not record.partial and (record.parity is None or record.parity.passed) for record in self.records)
        return sound and not self.failed


@dataclass(frozen=True)
class _Group:
    """Artifacts of one format in one runtime, with one number of threads: they are measured in turn."""

    runtime: str
    threads: int
    artifacts: tuple[Artifact, ...]


@dataclass
class _Found:
    """What is known so far."""

    records: list[Record] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    errors: list[EdgeAttnError] = field(default_factory=list)
    stopped: str = ""
    interrupted: bool = False

    def profile(self) -> Profile:
        failed = bool(self.errors or self.stopped)
        return Profile(tuple(self.records), tuple(self.not_run), failed, self.interrupted)


def profile(
    bundle: Bundle,
    connection: Connection,
    options: Options,
    progress: Progress = silent,
    keep: Callable[[Profile], None] = lambda _: None,
) -> Profile:
    """Measure the artifacts of ``bundle`` on the inputs of its first case, those of one runtime in turn.

    An interrupt ends it, and what was measured is kept; what a target refuses is listed as not run, and the rest goes
    on. ``keep`` is shown what there is after each step.

    Raises:
        BadInputError: the target has no such runtime; or it refuses all that there is, its inputs or the number of
            threads.
        MissingError: the target runs none of the artifacts, or lacks the runtime.
        TargetError: all runs came to nothing.
        KeyboardInterrupt: before anything was measured.
    """
    found = _Found()
    golden = next(iter(golden_cases(bundle).values()))
    groups = list(_groups(bundle, connection, options, found))
    progress.plan(len(groups))
    for group in groups:
        if not found.stopped:
            progress(f"{', '.join(a.file.path for a in group.artifacts)} in {_place(group, connection)}")
            _measure(bundle, golden, connection, options, group, found)
            keep(found.profile())
        else:
            found.not_run += (NotRun(a.file.path, options.target, found.stopped) for a in group.artifacts)
    if not found.records:
        if found.stopped:
            raise KeyboardInterrupt
        if found.errors:
            raise found.errors[0]
        raise MissingError(f"nothing was measured: {'; '.join(entry.reason for entry in found.not_run)}")
    keep(found.profile())  # with what was noted after the last step
    return found.profile()


def _place(group: _Group, connection: Connection) -> str:
    threads = "" if group.threads == 1 else f", {group.threads} threads"
    return f"{group.runtime} on {connection.place}{threads}"


def _groups(bundle: Bundle, connection: Connection, options: Options, found: _Found) -> Iterator[_Group]:
    """All that is to be measured; what the target does not run is noted."""
    known = {runtime for runtimes in connection.runtimes.values() for runtime in runtimes}
    for runtime in options.runtimes:
        if runtime not in known:
            raise BadInputError(
                f"{connection.place} has no runtime {runtime!r}; choose from {', '.join(sorted(known))}"
            )
    by_format: dict[str, list[Artifact]] = {}
    for artifact in bundle.manifest.artifacts:
        by_format.setdefault(artifact.format, []).append(artifact)
    for format_, artifacts in by_format.items():
        there = connection.runtimes.get(format_, ())
        wanted = [runtime for runtime in there if runtime in options.runtimes or not options.runtimes]
        if not wanted:
            reason = f"of its runtimes on {connection.place} none was asked for" if there else ""
            reason = reason or f"{connection.place} does not run {format_}"
            found.not_run += (NotRun(artifact.file.path, options.target, reason) for artifact in artifacts)
        # What is counted does not drift, and takes minutes: one by one.
        sets = [[artifact] for artifact in artifacts] if _counted(options.target) else [artifacts]
        yield from (_Group(r, n, tuple(together)) for r in wanted for n in options.threads for together in sets)


def _counted(target: str) -> bool:
    return TARGETS.get(target.partition(":")[0]).origin == "emulated"


def _measure(
    bundle: Bundle, golden: GoldenCase, connection: Connection, options: Options, group: _Group, found: _Found
) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    warmup = connection.warmup if options.warmup is None else options.warmup
    jobs = [
        Job(
            bundle.path(artifact.file),
            golden.inputs_for(artifact),
            None if warmup == "auto" else warmup,
            options.runs or connection.runs,
            group.threads,
            group.runtime,
            options.operators,
        )
        for artifact in group.artifacts
    ]
    try:
        seen: Sequence[Measurement] = connection.run_interleaved(jobs) if len(jobs) > 1 else [connection.run(jobs[0])]
    except KeyboardInterrupt:
        found.stopped, found.interrupted = "interrupted", True
        found.not_run += (NotRun(artifact.file.path, options.target, found.stopped) for artifact in group.artifacts)
        return
    except EdgeAttnError as error:
        if len(jobs) > 1:  # one of them may be the cause: each by itself
            for artifact in group.artifacts:
                _measure(bundle, golden, connection, options, replace(group, artifacts=(artifact,)), found)
            return
        found.errors.append(error)
        found.not_run.append(NotRun(group.artifacts[0].file.path, options.target, str(error)))
        return
    for artifact, job, measurement in zip(group.artifacts, jobs, seen, strict=True):
        interleaved = f"{_place(group, connection)}, {started}" if len(jobs) > 1 and measurement.samples_ns else ""
        record = _record(bundle, artifact, options, job, measurement)
        record = replace(
            record,
            started_at=started,
            group=interleaved,
            # A user's own benchmark tool gives no outputs.
            parity=likeness(artifact, golden, measurement.first, measurement.last) if measurement.first else None,
        )
        found.records.append(record)
        found.interrupted = found.interrupted or measurement.interrupted
        if record.partial:
            found.stopped = f"the run of {artifact.file.path} stopped"


def _record(bundle: Bundle, artifact: Artifact, options: Options, job: Job, seen: Measurement) -> Record:
    file = artifact.file
    subject = Subject(file.path, file.sha256, file.size_bytes, artifact.format, artifact.precision)
    return replace(
        measured.record(seen, job, measured.counted(subject, job.artifact), options.target, bundle.manifest.model),
        versions={**bundle.manifest.tools, "edgeattn": versions()["edgeattn"]},
        operators=_operators(artifact, job, seen),
        command=options.command,
    )


def _operators(artifact: Artifact, job: Job, seen: Measurement) -> tuple[Operator, ...]:
    if artifact.format == "onnx" and seen.operators:
        try:
            return operators.traced(job.artifact, seen.operators)
        except MissingError:
            pass  # without the package onnx they have no layers
    return operators.marked(seen.operators)


def together(bundle: str, found: Mapping[str, Profile | EdgeAttnError]) -> Profile:
    """The records of all targets; a target that failed is listed as not run.

    Raises:
        EdgeAttnError: the first of their errors, if all of them failed.
    """
    profiles = [one for one in found.values() if isinstance(one, Profile)]
    errors = {target: one for target, one in found.items() if isinstance(one, EdgeAttnError)}
    if not profiles:
        raise next(iter(errors.values()))
    not_run = [entry for profile in profiles for entry in profile.not_run]
    not_run += [NotRun(bundle, target, str(error)) for target, error in errors.items()]
    failed = bool(errors) or any(profile.failed for profile in profiles)
    interrupted = any(profile.interrupted for profile in profiles)
    interrupted = interrupted or any(isinstance(error, InterruptedTargetError) for error in errors.values())
    records = tuple(record for profile in profiles for record in profile.records)
    return Profile(records, tuple(not_run), failed, interrupted)
