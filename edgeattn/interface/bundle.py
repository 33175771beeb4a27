"""The bundle of the Python interface: its artifacts, and methods that check, measure and report."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape

from edgeattn import runtimes, targets
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
from edgeattn.snippets import write
from edgeattn.system import files, plugins
from edgeattn.system.progress import Progress, silent

# Points of top-1 that a recommended artifact may lose.
MAX_ACCURACY_DROP = 0.5


@dataclass(frozen=True)
class Artifact:
    """One deployable file: ``path`` is the file, or the folder of an .mlpackage or .aimodel; ``inputs`` and ``outputs``
    have the names and layouts that the file declares."""

    path: Path
    format: str
    precision: str
    size_bytes: int
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, repr=False)
class Bundle(Result):
    """An exported model: artifacts, golden inputs, and the reference's outputs, in one folder.

    :func:`edgeattn.deploy` makes one, :meth:`open` reads one. It is a path too: ``Path(bundle)`` is its folder.
    Printed, it shows what `edgeattn export` shows; ``rows()`` has one row for each artifact.

    It wraps :class:`edgeattn.bundle.manifest.Bundle`, the plain data (a folder and its manifest) that the rooms below
    use.

    Every method calls ``progress`` with each step that begins. Nothing is printed. Errors are those of
    :mod:`edgeattn.errors`; their messages name options as on the command line: ``--force`` is ``force=True``.
    """

    data: bundles.Bundle

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Bundle":
        """Read a bundle's manifest, and check that no file has changed.

        Raises:
            ArtifactError: the folder is no bundle, or is damaged; one sentence says how.
        """
        return cls(bundles.load(Path(path)))

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.data.folder

    @property
    def manifest(self) -> Manifest:
        """The manifest: inputs, outputs, lowering, hashes, versions of the tools."""
        return self.data.manifest

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences of the export that made it: what of the model was changed, and why."""
        return self.manifest.notes

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        return tuple(
            Artifact(
                self.data.path(a.file), a.format, a.precision, a.file.size_bytes, a.file.sha256, a.inputs, a.outputs
            )
            for a in self.manifest.artifacts
        )

    def artifact(self, format: str, precision: str = "fp32") -> Artifact:
        """The artifact of a format (onnx, tflite, coreml, coreai, executorch) in a precision.

        Raises:
            BadInputError: the bundle has none.
        """
        for artifact in self.artifacts:
            if (artifact.format, artifact.precision) == (format, precision):
                return artifact
        available = ", ".join(f"{a.format} {a.precision}" for a in self.artifacts)
        raise BadInputError(f"{self.path} has no artifact in {format} {precision}; it has {available}")

    @property
    def parity_at_export(self) -> ParityResult:
        """The result of parity at export; nothing is run.

        Raises:
            ArtifactError: the manifest holds no valid result.
        """
        return ParityResult(stored(self.data)[0])

    @property
    def refused(self) -> dict[str, str]:
        """The formats without an artifact, each with the reason why its converter refused the module."""
        return stored(self.data)[1]

    @property
    def passed(self) -> bool:
        """Whether at export every artifact was made, and every one that could be judged there was shown to be the same
        model."""
        report, refused = stored(self.data)
        return report.passed_here and not refused

    def recommended(self, max_accuracy_drop: float = MAX_ACCURACY_DROP) -> tuple[Recommendation, ...]:
        """The smallest artifact of each format that passed parity at export, and lost on the labelled inputs (if there
        are any) at most ``max_accuracy_drop`` points of top-1."""
        return recommend(self.data, stored(self.data)[0], max_accuracy_drop)

    def shown(self, max_accuracy_drop: float = MAX_ACCURACY_DROP) -> list[Any]:
        lines: list[Any] = [render.files(self.data), render.lowering(self.data)]
        try:
            report = self.parity_at_export.report
            lines += render.parity(report)
            lines += (escape(f"{what} was not made: {reason}") for what, reason in self.refused.items())
            if len({artifact.precision for artifact in self.artifacts}) > 1:
                lines.append(escape(sentence(self.recommended(max_accuracy_drop), max_accuracy_drop)))
        except ArtifactError as error:  # another tool may have made the bundle: show the rest
            lines.append(escape(str(error)))
            report = None
        lines += (escape(f"Note: {note}") for note in self.notes)
        return [*lines, *(render.verdict(report) if report else ())]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in asdict(artifact).items() if key not in ("inputs", "outputs")}
            for artifact in self.artifacts
        ]

    @cached_property
    def _artifacts_open(self) -> None:
        """Checks once, in a separate process, that opening an artifact does not crash."""
        sandbox.check(*(artifact.path for artifact in self.artifacts), run=True)

    def parity(
        self,
        target: str | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        backends: Sequence[str] = (),
        held_out: int | None = None,
        progress: Progress = silent,
    ) -> ParityResult:
        """Run every artifact on the golden inputs and compare it with the reference.

        Args:
            target: where to run it, as for `edgeattn parity --target`; None is every runtime on this machine.
            settings: settings of the target, such as ``{"cpu": "cortex-a53"}`` for emulated-arm.
            backends: of this machine, by name: "litert gpu", say, which is run only where it is asked for; none means
                all others.
            held_out: judge the accuracy on so many labelled inputs, the first ones; None is all, but for 500 on targets
                and in Core AI's interpreter.
            progress: called with each step that begins.

        Raises:
            ArtifactError: a file cannot be read, or is not the one in the manifest.
            BadInputError: there is no such target or backend, or the target has no such setting.
            MissingError: no artifact could be run.
            TargetError: a run on the target failed.
        """
        if settings and not target:
            raise BadInputError(f"{next(iter(settings))} is a setting of a target: name one")
        if target and backends:
            raise BadInputError("backends are of this machine: give them, or a target")
        runtimes.check(backends)
        if not target:
            _ = self._artifacts_open
        context = targets.connect(target, settings or {}, progress) if target else nullcontext()
        with context as connection:
            progress.plan(check.steps([artifact.format for artifact in self.artifacts], connection, backends))
            report = check.verify(self.data, progress, connection=connection, chosen=backends, most_labelled=held_out)
        check.require_a_check(self.data, report)
        return ParityResult(report)

    def layers(self, *, backends: Sequence[str] = (), progress: Progress = silent) -> LayersResult:
        """Compare the values inside the fp32 artifacts with those inside the lowered module: where an error begins.

        Args:
            backends: as for :meth:`parity`.
            progress: called with each step that begins.

        Raises:
            ArtifactError: the bundle holds no layers, or a file of it cannot be read.
            MissingError: no artifact's values could be read.
        """
        runtimes.check(backends)
        _ = self._artifacts_open
        return LayersResult(layers.compare(self.data, progress, chosen=backends))

    def self_test(self, *, backends: Sequence[str] = (), progress: Progress = silent) -> SelfTestResult:
        """Damage about a hundred copies of the fp32 artifacts, and check that parity notices each.

        Args:
            backends: as for :meth:`parity`.
            progress: called with each step that begins.

        Raises:
            BadInputError: an artifact fails parity undamaged, or has nothing to damage; there is no such backend.
            MissingError: no artifact could be run.
        """
        runtimes.check(backends)
        _ = self._artifacts_open
        return SelfTestResult(selftest.self_test(self.data, progress, chosen=backends))

    def profile(
        self,
        target: str = "host",
        *,
        runs: int | None = None,
        threads: int | Sequence[int] = 1,
        warmup: int | Literal["auto"] | None = None,
        runtimes: str | Sequence[str] = (),
        operators: bool = True,
        starts: int = 1,
        seconds: float | None = None,
        settings: Mapping[str, str] | None = None,
        out: str | os.PathLike[str] | None = None,
        progress: Progress = silent,
    ) -> ProfileResult:
        """Measure every artifact; runs in one runtime are interleaved (A B A B).

        Args:
            target: where to run, as for `edgeattn profile --target`.
            runs: timed runs of each artifact; None is the target's default (50 on this machine).
            threads: threads of the runtime; several numbers are measured one after the other.
            warmup: untimed runs before the first timed one; "auto" lasts until the times settle.
            runtimes: runtimes of the target; none means all.
            operators: time by operator too, if the runtime supports it.
            starts: processes to measure one after another, with ``runs`` each.
            seconds: measure the artifacts of each runtime for so long, minute by minute, and not ``runs`` times.
            settings: settings of the target, such as ``{"cores": "4-7"}`` for android.
            out: a .json file for the records, written as they come.
            progress: called with each step that begins.

        Raises:
            BadInputError: a number, target, runtime or setting is invalid, or ``out`` cannot be written.
            MissingError: the target runs none of the artifacts.
            TargetError: all runs failed.
            KeyboardInterrupt: the user ended it; ``out`` has the records so far.
        """
        thread_counts = (threads,) if isinstance(threads, int) else tuple(dict.fromkeys(threads))
        counts = {"runs": runs, "starts": starts, "threads": min(thread_counts, default=0)}
        for name, number in counts.items():
            if number is not None and number < 1:
                raise BadInputError(f"{name} must be at least 1, not {number}")
        if isinstance(warmup, int) and warmup < 0:
            raise BadInputError(f"warmup must be 'auto' or a number of runs, not {warmup}")
        runtime_names = (runtimes,) if isinstance(runtimes, str) else tuple(runtimes)
        options = Options(target, thread_counts, runs, warmup, runtime_names, operators, starts=starts, seconds=seconds)
        result = devices.measure(self.data, options, settings or {}, Path(out) if out else None, progress)
        if result.interrupted:
            raise KeyboardInterrupt
        return ProfileResult(result)

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
        self,
        path: str | os.PathLike[str],
        *measured: ProfileResult,
        layers: bool = True,
        backends: bool = False,
        published: bool = False,
        progress: Progress = silent,
    ) -> ReportResult:
        """Write a report: the verdict, the figures, pictures.

        Args:
            path: its ending (.html, .md, .csv or .json) chooses the form.
            measured: results of :meth:`profile` that are not in the bundle's records.json.
            layers: compare the values inside the artifacts too: a minute for a large model.
            backends: ask every backend of this machine which operators it takes.
            published: show what others have published of MobileViTv2 and its relatives, in sections of its own.
            progress: called with each step that begins.

        Raises:
            BadInputError: no form has this ending, or the file cannot be written.
            MissingError: a package of the extra ``report`` is not installed.
        """
        contents = [Content(records=result.records, not_run=result.not_run) for result in measured]
        return write_report(
            [self.path, *contents],
            Path(path),
            layers=layers,
            backends=backends,
            published=published,
            progress=progress,
        )

    def snippet(
        self, language: str, artifact: str | None = None, *, threads: int | None = None, delegate: str | None = None
    ) -> str:
        """The program in ``language`` (kotlin, swift, javascript, cpp, python) that loads an artifact and runs it.

        Args:
            artifact: the name of its file; None is the recommended one of the first format that the language runs.
            threads: of the runtime; None is 1.
            delegate: what runs the operators: "gpu", say; None is the CPU, or all units of Core ML.

        Raises:
            BadInputError: there is no such language, artifact or delegate, or they do not go together.
            MissingError: jinja2 is not installed.
        """
        return write.snippet(self.data, language, artifact, threads=threads, delegate=delegate).code


def write_report(
    sources: Sequence[Path | Content],
    out: Path,
    *,
    layers: bool = True,
    backends: bool = False,
    published: bool = False,
    progress: Progress = silent,
) -> ReportResult:
    """Write a report as :meth:`Bundle.report`, of several bundles, files of records, and gathered content.

    Raises: as :meth:`Bundle.report`; ArtifactError, if a source cannot be read, or all are empty.
    """
    forms.check(out)
    files.check(out, sources=[source for source in sources if isinstance(source, Path)])
    plugins.require("matplotlib", "jinja2", extra="report")
    content = gather.gather(sources, progress, inside=layers, backends=backends, published=published)
    document = gather.write(content, out, progress)
    return ReportResult(out, document)
