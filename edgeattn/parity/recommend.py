"""Which artifact to ship: the smallest of each format that passes parity and loses no more accuracy than allowed."""

from collections.abc import Iterable
from dataclasses import dataclass

from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.parity.accuracy import Accuracy
from edgeattn.parity.verdicts import Report
from edgeattn.precision import FP32


@dataclass(frozen=True)
class Recommendation:
    """``lost_points`` are percentage points of top-1 on the labelled inputs in the worst runtime, or of the mean IoU
    where pixels are labelled; None without them.

    ``of_fp32`` is the size as a share of the fp32 artifact's; None where there is none.
    """

    format: str
    artifact: str
    precision: str
    size_bytes: int
    lost_points: float | None
    of_fp32: float | None


def recommend(bundle: Bundle, report: Report, max_accuracy_drop: float) -> tuple[Recommendation, ...]:
    """The smallest artifact of each format that passed parity and loses at most ``max_accuracy_drop`` points."""
    recommendations = []
    for format_ in dict.fromkeys(artifact.format for artifact in bundle.manifest.artifacts):
        artifacts = [artifact for artifact in bundle.manifest.artifacts if artifact.format == format_]
        eligible = [a for a in artifacts if _passed(a, report) and (_lost(a, report) or 0.0) <= max_accuracy_drop]
        if eligible:
            best = min(eligible, key=lambda artifact: artifact.file.size_bytes)
            recommendations.append(_recommendation(best, artifacts, report))
    return tuple(recommendations)


def _passed(artifact: Artifact, report: Report) -> bool:
    """Whether it was shown to be the same model, in its own precision, wherever it ran. Its loss on labelled inputs is
    judged by the user's own limit."""
    path = artifact.file.path
    rows = [row for row in report.rows if row.candidate == path]
    unshown = {entry.candidate for entry in report.not_shown} | {entry.candidate for entry in report.finer}
    return bool(rows) and all(row.passed for row in rows) and path not in unshown


def _lost(artifact: Artifact, report: Report) -> float | None:
    rows = [row for row in report.accuracy if row.candidate == artifact.file.path]
    return max((_points(row) for row in rows), default=None)


def _points(row: Accuracy) -> float:
    """Of top-1, or of the mean IoU where pixels are labelled."""
    if row.miou is not None and row.reference_miou is not None:
        return 100 * (row.reference_miou - row.miou)
    return 100 * (row.reference_correct - row.correct) / row.n


def _recommendation(best: Artifact, artifacts: Iterable[Artifact], report: Report) -> Recommendation:
    full = next((a.file.size_bytes for a in artifacts if a.precision == FP32.name), None)
    size = best.file.size_bytes
    return Recommendation(
        best.format, best.file.path, best.precision, size, _lost(best, report), size / full if full else None
    )


def sentence(recommended: Iterable[Recommendation], max_accuracy_drop: float) -> str:
    """The recommendation for people, a line each."""
    lines = []
    for choice in recommended:
        size = f"{choice.size_bytes / 1024:,.0f} KiB"
        share = "" if choice.of_fp32 is None else f", {choice.of_fp32:.0%} of fp32"
        lost = "" if choice.lost_points is None else f", loses {max(choice.lost_points, 0.0):.1f} points of accuracy"
        lines.append(f"  {choice.artifact} ({size}{share}{lost})")
    measured = any(choice.lost_points is not None for choice in recommended)
    limit = (
        f"at most {max_accuracy_drop:g} points of accuracy lost" if measured else "parity passed, no labelled inputs"
    )
    return "\n".join([f"Smallest of each format, {limit}:", *lines])
