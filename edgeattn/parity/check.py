"""Parity of a bundle, in two hops: reference to lowered form, lowered form to artifact in its runtime."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from pathlib import Path

import numpy as np

from edgeattn.bundle.golden import GoldenCase, HeldOut, golden_cases, held_out
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.records import Likeness
from edgeattn.bundle.tensors import Arrays, from_edge
from edgeattn.errors import ArtifactError, BadInputError, MissingError, RefusedError, TargetError
from edgeattn.formats import FORMATS
from edgeattn.parity import claims as claimed
from edgeattn.parity.accuracy import Accuracy, evaluate
from edgeattn.parity.failures import lacking, refused
from edgeattn.parity.metrics import EXACT_LIMIT, Comparison, compare, exact_limit, relative_error, settled
from edgeattn.parity.shown import computed_finer, must_hold, not_shown, unproven
from edgeattn.parity.verdicts import NotChecked, Report, Row, worst
from edgeattn.precision import FP32, PRECISIONS, SqnrLimits
from edgeattn.runtimes import RunEach, Session, Signature, arithmetic, backends
from edgeattn.system.progress import Progress, silent
from edgeattn.targets import Connection, Job

# The cases of other batch sizes, for artifacts whose batch size is free.
BATCHES = {"batch_of_one": 1, "batch_of_two": 2, "batch_of_three": 3, "batch_of_five": 5}


@dataclass
class _ReportBuilder:
    """The parts of a report, collected while the check runs."""

    rows: list[Row] = field(default_factory=list)
    not_run: list[NotChecked] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    accuracy: list[Accuracy] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    finer: list[NotChecked] = field(default_factory=list)
    # Artifacts that the target does not run: no check of this place is to say anything of them.
    elsewhere: set[str] = field(default_factory=set)

    def build(self, bundle: Bundle) -> Report:
        return Report(
            tuple(self.rows),
            tuple(self.not_run),
            self.versions,
            tuple(self.accuracy),
            tuple(self.warnings),
            tuple(e for e in not_shown(bundle, self.rows, self.not_run) if e.candidate not in self.elsewhere),
            tuple(self.finer),
        )


def verify(
    bundle: Bundle,
    progress: Progress = silent,
    *,
    connection: Connection | None = None,
    chosen: Sequence[str] = (),
    most_labelled: int | None = None,
) -> Report:
    """Check every artifact of ``bundle`` in every runtime that is installed here, in the backends ``chosen``, or on the
    target of ``connection``; ``most_labelled`` of its labelled inputs are run, if given.

    ``progress`` gets one call for each of the :func:`steps`, which the caller has planned.

    Raises:
        ArtifactError: a file of the bundle cannot be read, or its signature is not the manifest's.
        TargetError: a run on the target failed.
    """
    _check_formats(bundle)
    bundle, claims = claimed.checked(bundle)
    cases = golden_cases(bundle)
    labelled, first = held_out(bundle), next(iter(cases), "")
    rows = [*_hop_one(bundle, cases), *lacking(bundle, first)]
    builder = _ReportBuilder(rows=rows, warnings=[*unproven(bundle, cases), *claims])
    if connection:
        some = labelled and labelled.first(most_labelled or connection.most_labelled)
        _on_target(bundle, cases, some, connection, builder, progress)
        return builder.build(bundle)
    for artifact in bundle.manifest.artifacts:
        found = backends(artifact.format, chosen)
        if not found:  # of another format than the backends that were asked for
            builder.elsewhere.add(artifact.file.path)
        for backend in found:
            if backend.missing:
                builder.not_run.append(NotChecked(artifact.file.path, backend.label, backend.missing))
                continue
            progress(f"{artifact.file.path} in {backend.label}")
            some = labelled and labelled.first(most_labelled or backend.runtime.most_labelled)
            try:
                judged = claimed.in_arithmetic(artifact, backend.arithmetic)
                with backend.open(bundle.path(artifact.file)) as session:
                    _check(judged, backend.label, session.signature, _run_each(session), cases, some, builder)
                    note = session.note
            except MissingError as error:  # the runtime is installed, but lacks something that this artifact needs
                builder.not_run.append(NotChecked(artifact.file.path, backend.label, str(error)))
            except RefusedError as error:
                builder.rows.append(refused(artifact, backend.label, first, str(error)))
            else:
                builder.versions[backend.label] = backend.runtime.version()
                if note:
                    builder.warnings.append(f"{artifact.file.path} in {backend.label}: {note}")
                if finer := computed_finer(artifact, backend.label):
                    builder.finer.append(finer)
    return builder.build(bundle)


def _check_formats(bundle: Bundle) -> None:
    """An artifact of a format that has no runtime would be passed over, and never fail."""
    for artifact in bundle.manifest.artifacts:
        if artifact.format not in FORMATS.names:
            known = ", ".join(FORMATS.names)
            raise ArtifactError(
                f"{artifact.file.path} is of the format {artifact.format!r:.40}, and this edgeattn knows {known}; "
                "update edgeattn, or export the bundle again"
            )


def steps(formats: Iterable[str], connection: Connection | None = None, chosen: Sequence[str] = ()) -> int:
    """The number of steps of :func:`verify`, given the format of every artifact."""
    if connection:
        return sum(len(connection.runtimes.get(name, ())) for name in formats)
    return sum(not backend.missing for name in formats for backend in backends(name, chosen))


@dataclass(frozen=True)
class _CaseRun:
    """One pass over a golden case: its inputs, in batches that are run one by one."""

    case: str
    golden: GoldenCase
    batches: tuple[Arrays, ...]


def _check(
    artifact: Artifact,
    label: str,
    signature: Signature,
    run_each: RunEach,
    cases: dict[str, GoldenCase],
    labelled: HeldOut | None,
    builder: _ReportBuilder,
) -> None:
    """The second hop of one artifact in one runtime."""
    _check_signature(artifact, signature)
    runs = list(_case_runs(artifact, label, signature, cases, builder))
    results = iter(run_each([batch for run in runs for batch in run.batches]))
    for run in runs:
        batches = [next(results) for _ in run.batches]
        outputs = batches[0]
        if batches[1:]:
            outputs = {name: np.concatenate([batch[name] for batch in batches]) for name in outputs}
        builder.rows += _hop_two(artifact, label, run.case, run.golden, outputs)
    if labelled:
        builder.accuracy.append(evaluate(artifact, label, signature, run_each, labelled))


def _case_runs(
    artifact: Artifact, label: str, signature: Signature, cases: dict[str, GoldenCase], builder: _ReportBuilder
) -> Iterator[_CaseRun]:
    runs = 0
    for case, golden in cases.items():
        inputs = golden.inputs_for(artifact)
        if case in artifact.beyond and must_hold(artifact, case):
            verdict = Comparison.failure(artifact.beyond[case])
            names = [output.name for output in artifact.outputs]
            builder.rows += [_row("conversion", artifact.file.path, label, case, name, verdict) for name in names]
            continue
        if case in artifact.beyond:
            builder.not_run.append(NotChecked(artifact.file.path, label, f"case {case}: {artifact.beyond[case]}"))
            continue
        if not signature.accepts(inputs):
            builder.not_run.append(NotChecked(artifact.file.path, label, f"case {case} is of another shape"))
            continue
        yield _CaseRun(case, golden, (inputs,))
        runs += 1
        samples = _one_by_one(inputs, golden, BATCHES.get(case, 1))
        if samples and all(map(signature.accepts, samples)):
            yield _CaseRun(f"{case}, one by one", golden, samples)
    first, golden = next(iter(cases.items()))
    if runs > 1 and signature.accepts(inputs := golden.inputs_for(artifact)):
        # On phones state can leak from run to run: the first case runs once more, after all others.
        yield _CaseRun(f"{first}, again after {runs} runs", golden, (inputs,))


def _one_by_one(inputs: Arrays, golden: GoldenCase, number: int) -> tuple[Arrays, ...]:
    """The samples of a batch, each as a batch of one; none where an output has no such batch to be put together to."""
    if number == 1 or any(y.shape[:1] != (number,) for y in golden.reference("fp32").values()):
        return ()
    return tuple({name: x[i : i + 1] if x.ndim else x for name, x in inputs.items()} for i in range(number))


def _run_each(session: Session) -> RunEach:
    return lambda samples: (_ran(session, sample) for sample in samples)


def _ran(session: Session, sample: Arrays) -> Arrays:
    try:
        return session.run(sample)
    except ArtifactError as error:
        raise RefusedError(str(error)) from error


def check_artifact(artifact: Artifact, runtime: str, session: Session, cases: dict[str, GoldenCase]) -> list[Row]:
    """The second hop alone, of a file that takes the part of ``artifact`` and is open as ``session``."""
    builder = _ReportBuilder()
    _check(artifact, runtime, session.signature, _run_each(session), cases, None, builder)
    return builder.rows


def likeness(
    artifact: Artifact,
    golden: GoldenCase,
    first: Arrays,
    last: Arrays,
    between: tuple[GoldenCase, Arrays] | None = None,
) -> Likeness:
    """The second hop alone, of outputs from a measurement: the worst row of the first and of the last run, and of one
    of another case ``between`` them, if there was one. ``last`` is empty if there was no last run."""
    runs = {"the first run": (golden, first)}
    if between:
        runs["the run of another case"] = between
    if last:
        runs["the last run"] = (golden, last)
    rows = {run: worst(_hop_two(artifact, "", "", case, outputs)) for run, (case, outputs) in runs.items()}
    row = worst(rows.values())
    run = next(name for name, worst_of_run in rows.items() if worst_of_run is row)
    return Likeness(
        row.passed,
        "" if row.passed else f"{row.output} of {run}: {row.reason}",
        row.max_noise_units,
        row.rms_noise_units,
        row.sqnr_db,
    )


class _NoOutputsError(Exception):
    """The runtime is a vendor's benchmark, which returns no outputs."""


