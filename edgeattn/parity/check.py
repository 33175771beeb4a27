"""Parity of a bundle, in two hops: reference to lowered form, lowered form to artifact in its runtime."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path

import numpy as np

from edgeattn.bundle.golden import GoldenCase, HeldOut, golden_cases, held_out
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.records import Likeness
from edgeattn.bundle.tensors import Arrays, from_edge
from edgeattn.errors import ArtifactError, MissingError, TargetError
from edgeattn.parity.accuracy import Accuracy, evaluate
from edgeattn.parity.battery import depends
from edgeattn.parity.metrics import EXACT_LIMIT, Comparison, compare, relative_error
from edgeattn.parity.verdicts import NotRun, Report, Row, worst
from edgeattn.precision import FP32
from edgeattn.runtimes import RunEach, Session, Signature, backends
from edgeattn.system.progress import Progress, silent
from edgeattn.targets import Connection, Job

# The case with a batch of two, for artifacts whose batch size is free.
BATCH_OF_TWO = "batch_of_two"


@dataclass
class _Found:
    """What is known so far."""

    rows: list[Row] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    accuracy: list[Accuracy] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def report(self) -> Report:
        return Report(tuple(self.rows), tuple(self.not_run), self.versions, tuple(self.accuracy), tuple(self.warnings))


def verify(bundle: Bundle, progress: Progress = silent, *, connection: Connection | None = None) -> Report:
    """Check every artifact of ``bundle`` in every runtime that is here, or on the target of ``connection``.

    ``say`` is told of :func:`steps`, which the caller has planned.

    Raises:
        ArtifactError: a file of the bundle cannot be read, or has another signature than the manifest says.
        TargetError: a run on the target came to nothing.
    """
    cases = golden_cases(bundle)
    labelled = held_out(bundle)
    found = _Found(rows=_hop_one(bundle, cases), warnings=list(_warnings(bundle, cases)))
    if connection:
        _on_target(bundle, cases, labelled, connection, found, progress)
        return found.report()
    for artifact in bundle.manifest.artifacts:
        for backend in backends(artifact.format):
            if backend.missing:
                found.not_run.append(NotRun(artifact.file.path, backend.label, backend.missing))
                continue
            progress(f"{artifact.file.path} in {backend.label}")
            try:
                with backend.open(bundle.path(artifact.file)) as session:
                    _check(artifact, backend.label, session.signature, _run_each(session), cases, labelled, found)
            except MissingError as error:  # the runtime is here, but not all that this artifact needs of it
                found.not_run.append(NotRun(artifact.file.path, backend.label, str(error)))
            else:
                found.versions[backend.label] = backend.runtime.version()
    return found.report()


def steps(formats: Iterable[str], connection: Connection | None = None) -> int:
    """How many steps :func:`verify` has for artifacts of these formats, each named as often as it has artifacts."""
    if connection:
        return sum(len(connection.runtimes.get(name, ())) for name in formats)
    return sum(not backend.missing for name in formats for backend in backends(name))


def _warnings(bundle: Bundle, cases: dict[str, GoldenCase]) -> Iterator[str]:
    if bundle.manifest.calibration and bundle.manifest.calibration.warning:
        yield bundle.manifest.calibration.warning
    for output in bundle.manifest.outputs:
        if not depends([golden.reference("fp64")[output.name] for golden in cases.values()]):
            yield (
                f"output {output.name} does not depend on the input (or is too small to tell): that it is the same "
                "proves nothing; give weights with which the model works"
            )


@dataclass(frozen=True)
class _Ask:
    """What is to be run and judged: the inputs of a case, in parts that are run one by one."""

    case: str
    golden: GoldenCase
    parts: tuple[Arrays, ...]


def _check(
    artifact: Artifact,
    label: str,
    signature: Signature,
    run_each: RunEach,
    cases: dict[str, GoldenCase],
    labelled: HeldOut | None,
    found: _Found,
) -> None:
    """The second hop of one artifact in one runtime."""
    _check_signature(artifact, signature)
    asks = list(_asks(artifact, label, signature, cases, found))
    results = iter(run_each([part for ask in asks for part in ask.parts]))
    for ask in asks:
        parts = [next(results) for _ in ask.parts]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts[1:] else parts[0]
        found.rows += _hop_two(artifact, label, ask.case, ask.golden, whole)
    if labelled:
        found.accuracy.append(evaluate(artifact, label, signature, run_each, labelled))


def _asks(
    artifact: Artifact, label: str, signature: Signature, cases: dict[str, GoldenCase], found: _Found
) -> Iterator[_Ask]:
    runs = 0
    for case, golden in cases.items():
        given = golden.inputs_for(artifact)
        if case in artifact.beyond:
            found.not_run.append(NotRun(artifact.file.path, label, f"case {case}: {artifact.beyond[case]}"))
            continue
        if not signature.accepts(given):
            found.not_run.append(NotRun(artifact.file.path, label, f"case {case} is of another shape"))
            continue
        yield _Ask(case, golden, (given,))
        runs += 1
        halves = tuple({name: x[i : i + 1] for name, x in given.items()} for i in range(2))
        if case == BATCH_OF_TWO and all(map(signature.accepts, halves)):
            yield _Ask(f"{case}, by halves", golden, halves)
    first, golden = next(iter(cases.items()))
    if runs > 1 and signature.accepts(given := golden.inputs_for(artifact)):
        # State that leaks from run to run has been seen on phones: the first case once more, after all others.
        yield _Ask(f"{first}, again after {runs} runs", golden, (given,))


def _run_each(session: Session) -> RunEach:
    return lambda given: map(session.run, given)


def check_artifact(artifact: Artifact, runtime: str, session: Session, cases: dict[str, GoldenCase]) -> list[Row]:
    """The second hop alone, of a file that stands for ``artifact`` and is opened as ``session``."""
    found = _Found()
    _check(artifact, runtime, session.signature, _run_each(session), cases, None, found)
    return found.rows


def likeness(artifact: Artifact, golden: GoldenCase, first: Arrays, last: Arrays) -> Likeness:
    """The second hop alone, of outputs that were measured elsewhere: the worst of the first and of the last run, which
    is empty if it was not reached."""
    rows = {
        which: worst(_hop_two(artifact, "", "", golden, outputs))
        for which, outputs in (("first", first), ("last", last))
        if outputs or which == "first"
    }
    row = worst(rows.values())
    which = next(name for name, found in rows.items() if found is row)
    return Likeness(
        row.passed,
        "" if row.passed else f"{row.output} of the {which} run: {row.reason}",
        row.max_noise_units,
        row.rms_noise_units,
        row.sqnr_db,
    )


class _NoOutputsError(Exception):
    """A vendor's own benchmark has run, which keeps its outputs."""


