"""Markdown, for a pull request or a terminal: the same statements and tables, and descriptions of the pictures."""

import re
from collections.abc import Iterator

from edgeattn.report.document import Cell, Document, Picture, Section, Table, Text
from edgeattn.report.forms import Form, encoded

# Characters that have a meaning in Markdown, or in the HTML that it allows.
_SPECIAL = re.compile(r"([\\`*_{}\[\]#!|~])")
_LINK = re.compile(r"(?i)(https?|ftp|mailto|www)([:.])")
_TONES = {"bad": "**", "caution": "*"}


class Md(Form):
    """Markdown."""

    def write(self, document: Document) -> bytes:
        lines = [f"# {_text(document.title)}", "", _text(document.subtitle), ""]
        for statement in document.verdict:
            lines.append(f"- **{_text(statement.question)}** {_text(statement.answer)}. {_text(statement.detail)}")
        for section in document.sections:
            lines += ["", *_section(section)]
        return encoded("\n".join(lines).rstrip() + "\n")


def _section(section: Section) -> Iterator[str]:
    yield f"## {_text(section.title)}"
    if section.lead:
        yield from ("", _text(section.lead))
    for part in section.parts:
        yield ""
        if isinstance(part, Table):
            yield from _table(part)
        elif isinstance(part, Picture):
            yield f"*Picture:* {_text(part.title)}. {_text(part.description)}"
        elif isinstance(part, Text):
            yield _text(part.text)


def _table(table: Table) -> Iterator[str]:
    yield from (f"### {_text(table.title)}", "")
    yield "| " + " | ".join(_text(column.name) for column in table.columns) + " |"
    yield "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|"
    for row in table.rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"
    if table.note:
        yield from ("", _text(table.note))


def _cell(cell: Cell) -> str:
    strong = _TONES.get(cell.tone, "") if cell.text.strip() else ""
    detail = f" ({_text(cell.detail)})" if cell.detail else ""
    return f"{strong}{_text(cell.text)}{strong}{detail}"


def _text(text: str) -> str:
    """The text on one line, escaped."""
    flat = " ".join(text.split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = _SPECIAL.sub(r"\\\1", flat)
    if flat.startswith(("-", "+", "=")):  # a list, or a heading of the line before
        flat = f"\\{flat}"
    # An address must not become a link: a character code shows the same.
    return _LINK.sub(lambda match: f"{match[1]}&#{ord(match[2])};", flat)


FORM: Form = Md()
