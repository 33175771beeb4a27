"""Chapters of the report, one file for each study, of the study's name. It holds ``CHAPTER``, a :class:`Chapter`.

A study without a chapter has only its records."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from edgeattn.bundle.records import Record
from edgeattn.report.document import Section, Statement
from edgeattn.system.plugins import Registry


class Chapter(Protocol):
    """The part of a report on one study, from the study's records. At least one record has samples or counts.

    Attributes:
        title: its heading, and the question of its statement.
        order: its position in a report; the smallest number comes first.
    """

    title: str
    order: int

    def section(self, records: Sequence[Record]) -> Section:
        """Pictures and tables. It needs matplotlib.

        Raises:
            MissingError: matplotlib is not installed.
        """
        ...

    def statement(self, records: Sequence[Record]) -> Statement:
        """The study's answer in a line."""
        ...


CHAPTERS: Registry[Chapter] = Registry(__name__, "chapter")


def sections(records: Sequence[Record]) -> Iterator[Section]:
    """A section for each study with records among ``records``. It needs matplotlib."""
    for chapter, own in _chapters(records):
        yield chapter.section(own)


def statements(records: Sequence[Record]) -> Iterator[Statement]:
    """The answer of each of these studies, in a line."""
    for chapter, own in _chapters(records):
        yield chapter.statement(own)


def title(records: Sequence[Record]) -> str:
    """The title of a report with studies alone."""
    return ", ".join(chapter.title for chapter, _ in _chapters(records))


def _chapters(records: Sequence[Record]) -> Iterator[tuple[Chapter, list[Record]]]:
    for name, chapter in sorted(CHAPTERS.items(), key=lambda item: item[1].order):
        own = [record for record in records if record.labels.get("study") == name]
        if any(record.samples_ns or record.counts for record in own):
            yield chapter, own
