"""Gathers the content of a report from files of records and from bundles. Nothing is measured here."""

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
from edgeattn.report import attention_maps, forms, who_runs
from edgeattn.report.compose import compose
from edgeattn.report.content import LOWERED, Accuracy, Content, Depths, Judged
from edgeattn.report.document import Document
from edgeattn.report.pictures.depth import Curve
from edgeattn.report.published import sections as published_by_others
from edgeattn.system import files
from edgeattn.system.progress import Progress, silent


def gather(
    paths: Sequence[Path | Content],
    progress: Progress = silent,
    *,
    inside: bool = True,
    backends: bool = False,
    published: bool = False,
) -> Content:
    """Join the content of files of records, of bundles (folders), and content that is gathered already. A record that
    occurs twice counts once.

    Args:
        inside: compare the values inside a bundle's artifacts, in the runtimes here; this takes a minute for a large
            model.
        backends: ask every backend here which operators of a bundle it takes.
        published: add what others have published, in sections of its own.

    Raises:
        ArtifactError: one of them cannot be read, or there is nothing in them.
    """
    bundles_by_path = {path: bundles.load(path) for path in paths if isinstance(path, Path) and path.is_dir()}
    measured = Content()
    for path in paths:
        for part in [path] if isinstance(path, Content) else map(_records, _files(path)):
            measured = _join(measured, part)
    content = measured
    for bundle in bundles_by_path.values():
        content = _join(content, _bundle(bundle, measured, progress, inside=inside, backends=backends))
    if not content.records and not content.not_run and not content.judged:
        names = ", ".join(str(path) for path in paths if isinstance(path, Path))
        raise ArtifactError(f"nothing to report: no record in {names}; make some with `edgeattn profile --out`")
    if published:
        content = _join(content, Content(sections=tuple(published_by_others())))
    return content


def write(content: Content, out: Path, progress: Progress = silent) -> Document:
    """Draw the report of ``content`` into ``out``, whose ending chooses the form.

    Raises:
        BadInputError: no form has this ending, or the file cannot be written.
        MissingError: a package of the extra ``report`` is not installed.
    """
    progress.plan(1)
    progress("drawing")
    document = compose(content)
    files.write(out, forms.write(document, out))
    return document


def _join(first: Content, second: Content) -> Content:
    """Both contents, one after the other; a record, or an entry of what was not run, that is in both counts once."""
    return Content(
        # By their repr, as a record holds dictionaries and has no hash.
        records=tuple({repr(record): record for record in (*first.records, *second.records)}.values()),
        not_run=tuple(dict.fromkeys((*first.not_run, *second.not_run))),
        judged=(*first.judged, *second.judged),
        not_shown=(*first.not_shown, *second.not_shown),
        finer=(*first.finer, *second.finer),
        accuracy=(*first.accuracy, *second.accuracy),
        depths=(*first.depths, *second.depths),
        attention=(*first.attention, *second.attention),
        sections=(*first.sections, *second.sections),
        warnings=(*first.warnings, *second.warnings),
        commands=(*first.commands, *second.commands),
        versions={**first.versions, **second.versions},
    )


def _records(path: Path) -> Content:
    file = records.load(path)
    return Content(records=file.records, not_run=file.not_run)


def _files(path: Path) -> list[Path]:
    """The files of records in a bundle, or the named file itself."""
    return sorted(f for pattern in bundles.RECORDS for f in path.glob(pattern)) if path.is_dir() else [path]


def _bundle(bundle: Bundle, measured: Content, progress: Progress, *, inside: bool, backends: bool) -> Content:
    judged, accuracy, not_run, warnings = _parity(bundle)
    report, _ = stored(bundle)
    depths: tuple[Depths, ...] = ()
    if inside and bundle.manifest.layers:
        try:
            depths = (_depths(bundle, layers.compare(bundle, progress)),)
        except MissingError as error:
            not_run.append(NotRun("error by depth", "here", str(error)))
    return Content(
        not_run=(*not_run, *_unmeasured(bundle, measured)),
        judged=judged,
        not_shown=tuple(NotRun(e.candidate, "here", e.reason) for e in report.not_shown),
        finer=tuple(NotRun(e.candidate, e.runtime, e.reason) for e in report.finer),
        accuracy=accuracy,
        depths=depths,
        attention=attention_maps.read(bundle),
        sections=(who_runs.section(bundle, progress),) if backends else (),
        warnings=warnings,
        commands=(f"edgeattn parity {bundle.folder.name}",),
        versions={**bundle.manifest.tools, **report.runtimes},
    )


def _unmeasured(bundle: Bundle, measured: Content) -> list[NotRun]:
    known = {record.subject.sha256 for record in measured.records}
    explained = {entry.subject for entry in measured.not_run}
    return [
        NotRun(artifact.file.path, "anywhere", "the bundle has no record of it: edgeattn profile makes one")
        for artifact in bundle.manifest.artifacts
        if artifact.file.sha256 not in known and artifact.file.path not in explained
    ]


def _parity(bundle: Bundle) -> tuple[tuple[Judged, ...], tuple[Accuracy, ...], list[NotRun], tuple[str, ...]]:
    """Parity and accuracy at export, from the manifest: the worst case of each candidate and runtime."""
    report, refused = stored(bundle)
    model, files = bundle.manifest.model, {a.file.path: a.file for a in bundle.manifest.artifacts}
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
                None if row.by_sqnr else _finite(row.max_noise_units),
                _finite(row.sqnr_db),
                min((db for r in rows if not r.judged and (db := _finite(r.sqnr_db)) is not None), default=None),
            )
        )
    accuracy = tuple(
        Accuracy(
            model=model,
            artifact=a.candidate,
            runtime=a.runtime,
            passed=a.passed,
            reason=a.reason,
            n=a.n,
            correct=a.correct,
            reference_correct=a.reference_correct,
            agreeing=a.agreeing,
            miou=a.miou,
            reference_miou=a.reference_miou,
        )
        for a in report.accuracy
    )
    not_run = [NotRun(e.candidate, e.runtime, e.reason) for e in report.not_run]
    not_run += [NotRun(f"{name} export", "here", reason) for name, reason in refused.items()]
    return tuple(judged), accuracy, not_run, report.warnings


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _depths(bundle: Bundle, layers: Layers) -> Depths:
    return Depths(
        bundle.manifest.model,
        curves(layers),
        FP32_LIMITS.max_noise_units,
        tuple(depth.sentence for depth in layers.depths),
    )


def curves(layers: Layers) -> tuple[Curve, ...]:
    """The error of each layer by depth, a line for each artifact and runtime."""
    drawn = []
    for depth in layers.depths:
        first = None if depth.first is None else (depth.rows.index(depth.first), depth.first.layer)
        units = tuple(row.max_noise_units for row in depth.rows)
        label = f"{depth.candidate}, {depth.runtime}" + (f", lost at {depth.lost[0]}" if depth.lost else "")
        drawn.append(Curve(label, units, first))
    return tuple(drawn)
