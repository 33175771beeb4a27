"""What a report is made of: records, and what a bundle adds to them."""

from dataclasses import dataclass, field

from edgeattn.bundle.records import NotRun, Record
from edgeattn.report.document import Section
from edgeattn.report.pictures.attention import Attention
from edgeattn.report.pictures.depth import Curve

# So begins the name of what has no file of its own.
LOWERED = "lowered form, "


@dataclass(frozen=True)
class Judged:
    """Parity of one artifact in one runtime of the machine that made the bundle: the worst of all cases.

    Args:
        sha256: of the artifact, so that a record of another file is not taken for this one; "" is a lowered form,
            judged in PyTorch, of which there is no file.
        cases: outputs that were judged.
        worst: the case and the output that are furthest off.
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


@dataclass(frozen=True)
class Answers:
    """Top-1 of one artifact in one runtime on ``n`` labelled inputs."""

    model: str
    artifact: str
    runtime: str
    passed: bool
    reason: str
    n: int
    correct: int
    reference_correct: int
    agreeing: int


@dataclass(frozen=True)
class Depths:
    """Errors inside the artifacts of one model, layer by layer; ``sentences`` say where each begins."""

    model: str
    curves: tuple[Curve, ...]
    limit: float
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """All that one report shows. ``sections`` are ready made, for instance by a study."""

    records: tuple[Record, ...] = ()
    not_run: tuple[NotRun, ...] = ()
    judged: tuple[Judged, ...] = ()
    answers: tuple[Answers, ...] = ()
    depths: tuple[Depths, ...] = ()
    attention: tuple[Attention, ...] = ()
    sections: tuple[Section, ...] = ()
    warnings: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