def _on_target(
    bundle: Bundle,
    cases: dict[str, GoldenCase],
    labelled: HeldOut | None,
    connection: Connection,
    builder: _ReportBuilder,
    progress: Progress,
) -> None:
    """The second hop on a target, in all of its runtimes: one job for the cases, and one for the held-out inputs."""
    for artifact in bundle.manifest.artifacts:
        path, target = artifact.file.path, connection.place
        if artifact.format not in connection.runtimes:
            builder.not_run.append(NotChecked(path, target, f"{target} does not run {artifact.format}"))
            builder.elsewhere.add(path)
        for runtime in connection.runtimes.get(artifact.format, ()):
            label = f"{runtime} on {target}"
            progress(f"{path} in {label}")
            signature = Signature({tensor.name: tensor.shape for tensor in artifact.inputs}, ())
            run_each = partial(_run_on_target, bundle.path(artifact.file), runtime, label, connection, builder)
            judged = claimed.in_arithmetic(artifact, arithmetic(runtime))
            try:
                _check(judged, label, signature, run_each, cases, labelled, builder)
            except _NoOutputsError:
                builder.not_run.append(NotChecked(path, label, "it gives no outputs, times only"))
                builder.elsewhere.add(path)


def _run_on_target(
    path: Path, runtime: str, label: str, connection: Connection, builder: _ReportBuilder, samples: Sequence[Arrays]
) -> list[Arrays]:
    """Outputs on a target, all of one job; a warning if the first and the last run differ."""
    if not samples:
        return []
    measurement = connection.run(Job(path, samples[0], warmup=0, runs=1, runtime=runtime, then=tuple(samples[1:])))
    if measurement.interrupted:
        raise KeyboardInterrupt
    if measurement.stopped:
        raise TargetError(f"{path.name} stopped on {connection.place}: {measurement.stopped}")
    if not measurement.last:
        raise _NoOutputsError
    builder.versions[label] = measurement.runtime_version
    first, last = measurement.first, measurement.last
    if any(not np.array_equal(first[name], last[name], equal_nan=True) for name in last):
        builder.warnings.append(f"{path.name} gave other outputs in its last run than in its first, in {label}")
    # Some drivers are right the first time only, so it is the last run that is judged.
    return [last, *measurement.then]


