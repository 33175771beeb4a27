"""The content of a report, independent of its form: HTML, Markdown, CSV and JSON are written from these values alone.

All text is plain and untrusted, as records come from other devices: each form escapes it.
"""

from dataclasses import dataclass
from typing import Literal

from edgeattn.bundle.records import NotRun
from edgeattn.report.result import Result

Tone = Literal["", "good", "bad", "caution"]


@dataclass(frozen=True)
class Cell:
    """One cell; ``detail`` is a smaller second line, ``share`` (0 to 1) the length of a bar behind a number."""

    text: str
    detail: str = ""
    tone: Tone = ""
    share: float | None = None


@dataclass(frozen=True)
class Column:
    """A heading, with its unit; ``numeric`` columns are right-aligned."""

    name: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """All rows have as many cells as there are columns; the first cell of a row names it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """An SVG with real text, and a description in words; ``wide``: it needs the whole width of the page."""

    title: str
    description: str
    svg: str
    wide: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    tone: Tone = ""


Part = Table | Picture | Text


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two about the content, and the parts; a ``folded`` section opens on a click."""

    title: str
    lead: str
    parts: tuple[Part, ...]
    folded: bool = False


@dataclass(frozen=True)
class Statement:
    """One answer of the verdict: the question, the answer in a few words, and the evidence."""

    question: str
    answer: str
    detail: str
    tone: Tone = ""


@dataclass(frozen=True)
class Document:
    """A whole report; ``results`` and ``not_run`` are the data of the tables, for CSV and JSON."""

    title: str
    subtitle: str
    verdict: tuple[Statement, ...]
    sections: tuple[Section, ...]
    results: tuple[Result, ...]
    not_run: tuple[NotRun, ...]
