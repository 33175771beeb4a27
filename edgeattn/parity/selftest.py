"""Would parity have noticed? Damaged copies of each artifact go through the second hop, which must refuse them."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.formats import FORMATS
from edgeattn.parity.check import check_artifact
from edgeattn.parity.claims import in_arithmetic
from edgeattn.parity.mutation import EDITORS, _pictures, mutants, same
from edgeattn.parity.verdicts import NotChecked, Row
from edgeattn.precision import FP32
from edgeattn.runtimes import Session, backends
from edgeattn.system.progress import Progress, silent
from edgeattn.system.vendor_errors import first_line

# For each artifact and kind of mutation: the first, the middle and the last weight that it suits.
MUTANTS_PER_KIND = 3

# killed: a row of hop two failed. refused: the runtime does not run the file. equivalent: on every case, the outputs
# are those of the artifact bit for bit. survived: the outputs differ, and parity passes them.
Outcome = Literal["killed", "refused", "equivalent", "survived"]


@dataclass(frozen=True)
class Judgement:
    """``case`` is the golden case that killed the mutant; ``noise_units`` is its largest error, if it has a number."""

    verdict: Outcome
    reason: str
    case: str | None = None
    noise_units: float | None = None


@dataclass(frozen=True)
class Trial:
    """One mutant in one runtime."""

    candidate: str
    format: str
    runtime: str
    mutation: str
    place: str
    judgement: Judgement


@dataclass(frozen=True)
class SelfTest:
    trials: tuple[Trial, ...]
    not_run: tuple[NotChecked, ...]

    @property
    def passed(self) -> bool:
        """Whether every mutant was noticed. A format where all were equivalent fails: it proves nothing."""
        return all(rate == 1 for rate in self.kill_rates.values())

    @property
    def kill_rates(self) -> dict[str, float]:
        """By format: the share that was noticed, of the mutants that compute another function; 0 if there was none."""
        rates = {}
        for name in sorted({trial.format for trial in self.trials}):
            verdicts = Counter(trial.judgement.verdict for trial in self.trials if trial.format == name)
            noticed = verdicts["killed"] + verdicts["refused"]
            rates[name] = noticed / (noticed + verdicts["survived"]) if noticed else 0.0
        return rates


@dataclass(frozen=True)
class _Subject:
    """An artifact, the runtime that runs it, the cases, and the channels of the picture that it takes: 0 for none."""

    artifact: Artifact
    runtime: str
    open: Callable[[Path], AbstractContextManager[Session]]
    cases: dict[str, GoldenCase]
    channels: int = 0


def self_test(bundle: Bundle, progress: Progress = silent, *, chosen: Sequence[str] = ()) -> SelfTest:
    """Mutate copies of every artifact of ``bundle`` and run each in every runtime that is installed, or in the backends
    ``chosen``; the bundle itself stays unchanged.

    Raises:
        BadInputError: an artifact fails unchanged, or fits no case, or holds nothing that could be mutated: its
            mutants would prove nothing.
        MissingError: no artifact can be run here.
    """
    cases = golden_cases(bundle)
    channels = sum(t.shape[1] or 0 for t in bundle.manifest.inputs if t.name == bundle.manifest.picture)
    trials: list[Trial] = []
    not_run: list[NotChecked] = []
    for artifact in bundle.manifest.artifacts:
        if artifact.format not in EDITORS.names:
            not_run.append(NotChecked(artifact.file.path, "-", f"{artifact.format} files cannot be mutated"))
            continue
        if artifact.precision != FP32.name:
            reason = f"{artifact.precision} rounds by more than these damages do: they are done to the fp32 artifact"
            not_run.append(NotChecked(artifact.file.path, "-", reason))
            continue
        for backend in backends(artifact.format, chosen):
            if backend.missing:
                not_run.append(NotChecked(artifact.file.path, backend.label, backend.missing))
                continue
            try:
                judged = in_arithmetic(artifact, backend.arithmetic)
                subject = _Subject(judged, backend.label, backend.open, cases, channels)
                trials += _trials(subject, bundle.path(artifact.file), progress)
            except MissingError as error:
                not_run.append(NotChecked(artifact.file.path, backend.label, str(error)))
    if not trials:
        raise MissingError(f"no artifact could be run here: {not_run[0].reason}")
    return SelfTest(tuple(trials), tuple(not_run))


def _trials(subject: _Subject, path: Path, progress: Progress) -> Iterator[Trial]:
    """Every mutant of the file ``path``, made in a scratch folder and run."""
    artifact, runtime = subject.artifact, subject.runtime
    original = _run(subject, path)
    if not original.rows:
        raise BadInputError(f"no golden case has the shape that {artifact.file.path} takes; export the bundle again")
    if not all(row.passed for row in original.rows):
        raise BadInputError(f"{artifact.file.path} fails parity in {runtime} as it is; export the bundle again")
    editor = EDITORS.get(artifact.format)
    weights = editor.weights(path)
    planned = mutants(weights, editor.edits(path), MUTANTS_PER_KIND)
    if subject.channels:
        axis = 1 if FORMATS.get(artifact.format).layout == "channels_first" else -1
        planned += _pictures.mutants(weights, channels=subject.channels, axis=axis)
    if not planned:
        raise BadInputError(f"{artifact.file.path} has no weight and no operator that the self-test could damage")
    progress.plan(len(planned))
    with tempfile.TemporaryDirectory() as folder:
        for number, mutant in enumerate(planned):
            progress(f"{artifact.file.path} in {runtime}: {mutant.mutation}, {mutant.place}")
            if mutant.unchanged:
                judgement = Judgement("equivalent", mutant.unchanged)
            else:
                copy = Path(folder) / f"{number}{path.suffix}"
                editor.write(path, copy, mutant.replaced, mutant.edit)
                judgement = _judge(subject, copy, original)
                shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
            yield Trial(artifact.file.path, artifact.format, runtime, mutant.mutation, mutant.place, judgement)


@dataclass(frozen=True)
class _Outcome:
    """The rows of hop two for a file, and all outputs, in the order of the runs."""

    rows: list[Row]
    outputs: list[Arrays]


def _judge(subject: _Subject, copy: Path, original: _Outcome) -> Judgement:
    try:
        outcome = _run(subject, copy)
    except ArtifactError as error:
        return Judgement("refused", str(error))
    if failed := next((row for row in outcome.rows if not row.passed), None):
        return Judgement("killed", failed.reason, failed.case, failed.max_noise_units)
    noise = max((row.max_noise_units for row in outcome.rows if row.max_noise_units is not None), default=None)
    if _identical(outcome.outputs, original.outputs):
        return Judgement("equivalent", "in every case the outputs are the same, bit for bit", noise_units=noise)
    return Judgement("survived", "its outputs differ, within the limits", noise_units=noise)


def _run(subject: _Subject, path: Path) -> _Outcome:
    """Hop two, case by case, until one fails."""
    rows: list[Row] = []
    with subject.open(path) as session:
        recording = _Recording(session)
        for case, golden in subject.cases.items():
            rows += check_artifact(subject.artifact, subject.runtime, recording, {case: golden})
            if not all(row.passed for row in rows):
                break
    return _Outcome(rows, recording.outputs)


class _Recording(Session):
    """A session that records its outputs. An error during a run is a refusal, as one during loading is."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.signature = session.signature
        self.outputs: list[Arrays] = []

    def run(self, inputs: Arrays) -> Arrays:
        try:
            results = self.session.run(inputs)
        except Exception as error:
            raise ArtifactError(f"the runtime fails: {first_line(error)}") from error
        self.outputs.append(results)
        return results


def _identical(runs_a: list[Arrays], runs_b: list[Arrays]) -> bool:
    return len(runs_a) == len(runs_b) and all(
        a.keys() == b.keys() and all(same(a[name], b[name]) for name in a) for a, b in zip(runs_a, runs_b, strict=True)
    )
