"""What a report is made of, gathered from files of records and from bundles. Nothing is measured here."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.bundle.manifest import Bundle
from edgeattn.bundle.records import NotRun
from edgeattn.errors import ArtifactError, MissingError
from edgeattn.parity import layers
from edgeattn.parity.layers import Layers
from edgeattn.parity.verdicts import Row, stored, worst
from edgeattn.precision import FP32_LIMITS
from edgeattn.report import attention_maps, forms
from edgeattn.report.compose import compose
from edgeattn.report.content import LOWERED, Answers, Content, Depths, Judged
from edgeattn.report.document import Document
from edgeattn.report.pictures.depth import Curve
from edgeattn.system import files
from edgeattn.system.progress import Progress, silent


def gather(paths: Sequence[Path | Content], progress: Progress = silent, *, inside: bool = True) -> Content:
    """Everything that files of records and bundles (folders) say, and what is gathered already; the same record given
    twice counts once.

    Args:
        inside: compare the values inside a bundle's artifacts, in the runtimes that are here: a minute for a large one.

    Raises:
        ArtifactError: one of them cannot be read, or there is nothing in them.
    """
    held = {path: bundles.load(path) for path in paths if isinstance(path, Path) and path.is_dir()}
    measured = Content()
    for path in paths:
        for part in [path] if isinstance(path, Content) else map(_records, _files(path)):
            measured = _joined(measured, part)
    content = measured
    for one in held.values():
        content = _joined(content, _bundle(one, measured, progress, inside=inside))
    if not content.records and not content.not_run and not content.judged:
        names = ", ".join(str(path) for path in paths if isinstance(path, Path))
        raise ArtifactError(f"nothing to report: no record in {names}; make some with `edgeattn profile --out`")
    return content


def write(content: Content, out: Path, progress: Progress = silent) -> Document:
    """Draw the report of ``content`` into ``out``, whose ending chooses the form.

    Raises:
        BadInputError: the ending is no form, or the file cannot be written.
        MissingError: a package of the extra ``report`` is not installed.
    """
    progress.plan(1)
    progress("drawing")
    document = compose(content)
    files.write(out, forms.write(document, out))
    return document


def _joined(one: Content, two: Content) -> Content:
    """Both, one after the other; a record, or what was not run, that is in both counts once."""
    return Content(
        # By their text, as a record holds dictionaries.
        records=tuple({repr(record): record for record in (*one.records, *two.records)}.values()),
        not_run=tuple(dict.fromkeys((*one.not_run, *two.not_run))),
        judged=(*one.judged, *two.judged),
        answers=(*one.answers, *two.answers),
        depths=(*one.depths, *two.depths),
        attention=(*one.attention, *two.attention),
        sections=(*one.sections, *two.sections),
        warnings=(*one.warnings, *two.warnings),
        commands=(*one.commands, *two.commands),
        versions={**one.versions, **two.versions},
    )


def _records(path: Path) -> Content:
    found = records.load(path)
    return Content(records=found.records, not_run=found.not_run)


def _files(path: Path) -> list[Path]:
    """The files of records that a bundle holds, or the one that is named."""
    return sorted(f for pattern in bundles.RECORDS for f in path.glob(pattern)) if path.is_dir() else [path]


def _bundle(held: Bundle, measured: Content, progress: Progress, *, inside: bool) -> Content:
    judged, answers, not_run, warnings = _parity(held)
    depths: tuple[Depths, ...] = ()
    if inside and held.manifest.layers:
        try:
            depths = (_depths(held, layers.compare(held, progress)),)
        except MissingError as error:
            not_run.append(NotRun("error by depth", "here", str(error)))
    return Content(
        not_run=(*not_run, *_unmeasured(held, measured)),
        judged=judged,
        answers=answers,
        depths=depths,
        attention=attention_maps.read(held),
        warnings=warnings,
        commands=(f"edgeattn parity {held.folder.name}",),
        versions=held.manifest.tools,
    )


def _unmeasured(held: Bundle, measured: Content) -> list[NotRun]:
    known = {record.subject.sha256 for record in measured.records}
    explained = {entry.subject for entry in measured.not_run}
    return [
        NotRun(artifact.file.path, "anywhere", "the bundle has no record of it: edgeattn profile makes one")
        for artifact in held.manifest.artifacts
        if artifact.file.sha256 not in known and artifact.file.path not in explained
    ]


def _parity(held: Bundle) -> tuple[tuple[Judged, ...], tuple[Answers, ...], list[NotRun], tuple[str, ...]]:
    """What was found when the bundle was made, as its manifest keeps it: the second hop's worst case by runtime."""
    report, refused = stored(held)
    model, files = held.manifest.model, {a.file.path: a.file for a in held.manifest.artifacts}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows:
        groups.setdefault((row.candidate, row.runtime), []).append(row)
    judged = []
    for (candidate, runtime), rows in groups.items():
        row, file = worst(rows), files.get(candidate)
        judged.append(
            Judged(
                model,
                candidate if file else f"{LOWERED}{candidate}",
                file.sha256 if file else "",
                file.size_bytes if file else None,
                runtime,
                row.passed,
                row.reason,
                len(rows),
                f"{row.case}, {row.output}",
                _finite(row.max_noise_units),
                _finite(row.sqnr_db),
            )
        )
    answers = tuple(
        Answers(model, a.candidate, a.runtime, a.passed, a.reason, a.n, a.correct, a.reference_correct, a.agreeing)
        for a in report.accuracy
    )
    not_run = [NotRun(e.candidate, e.runtime, e.reason) for e in report.not_run]
    not_run += [NotRun(f"{name} export", "here", reason) for name, reason in refused.items()]
    return tuple(judged), answers, not_run, report.warnings


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _depths(held: Bundle, found: Layers) -> Depths:
    return Depths(
        held.manifest.model, curves(found), FP32_LIMITS.max_noise_units, tuple(depth.sentence for depth in found.depths)
    )


def curves(found: Layers) -> tuple[Curve, ...]:
    """The error of each layer by depth, a line for each artifact and runtime."""
    drawn = []
    for depth in found.depths:
        first = None if depth.first is None else (depth.rows.index(depth.first), depth.first.layer)
        units = tuple(row.max_noise_units for row in depth.rows)
        label = f"{depth.candidate}, {depth.runtime}" + (f", lost at {depth.lost[0]}" if depth.lost else "")
        drawn.append(Curve(label, units, first))
    return tuple(drawn)