def require_a_check(bundle: Bundle, report: Report) -> None:
    """Raise an error that says what is missing if no artifact could be run."""
    if not bundle.manifest.artifacts:
        raise ArtifactError(f"{bundle.folder} has no artifact, so that there is nothing to check; export it again")
    if not report.artifacts_checked and not report.not_run:
        raise BadInputError(f"{bundle.folder} has no artifact that such a backend runs")
    if not report.artifacts_checked:
        raise MissingError(f"no artifact could be run here: {report.not_run[0].reason}")


def _hop_one(bundle: Bundle, cases: dict[str, GoldenCase]) -> list[Row]:
    rows = []
    for layout in bundle.manifest.lowering:
        for case, golden in cases.items():
            for output in bundle.manifest.outputs:
                oracle, reference = golden.reference("fp64")[output.name], golden.reference("fp32")[output.name]
                exact = golden.lowered(layout, "fp64")[output.name]
                unsettled = golden.unsettled.get(output.name)
                verdict = compare(
                    oracle=oracle,
                    reference=reference,
                    candidate=golden.lowered(layout, "fp32")[output.name],
                    precision=FP32.name,
                    noise=golden.noise(output.name),
                    unsettled=unsettled,
                )
                error = None
                if oracle.shape == exact.shape:
                    error = relative_error(reference=oracle, candidate=settled(exact, oracle, unsettled))
                limit = exact_limit(oracle=oracle, reference=reference, noise=golden.noise(output.name))
                row = _row("lowering", layout, "pytorch", case, output.name, verdict, error, limit)
                rows.append(row)
    return rows