def _on_target(
    bundle: Bundle,
    cases: dict[str, GoldenCase],
    labelled: HeldOut | None,
    connection: Connection,
    found: _Found,
    progress: Progress,
) -> None:
    """The second hop on a target, in all of its runtimes: one start for the cases, and one for the held-out inputs."""
    for artifact in bundle.manifest.artifacts:
        path, place = artifact.file.path, connection.place
        if artifact.format not in connection.runtimes:
            found.not_run.append(NotRun(path, place, f"{place} does not run {artifact.format}"))
        for runtime in connection.runtimes.get(artifact.format, ()):
            label = f"{runtime} on {place}"
            progress(f"{path} in {label}")
            signature = Signature({tensor.name: tensor.shape for tensor in artifact.inputs}, ())
            run_each = partial(_run_there, bundle.path(artifact.file), runtime, label, connection, found)
            try:
                _check(artifact, label, signature, run_each, cases, labelled, found)
            except _NoOutputsError:
                found.not_run.append(NotRun(path, label, "it gives no outputs, times only"))


def _run_there(
    path: Path, runtime: str, label: str, connection: Connection, found: _Found, given: Sequence[Arrays]
) -> list[Arrays]:
    """Outputs on a target, all of one start; a warning if its runs are not alike."""
    if not given:
        return []
    seen = connection.run(Job(path, given[0], warmup=0, runs=1, runtime=runtime, then=tuple(given[1:])))
    if seen.interrupted:
        raise KeyboardInterrupt
    if seen.stopped:
        raise TargetError(f"{path.name} stopped on {connection.place}: {seen.stopped}")
    if not seen.last:
        raise _NoOutputsError
    found.versions[label] = seen.runtime_version
    if any(not np.array_equal(seen.first[name], seen.last[name], equal_nan=True) for name in seen.last):
        found.warnings.append(f"{path.name} gave other outputs in its last run than in its first, in {label}")
    # Some drivers are right the first time only, so it is the last run that is judged.
    return [seen.last, *seen.then]


def require_a_check(bundle: Bundle, report: Report) -> None:
    """Answer with what is missing if not one artifact could be run."""
    if bundle.manifest.artifacts and not report.artifacts_checked:
        raise MissingError(f"no artifact could be run here: {report.not_run[0].reason}")


def _hop_one(bundle: Bundle, cases: dict[str, GoldenCase]) -> list[Row]:
    rows = []
    for layout in bundle.manifest.lowering:
        for case, golden in cases.items():
            for output in bundle.manifest.outputs:
                oracle = golden.reference("fp64")[output.name]
                exact = golden.lowered(layout, "fp64")[output.name]
                verdict = compare(
                    oracle=oracle,
                    reference=golden.reference("fp32")[output.name],
                    candidate=golden.lowered(layout, "fp32")[output.name],
                    precision=FP32.name,
                )
                error = relative_error(reference=oracle, candidate=exact) if oracle.shape == exact.shape else None
                row = _row("lowering", layout, "pytorch", case, output.name, verdict, error)
                rows.append(row)
    return rows


def _hop_two(artifact: Artifact, runtime: str, case: str, golden: GoldenCase, results: Arrays) -> list[Row]:
    # The lowered form in float64 is the oracle, so that this hop answers for the converter and runtime alone;
    # the noise floor is the reference's, so that both hops speak in the same units.
    oracles, references = golden.oracle_for(artifact), golden.reference_for(artifact)
    rows = []
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
                judged=_is_judged(artifact, case),
            )
        rows.append(_row("conversion", artifact.file.path, runtime, case, output.name, verdict))
    return rows


def _is_judged(artifact: Artifact, case: str) -> bool:
    """Whether a case, the example if it has no name, is of the kind that the artifact was calibrated on."""
    return artifact.judged_on is None or (case.split(",")[0] or "example") in artifact.judged_on


def _check_signature(artifact: Artifact, found: Signature) -> None:
    declared = {tensor.name for tensor in artifact.inputs}
    if declared != found.inputs.keys():
        raise ArtifactError(
            f"{artifact.file.path} takes {', '.join(found.inputs)}, but its manifest says {', '.join(sorted(declared))}"
        )


def _row(
    hop: str,
    candidate: str,
    runtime: str,
    case: str,
    output: str,
    verdict: Comparison,
    exact: float | None = None,
) -> Row:
    passed, reason = verdict.passed, verdict.reason
    if exact is not None and not exact <= EXACT_LIMIT:
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
    )
