"""The section on who runs what: for each artifact, the operators that each backend takes, and those that it leaves."""

from collections.abc import Iterator

from edgeattn.bundle.manifest import Bundle
from edgeattn.inspection.shares import reasons, shares
from edgeattn.parity.layers import located
from edgeattn.report import words
from edgeattn.report.document import Cell, Column, Part, Section, Table
from edgeattn.runtimes import Share
from edgeattn.system.progress import Progress

_LEAD = "Asked of the backends of the machine that wrote this report. What one leaves, the CPU runs."


def section(bundle: Bundle, progress: Progress) -> Section:
    """Ask every backend of this machine what it takes of each artifact."""
    found: list[tuple[str, Share]] = []
    progress.plan(len(bundle.manifest.artifacts))
    for artifact in bundle.manifest.artifacts:
        name = artifact.file.path
        progress(f"asking the backends of {name}")
        found += ((name, share) for share in shares(bundle.path(artifact.file), where=located(bundle, artifact)))
    parts: list[Part] = [Table("Who runs what", _COLUMNS, tuple(_row(*entry) for entry in found))]
    if rows := [row for entry in found for row in _left(*entry)]:
        parts.append(Table("Left to others", _LEFT_COLUMNS, tuple(rows)))
    return Section("On the GPU, and on the CPU", _LEAD, tuple(parts))


_COLUMNS = (
    Column("Artifact"), Column("Backend"), Column("Takes", numeric=True), Column("Leaves", numeric=True),
    Column("Partitions", numeric=True),
)  # fmt: skip
_LEFT_COLUMNS = (
    Column("Artifact"), Column("Backend"), Column("Operator"), Column("Number", numeric=True),
    Column("In its words"), Column("For example"),
)  # fmt: skip


def _row(artifact: str, share: Share) -> tuple[Cell, ...]:
    if share.taken is None:
        return Cell(artifact), Cell(share.backend, share.note), *(Cell(words.DASH, "not asked"),) * 3
    pieces = words.DASH if share.partitions is None else str(share.partitions)
    left = Cell(str(len(share.left)), tone="caution" if share.left else "good")
    return Cell(artifact), Cell(share.backend, share.note), Cell(str(share.taken)), left, Cell(pieces)


def _left(artifact: str, share: Share) -> Iterator[tuple[Cell, ...]]:
    for kind, number, reason, example in reasons(share.left):
        yield tuple(map(Cell, (artifact, share.backend, kind, str(number), reason, example)))