def _hop_two(artifact: Artifact, runtime: str, case: str, golden: GoldenCase, results: Arrays) -> list[Row]:
    # The lowered form in float64 is the oracle, so that this hop measures the converter and runtime alone;
    # the noise floor is the reference's, so that both hops have the same units.
    oracles, references = golden.oracle_for(artifact), golden.reference_for(artifact)
    unsettled = golden.unsettled_for(artifact)
    rows = []
    judged, by_sqnr = _is_judged(artifact, case), isinstance(PRECISIONS[artifact.precision].limits, SqnrLimits)
    for output in artifact.outputs:
        candidate, reference = results.get(output.name), references[output.name]
        if candidate is None:
            verdict = Comparison.failure("the output is missing")
        else:
            verdict = compare(
                oracle=oracles[output.name],
                reference=reference,
                candidate=from_edge(candidate, output, reference.dtype),
                precision=artifact.precision,
                judged=judged,
                noise=golden.noise(output.name),
                unsettled=unsettled.get(output.name),
            )
        row = _row("conversion", artifact.file.path, runtime, case, output.name, verdict)
        rows.append(replace(row, judged=judged, by_sqnr=by_sqnr))
    return rows


def _is_judged(artifact: Artifact, case: str) -> bool:
    """Whether a case (the example, if it has no name) is of the kind that the artifact was calibrated on."""
    return artifact.judged_on is None or (case.split(",")[0] or "example") in artifact.judged_on


def _check_signature(artifact: Artifact, signature: Signature) -> None:
    declared = {tensor.name for tensor in artifact.inputs}
    if declared != signature.inputs.keys():
        raise ArtifactError(
            f"{artifact.file.path} takes {', '.join(signature.inputs)}, "
            f"but its manifest says {', '.join(sorted(declared))}"
        )


def _row(
    hop: str,
    candidate: str,
    runtime: str,
    case: str,
    output: str,
    verdict: Comparison,
    exact: float | None = None,
    exact_limit: float = EXACT_LIMIT,
) -> Row:
    passed, reason = verdict.passed, verdict.reason
    if exact is not None and not exact <= exact_limit:
        passed, reason = False, f"the lowered form is another function: {exact:.3g} relative error in float64"

    def finite(value: float) -> float | None:
        return value if isfinite(value) else None

    return Row(
        hop=hop,
        candidate=candidate,
        runtime=runtime,
        case=case,
        output=output,
        passed=passed,
        reason=reason,
        max_abs=finite(verdict.max_abs),
        max_noise_units=finite(verdict.max_noise_units),
        rms_noise_units=finite(verdict.rms_noise_units),
        sqnr_db=finite(verdict.sqnr_db),
        cosine=finite(verdict.cosine),
        exact_relative_error=exact,
        shown=verdict.shown,
    )
