"""Measures a bundle on a target: a record for each artifact, runtime and number of threads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.records import NotRun, Operator, Record, Subject
from edgeattn.errors import BadInputError, EdgeAttnError, MissingError
from edgeattn.parity.check import likeness
from edgeattn.parity.claims import in_arithmetic
from edgeattn.profile import operators, sustained
from edgeattn.profile import record as measured
from edgeattn.profile.starts import each_start, joined, worst
from edgeattn.runtimes import arithmetic
from edgeattn.system import duration
from edgeattn.system.parallel import InterruptedTargetError
from edgeattn.system.progress import Progress, silent
from edgeattn.system.versions import versions
from edgeattn.targets import TARGETS, Connection, Job, Measurement


@dataclass(frozen=True)
class Options:
    """How to measure; ``target`` and ``command`` are as the user typed them. None means the target's default. A
    ``warmup`` of "auto" lasts until the times settle. No ``runtimes`` means all that the target has. ``starts`` is the
    number of processes, ``runs`` each; where instructions are counted it is one. ``seconds`` is how long the artifacts
    of a runtime are measured instead of a number of runs."""

    target: str
    threads: tuple[int, ...] = (1,)
    runs: int | None = None
    warmup: int | Literal["auto"] | None = None
    runtimes: tuple[str, ...] = ()
    operators: bool = True
    command: str = ""
    starts: int = 1
    seconds: float | None = None

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            BadInputError: a time together with runs or starts, or where instructions are counted; or it is too short.
        """
        if self.seconds is None:
            return
        duration.checked(self.seconds, "--for")
        if self.starts > 1:
            raise BadInputError("--for starts a process for each stretch of its time; leave --starts out")
        if self.runs:
            raise BadInputError("--for measures as often as its time allows; leave --runs out")
        if _is_counted(self.target):
            raise BadInputError(f"--target {self.target} counts instructions, which no heat changes; leave --for out")


@dataclass(frozen=True)
class Profile:
    """The records, and what was not run, with the reason. ``failed``: something that should have run did not.
    ``interrupted``: the user ended it."""

    records: tuple[Record, ...]
    not_run: tuple[NotRun, ...]
    failed: bool
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        """Whether every run was complete, and its outputs were those of the reference."""
        sound = all(not record.partial and (record.parity is None or record.parity.passed) for record in self.records)
        return sound and not self.failed


@dataclass(frozen=True)
class _Group:
    """Artifacts of one format in one runtime, with one number of threads: their runs are interleaved."""

    runtime: str
    threads: int
    artifacts: tuple[Artifact, ...]


@dataclass
class _Results:
    """The results so far."""

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
    """Measure the artifacts of ``bundle`` on the inputs of its first case; the runs in one runtime are interleaved.

    An interrupt ends it, and what was measured is returned. An artifact that the target refuses is listed as not run,
    and the rest goes on. ``keep`` is called with the results after each step.

    Raises:
        BadInputError: the target has no such runtime; or it refuses every artifact, its inputs or the number of
            threads.
        MissingError: the target runs none of the artifacts, or lacks the runtime.
        TargetError: all runs failed.
        KeyboardInterrupt: nothing was measured before the interrupt.
    """
    results = _Results()
    golden = next(iter(golden_cases(bundle).values()))
    groups = list(_groups(bundle, connection, options, results))
    progress.plan(len(groups))
    for group in groups:
        if not results.stopped:
            progress(f"{', '.join(a.file.path for a in group.artifacts)} in {_runtime_and_device(group, connection)}")
            _measure(bundle, golden, connection, options, group, results)
            keep(results.profile())
        else:
            results.not_run += (NotRun(a.file.path, options.target, results.stopped) for a in group.artifacts)
    if not results.records:
        if results.stopped:
            raise KeyboardInterrupt
        if results.errors:
            raise results.errors[0]
        raise MissingError(f"nothing was measured: {'; '.join(entry.reason for entry in results.not_run)}")
    keep(results.profile())  # with the notes after the last step
    return results.profile()


def _runtime_and_device(group: _Group, connection: Connection) -> str:
    threads = "" if group.threads == 1 else f", {group.threads} threads"
    return f"{group.runtime} on {connection.place}{threads}"


