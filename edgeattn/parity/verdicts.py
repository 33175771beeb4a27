"""The result of a parity check: a row for each output, and what was not run."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from edgeattn.bundle.manifest import Bundle
from edgeattn.errors import ArtifactError
from edgeattn.parity.accuracy import Accuracy


@dataclass(frozen=True)
class Row:
    """One output of one case, judged. A number that does not exist (no error at all, or no such output) is None."""

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


def worst(rows: Iterable[Row]) -> Row:
    """The row that is furthest off; a failed row before a passed one, a row without a number before one with it."""
    return max(rows, key=lambda row: (not row.passed, inf if row.max_noise_units is None else row.max_noise_units))


@dataclass(frozen=True)
class NotChecked:
    """An artifact, or a case of it, that was not checked in a runtime, and why."""

    candidate: str
    runtime: str
    reason: str


@dataclass(frozen=True)
class Report:
    rows: tuple[Row, ...]
    not_run: tuple[NotChecked, ...]
    runtimes: dict[str, str]
    accuracy: tuple[Accuracy, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows) and all(row.passed for row in self.accuracy)

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
