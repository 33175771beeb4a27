"""A bundle as a user of Python has it: what is in it, and what can be asked of it."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape

from edgeattn import targets
from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.manifest import Manifest, Tensor
from edgeattn.errors import ArtifactError, BadInputError
from edgeattn.inspection import sandbox
from edgeattn.inspection.inspect import inspect_apart
from edgeattn.interface import render
from edgeattn.interface.results import (
    InspectionResult,
    LayersResult,
    ParityResult,
    ProfileResult,
    ReportResult,
    Result,
    SelfTestResult,
)
from edgeattn.parity import check, layers, selftest
from edgeattn.parity.recommend import Recommendation, recommend, sentence
from edgeattn.parity.verdicts import stored
from edgeattn.profile import devices
from edgeattn.profile.run import Options
from edgeattn.report import forms, gather
from edgeattn.report.content import Content
from edgeattn.system import files, plugins
from edgeattn.system.progress import Progress, silent

# Points of top-1 that a recommended artifact may lose.
MAX_ACCURACY_DROP = 0.5


@dataclass(frozen=True)
class Artifact:
    """One deployable file: ``path`` is the file (or the folder of an .mlpackage), ``inputs`` and ``outputs`` are named
    and laid out as the file declares them."""

    path: Path
    format: str
    precision: str
    size_bytes: int
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, repr=False)
class Bundle(Result):
    """An exported model: artifacts, golden inputs, and what the reference answers to them, in one folder.

    :func:`edgeattn.deploy` makes one, :meth:`open` reads one. It is a path too: ``Path(bundle)`` is its folder. When it
    is printed, it shows what `edgeattn export` shows; ``rows()`` has one for each artifact.

    It wraps the data of :class:`edgeattn.bundle.manifest.Bundle` (a folder and its manifest), which the rooms below
    pass to each other, so that measuring and reporting stand above what they read.

    Every method takes ``progress``, which is called with each step that begins. Nothing is printed. Errors are those of
    :mod:`edgeattn.errors`; their sentences name options as the command line spells them: ``--force`` is
    ``force=True``.
    """

    held: bundles.Bundle

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Bundle":
        """Read a bundle: its manifest, and that no file of it has changed.

        Raises:
            ArtifactError: in one sentence, what is wrong with it.
        """
        return cls(bundles.load(Path(path)))

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.held.folder

    @property
    def manifest(self) -> Manifest:
        """All that is known of it: inputs, outputs, lowering, hashes, versions of the tools."""
        return self.held.manifest

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        return tuple(
            Artifact(
                self.held.path(a.file), a.format, a.precision, a.file.size_bytes, a.file.sha256, a.inputs, a.outputs
            )
            for a in self.manifest.artifacts
        )

    def artifact(self, format: str, precision: str = "fp32") -> Artifact:
        """The artifact of a format (onnx, tflite, coreml) in a precision.

        Raises:
            BadInputError: the bundle has none.
        """
        for artifact in self.artifacts:
            if (artifact.format, artifact.precision) == (format, precision):
                return artifact
        there = ", ".join(f"{a.format} {a.precision}" for a in self.artifacts)
        raise BadInputError(f"{self.path} has no artifact in {format} {precision}; it has {there}")

    @property
    def parity_at_export(self) -> ParityResult:
        """What parity found when the bundle was made; nothing is run.

        Raises:
            ArtifactError: the manifest holds no parity that can be read.
        """
        return ParityResult(stored(self.held)[0])

    @property
    def refused(self) -> dict[str, str]:
        """By format, why its converter refused the module: its artifact was not made."""
        return stored(self.held)[1]

    @property
    def passed(self) -> bool:
        """Whether at export every artifact was made, and was the same model."""
        report, refused = stored(self.held)
        return report.passed and not refused

    def recommended(self, max_accuracy_drop: float = MAX_ACCURACY_DROP) -> tuple[Recommendation, ...]:
        """The smallest artifact of each format that passed parity at export, and lost on the labelled inputs (if there
        are any) at most ``max_accuracy_drop`` points of top-1."""
        return recommend(self.held, stored(self.held)[0], max_accuracy_drop)

    def shown(self, max_accuracy_drop: float = MAX_ACCURACY_DROP) -> list[Any]:
        lines: list[Any] = [render.files(self.held), render.lowering(self.held)]
        try:
            lines += self.parity_at_export.shown()
            lines += (escape(f"{what} was not made: {reason}") for what, reason in self.refused.items())
            if len({artifact.precision for artifact in self.artifacts}) > 1:
                lines.append(escape(sentence(self.recommended(max_accuracy_drop), max_accuracy_drop)))
        except ArtifactError as error:  # of a bundle by another hand: the rest is shown all the same
            lines.append(escape(str(error)))
        return lines

    def rows(self) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in asdict(artifact).items() if key not in ("inputs", "outputs")}
            for artifact in self.artifacts
        ]

    @cached_property
    def _tried(self) -> None:
        """Once: that no artifact ends the process which opens it."""
        sandbox.check(*(artifact.path for artifact in self.artifacts), run=True)

    def parity(
        self, target: str | None = None, *, settings: Mapping[str, str] | None = None, progress: Progress = silent
    ) -> ParityResult:
        """Run every artifact on the golden inputs and compare it with the reference.

        Args:
            target: where to run it, as `edgeattn parity --target` takes it; None is every runtime that is here.
            settings: of the target, such as ``{"cpu": "cortex-a53"}`` for emulated-arm.
            progress: is called with each step that begins.

        Raises:
            ArtifactError: a file cannot be read, or is another one than the manifest says.
            BadInputError: there is no such target, or it has no such setting.
            MissingError: not one artifact could be run.
            TargetError: a run on the target came to nothing.
        """
        if settings and not target:
            raise BadInputError(f"{next(iter(settings))} is a setting of a target: name one")
        if not target:
            _ = self._tried
        reached = targets.connect(target, settings or {}, progress) if target else nullcontext()
        with reached as connection:
            progress.plan(check.steps([artifact.format for artifact in self.artifacts], connection))
            report = check.verify(self.held, progress, connection=connection)
        check.require_a_check(self.held, report)
        return ParityResult(report)

    def layers(self, *, progress: Progress = silent) -> LayersResult:
        """Compare the values inside the fp32 artifacts with those inside the lowered module: where an error begins.

        Raises:
            ArtifactError: the bundle holds no layers, or a file of it cannot be read.
            MissingError: no artifact could be looked into.
        """
        _ = self._tried
        return LayersResult(layers.compare(self.held, progress))

    def self_test(self, *, progress: Progress = silent) -> SelfTestResult:
        """Damage copies of the fp32 artifacts, a hundred or so: would parity have noticed?

        Raises:
            BadInputError: an artifact fails parity as it is, or has nothing that could be damaged.
            MissingError: not one artifact could be run.
        """
        _ = self._tried
        return SelfTestResult(selftest.self_test(self.held, progress))

    def profile(
        self,
        target: str = "host",
        *,
        runs: int | None = None,
        threads: int | Sequence[int] = 1,
        warmup: int | Literal["auto"] | None = None,
        runtimes: str | Sequence[str] = (),
        operators: bool = True,
        settings: Mapping[str, str] | None = None,
        out: str | os.PathLike[str] | None = None,
        progress: Progress = silent,
    ) -> ProfileResult:
        """Measure every artifact, those of one runtime in turn (A B A B).

        Args:
            target: where, as `edgeattn profile --target` takes it.
            runs: timed runs of each artifact; None is what suits the target (here 50).
            threads: of the runtime; several numbers are measured one after the other.
            warmup: runs before the first that is timed; "auto" goes on until the times settle.
            runtimes: of the target's; none are all.
            operators: time by operator too, where the runtime gives it.
            settings: of the target, such as ``{"cores": "4-7"}`` for android.
            out: a .json that the records are written to, as they come.
            progress: is called with each step that begins.

        Raises:
            BadInputError: a number, target, runtime or setting that cannot be; or ``out`` cannot be written.
            MissingError: the target runs none of the artifacts.
            TargetError: all runs came to nothing.
            KeyboardInterrupt: with what was measured until then in ``out``.
        """
        several = (threads,) if isinstance(threads, int) else tuple(dict.fromkeys(threads))
        least = {"runs": runs, "threads": min(several, default=0)}
        for name, number in least.items():
            if number is not None and number < 1:
                raise BadInputError(f"{name} must be at least 1, not {number}")
        if isinstance(warmup, int) and warmup < 0:
            raise BadInputError(f"warmup must be 'auto' or a number of runs, not {warmup}")
        chosen = (runtimes,) if isinstance(runtimes, str) else tuple(runtimes)
        options = Options(target, several, runs, warmup, chosen, operators)
        found = devices.measure(self.held, options, settings or {}, Path(out) if out else None, progress)
        if found.interrupted:
            raise KeyboardInterrupt
        return ProfileResult(found)

    def inspect(self, *, max_layout_ops: int | None = None) -> InspectionResult:
        """Count operators, layout ops, bytes moved and multiply-adds of every artifact, as saved and as optimised.

        Args:
            max_layout_ops: ``passed`` is False if an artifact has more.

        Raises:
            ArtifactError: a file cannot be read.
            MissingError: the package that reads a format is not installed.
        """
        return InspectionResult(tuple(inspect_apart(artifact.path) for artifact in self.artifacts), max_layout_ops)

    def report(
        self, path: str | os.PathLike[str], *measured: ProfileResult, layers: bool = True, progress: Progress = silent
    ) -> ReportResult:
        """Write a report: the verdict, the figures, pictures.

        Args:
            path: its ending (.html, .md, .csv or .json) chooses the form.
            measured: results of :meth:`profile` that are not in the bundle's own records.json.
            layers: compare the values inside the artifacts too: a minute for a large model.
            progress: is called with each step that begins.

        Raises:
            BadInputError: the ending is no form, or the file cannot be written.
            MissingError: a package of the extra ``report`` is not installed.
        """
        contents = [Content(records=one.records, not_run=one.not_run) for one in measured]
        return write_report([self.path, *contents], Path(path), layers=layers, progress=progress)


def write_report(
    sources: Sequence[Path | Content], out: Path, *, layers: bool = True, progress: Progress = silent
) -> ReportResult:
    """As :meth:`Bundle.report`, of several bundles, files of records, and what is there already.

    Raises: as :meth:`Bundle.report`; ArtifactError, if one cannot be read, or there is nothing in them.
    """
    forms.check(out)
    files.check(out)
    plugins.require("matplotlib", "jinja2", extra="report")
    document = gather.write(gather.gather(sources, progress, inside=layers), out, progress)
    return ReportResult(out, document)