def _groups(bundle: Bundle, connection: Connection, options: Options, results: _Results) -> Iterator[_Group]:
    """The groups to measure; artifacts that the target does not run are noted."""
    known = {runtime for runtimes in connection.runtimes.values() for runtime in runtimes}
    by_format: dict[str, list[Artifact]] = {}
    for artifact in bundle.manifest.artifacts:
        by_format.setdefault(artifact.format, []).append(artifact)
    further = {
        name: tuple(r for r in options.runtimes if r not in known and connection.takes(name, r)) for name in by_format
    }
    for runtime in options.runtimes:
        if runtime not in known and not any(runtime in names for names in further.values()):
            raise BadInputError(
                f"{connection.place} has no runtime {runtime!r}; choose from {', '.join(sorted(known))}"
            )
    for format_, artifacts in by_format.items():
        available = (*connection.runtimes.get(format_, ()), *further[format_])
        wanted = [runtime for runtime in available if runtime in options.runtimes or not options.runtimes]
        if not wanted:
            reason = f"of its runtimes on {connection.place} none was asked for" if available else ""
            reason = reason or f"{connection.place} does not run {format_}"
            results.not_run += (NotRun(artifact.file.path, options.target, reason) for artifact in artifacts)
        # Counts do not drift, and take minutes: no need to interleave.
        batches = [[artifact] for artifact in artifacts] if _is_counted(options.target) else [artifacts]
        yield from (_Group(r, n, tuple(batch)) for r in wanted for n in options.threads for batch in batches)


def _is_counted(target: str) -> bool:
    return TARGETS.get(target.partition(":")[0]).origin == "emulated"


def _measure(
    bundle: Bundle, golden: GoldenCase, connection: Connection, options: Options, group: _Group, results: _Results
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
        if options.seconds is None:
            measured_starts = each_start(connection, jobs, 1 if _is_counted(options.target) else options.starts)
        else:
            measured_starts = sustained.each_part(connection, jobs, options.seconds)
    except KeyboardInterrupt:
        results.stopped, results.interrupted = "interrupted", True
        results.not_run += (NotRun(artifact.file.path, options.target, results.stopped) for artifact in group.artifacts)
        return
    except EdgeAttnError as error:
        if len(jobs) > 1:  # one of them may be the cause: measure each alone
            for artifact in group.artifacts:
                _measure(bundle, golden, connection, options, replace(group, artifacts=(artifact,)), results)
            return
        results.errors.append(error)
        results.not_run.append(NotRun(group.artifacts[0].file.path, options.target, str(error)))
        return
    for artifact, job, starts in zip(group.artifacts, jobs, zip(*measured_starts, strict=True), strict=True):
        measurement, judged = _joined(starts, options), in_arithmetic(artifact, arithmetic(group.runtime))
        interleaved = (
            f"{_runtime_and_device(group, connection)}, {started}" if len(jobs) > 1 and measurement.samples_ns else ""
        )
        record = _record(bundle, artifact, options, job, measurement)
        record = replace(
            record,
            started_at=started,
            group=interleaved,
            # A user's own benchmark tool returns no outputs.
            parity=worst([likeness(judged, golden, each.first, each.last) for each in starts if each.first]),
        )
        results.records.append(record)
        results.interrupted = results.interrupted or measurement.interrupted
        if record.partial:
            results.stopped = f"the run of {artifact.file.path} stopped"


def _joined(starts: Sequence[Measurement], options: Options) -> Measurement:
    measurement = joined(starts)
    if options.seconds is None:
        return measurement
    stretches = sustained.by_length(measurement.stretches, sustained.length_s(options.seconds))
    return replace(measurement, stretches=stretches)


def _record(bundle: Bundle, artifact: Artifact, options: Options, job: Job, measurement: Measurement) -> Record:
    file = artifact.file
    subject = Subject(file.path, file.sha256, file.size_bytes, artifact.format, artifact.precision)
    return replace(
        measured.record(
            measurement, job, measured.with_counts(subject, job.artifact), options.target, bundle.manifest.model
        ),
        versions={**bundle.manifest.tools, "edgeattn": versions()["edgeattn"]},
        operators=_operators(artifact, job, measurement),
        command=options.command,
    )


def _operators(artifact: Artifact, job: Job, measurement: Measurement) -> tuple[Operator, ...]:
    if artifact.format == "onnx" and measurement.operators:
        try:
            return operators.assign_layers(job.artifact, measurement.operators)
        except MissingError:
            pass  # without the package onnx they have no layers
    return operators.mark_layout_ops(measurement.operators)


def merge(bundle: str, results: Mapping[str, Profile | EdgeAttnError]) -> Profile:
    """Merge the results of several targets; a target that failed is listed as not run.

    Raises:
        EdgeAttnError: the first error, if all targets failed.
    """
    profiles = [result for result in results.values() if isinstance(result, Profile)]
    errors = {target: result for target, result in results.items() if isinstance(result, EdgeAttnError)}
    if not profiles:
        raise next(iter(errors.values()))
    not_run = [entry for profile in profiles for entry in profile.not_run]
    not_run += [NotRun(bundle, target, str(error)) for target, error in errors.items()]
    failed = bool(errors) or any(profile.failed for profile in profiles)
    interrupted = any(profile.interrupted for profile in profiles)
    interrupted = interrupted or any(isinstance(error, InterruptedTargetError) for error in errors.values())
    records = tuple(record for profile in profiles for record in profile.records)
    return Profile(records, tuple(not_run), failed, interrupted)
