"""Answers to pictures as tables for people, and as CSV."""

import csv as _csv
import io
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.markup import escape
from rich.text import Text

from edgeattn.interface import tables
from edgeattn.interface.answers import BEST, Answer, Skipped


def shown(answers: Sequence[Answer], skipped: Iterable[Skipped], *, as_csv: bool) -> list[Any]:
    """The best answers to each picture, or one line of CSV for each; and what was skipped."""
    parts: list[Any] = [f"[yellow]Skipped:[/] {escape(each.what)}: {escape(each.reason)}" for each in skipped]
    if as_csv:
        return [*parts, Text(csv(answers).rstrip("\n"))]
    for picture, each in groupby(sorted(answers, key=lambda a: a.picture), key=lambda a: a.picture):
        group = list(each)
        parts.append(_beside(picture, group) if len(group) > 1 else _one(group[0]))
    return parts


def csv(answers: Iterable[Answer]) -> str:
    """A line for each answer: the picture, artifact and backend, the milliseconds, and label and score of the best."""
    out = io.StringIO()
    writer = _csv.writer(out, lineterminator="\n")
    best = [f"{what}_{i}" for i in range(1, BEST + 1) for what in ("label", "score")]
    writer.writerow(["picture", "artifact", "backend", "milliseconds", *best])
    for a in answers:
        cells = [cell for b in a.best for cell in (_plain(b.label), f"{b.score:.6f}")]
        writer.writerow([_plain(a.picture), a.artifact, a.backend, f"{a.milliseconds:.3f}", *cells])
    return out.getvalue()


def _plain(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _one(answer: Answer) -> Any:
    title = f"{answer.picture}: {answer.artifact} in {answer.backend}, {answer.milliseconds:.2f} ms"
    table = tables.table(title, "answer", "score>r")
    for best in answer.best:
        table.add_row(best.label, f"{best.score:.1%}")
    return table


def _beside(picture: str, answers: Sequence[Answer]) -> Any:
    table = tables.table(picture, "artifact", "backend", "ms>r", "answer", "score>r", "then>?")
    for a in answers:
        first, *rest = a.best
        then = ", ".join(f"{b.label} {b.score:.1%}" for b in rest[:2])
        table.add_row(a.artifact, a.backend, f"{a.milliseconds:.2f}", first.label, f"{first.score:.1%}", then)
    return table
