"""The result of a parity check: a row for each output, what was not run, and what was not shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from edgeattn.bundle.manifest import Bundle
from edgeattn.errors import ArtifactError
from edgeattn.parity.accuracy import Accuracy


@dataclass(frozen=True)
class Row:
    """One output of one case, judged. A number that does not exist (no error at all, or no such output) is None.

    ``judged`` is False for an input of another kind than a lower precision is made for, which is judged less strictly;
    ``by_sqnr`` says whether the limit is one of the SQNR, and not one in noise units; ``shown`` is False where the
    output is nearly all noise, so that nothing follows from a pass.
    """

    hop: str
    candidate: str
    runtime: str
    case: str
    output: str
    passed: bool
    reason: str
    max_abs: float | None
    max_noise_units: float | None
    rms_noise_units: float | None
    sqnr_db: float | None
    cosine: float | None
    exact_relative_error: float | None = None
    judged: bool = True
    by_sqnr: bool = False
    shown: bool = True


def worst(rows: Iterable[Row]) -> Row:
    """The row that is furthest off by what it is judged by: a failed row before a passed one, a judged one before one
    of another kind, and in noise units a row without a number before one with it."""

    def order(row: Row) -> tuple[bool, bool, float]:
        if row.by_sqnr:
            off = -inf if row.sqnr_db is None else -row.sqnr_db
        else:
            off = inf if row.max_noise_units is None else row.max_noise_units
        return not row.passed, row.judged, off

    return max(rows, key=order)


@dataclass(frozen=True)
class NotChecked:
    """An artifact, or a case of it, that was not checked in a runtime, and why."""

    candidate: str
    runtime: str
    reason: str


@dataclass(frozen=True)
class NotShown:
    """An artifact that no check proved wrong, and none proved to be the same model; and why.

    ``here`` is False if that is for the lack of a runtime alone: it could not be judged on this machine at all.
    """

    candidate: str
    reason: str
    here: bool = True


@dataclass(frozen=True)
class Report:
    """``finer`` are the artifacts of a lower precision that a runtime computed in a higher one: the same model there,
    but not shown to be in their own precision."""

    rows: tuple[Row, ...]
    not_run: tuple[NotChecked, ...]
    runtimes: dict[str, str]
    accuracy: tuple[Accuracy, ...] = ()
    warnings: tuple[str, ...] = ()
    not_shown: tuple[NotShown, ...] = ()
    finer: tuple[NotChecked, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every artifact was shown to be the same model."""
        return self.passed_here and not self.not_shown

    @property
    def passed_here(self) -> bool:
        """Whether every artifact that could be judged on this machine was shown to be the same model."""
        return not self.wrong and not any(entry.here for entry in self.not_shown)

    @property
    def wrong(self) -> bool:
        """Whether a check failed: an artifact is another model."""
        return not (all(row.passed for row in self.rows) and all(row.passed for row in self.accuracy))

    @property
    def artifacts_checked(self) -> set[str]:
        return {row.candidate for row in self.rows if row.hop == "conversion"}


def stored(bundle: Bundle) -> tuple[Report, dict[str, str]]:
    """The report of the export, from the manifest; and the formats that were refused, with the reason.

    Raises:
        ArtifactError: the manifest has no report, or a malformed one.
    """
    from pydantic import TypeAdapter, ValidationError

    document = bundle.manifest.parity
    try:
        report = TypeAdapter(Report).validate_python(document)
        return report, TypeAdapter(dict[str, str]).validate_python(document.get("refused", {}))
    except ValidationError as error:
        location = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ArtifactError(f"{bundle.folder} has no parity that can be read ({location}); export it again") from error
