"""What the records of a study say: one file a study, found by the study's name.

Each has ``TITLE``, ``section(records) -> Section`` and ``statement(records) -> Statement``, its answer in a line."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from edgeattn.bundle.records import Record
from edgeattn.report.document import Section, Statement

# In the order of a report; a study that is not named here has no section of its own.
STUDIES = ("layout", "scaling", "mobilevit")


def sections(records: Sequence[Record]) -> Iterator[Section]:
    """A section for each study that has records among these. It needs matplotlib."""
    for module, own in _studies(records):
        yield module.section(own)


def statements(records: Sequence[Record]) -> Iterator[Statement]:
    """What each of them found, in a line."""
    for module, own in _studies(records):
        yield module.statement(own)


def title(records: Sequence[Record]) -> str:
    """Of a report that has nothing else."""
    names = [module.TITLE for module, _ in _studies(records)]
    return ", ".join(names)


def _studies(records: Sequence[Record]) -> Iterator[tuple[Any, list[Record]]]:
    for name in STUDIES:
        own = [record for record in records if record.labels.get("study") == name]
        if any(record.samples_ns or record.counts for record in own):
            yield import_module(f"edgeattn.report.studies.{name}"), own
