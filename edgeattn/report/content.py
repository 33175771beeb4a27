"""The content of a report: records, and the parity, accuracy, errors and maps of bundles."""

from dataclasses import dataclass, field

from edgeattn.bundle.records import NotRun, Record
from edgeattn.report.document import Section
from edgeattn.report.pictures.attention import Attention
from edgeattn.report.pictures.depth import Curve

# The name of a lowered form, which has no file, begins with this.
LOWERED = "lowered form, "


@dataclass(frozen=True)
class Judged:
    """Parity of one artifact in one runtime of the machine that made the bundle: the worst of all cases.

    Args:
        sha256: of the artifact, which identifies its records; "" for a lowered form, which is judged in PyTorch and
            has no file.
        cases: the number of outputs that were judged.
        worst: the case and the output with the largest error.
        max_noise_units: None for a lower precision, which is not judged in them.
        elsewhere_db: the smallest SQNR on inputs that it is not judged on; None if there are none.
    """

    model: str
    artifact: str
    sha256: str
    size_bytes: int | None
    runtime: str
    passed: bool
    reason: str
    cases: int
    worst: str
    max_noise_units: float | None
    sqnr_db: float | None
    elsewhere_db: float | None = None


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of one artifact in one runtime on ``n`` labelled inputs or pixels, and for pixels the mean IoU."""

    model: str
    artifact: str
    runtime: str
    passed: bool
    reason: str
    n: int
    correct: int
    reference_correct: int
    agreeing: int
    miou: float | None = None
    reference_miou: float | None = None


@dataclass(frozen=True)
class Depths:
    """Errors inside the artifacts of one model, layer by layer; ``sentences`` say where each error begins."""

    model: str
    curves: tuple[Curve, ...]
    limit: float
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """Everything in one report. ``sections`` are ready made, for instance by a study; ``not_shown`` are the artifacts
    that were shown neither to be the same model nor to be another, ``finer`` those that were computed in a higher
    precision than their own."""

    records: tuple[Record, ...] = ()
    not_run: tuple[NotRun, ...] = ()
    judged: tuple[Judged, ...] = ()
    not_shown: tuple[NotRun, ...] = ()
    finer: tuple[NotRun, ...] = ()
    accuracy: tuple[Accuracy, ...] = ()
    depths: tuple[Depths, ...] = ()
    attention: tuple[Attention, ...] = ()
    sections: tuple[Section, ...] = ()
    warnings: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
