"""Tables for people on a terminal, as plain text and as HTML.

Output is a list of tables and of lines of text in rich's markup.
"""

import io
from collections.abc import Iterable
from html import escape
from typing import Any

from rich.console import Console
from rich.table import Table as _Table
from rich.text import Text

from edgeattn.system import foreign


def printable(text: str) -> str:
    """``text`` without control sequences, which names in untrusted files could contain."""
    return foreign.shown(text, keep="\n")


def safe(part: Any) -> Any:
    """A line or a text of the output without them; a table has none, as its cells have gone through this."""
    if isinstance(part, str):
        return printable(part)
    if isinstance(part, Text):
        part.plain = printable(part.plain)  # as long as before: the styles stay where they are
    return part


class Table(_Table):
    """A table whose cells contain no markup; a cell with style is a :class:`rich.text.Text`."""

    def add_row(self, *cells: str | Text) -> None:  # type: ignore[override]  # rich takes more kinds and options
        super().add_row(*(Text(printable(cell)) if isinstance(cell, str) else safe(cell) for cell in cells))


def table(title: str, *columns: str) -> Table:
    """An empty table; a column ``NAME>r`` is right-aligned."""
    shown = Table(title=Text(printable(title)), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        name, _, right = column.partition(">")
        shown.add_column(name, justify="right" if right == "r" else "left", no_wrap=True)
    return shown


def verdict(passed: bool, reason: str) -> Text:
    """``same`` or ``DIFFERENT``, coloured, and why."""
    word = Text("same", "green") if passed else Text("DIFFERENT", "red")
    return Text.assemble(word, f" {printable(reason)}") if reason else word


def number(value: float | None, pattern: str) -> str:
    """``value`` by a format pattern, "-" for None."""
    return "-" if value is None else format(value, pattern)


def plain(shown: Iterable[Any]) -> str:
    """The text that a command writes to a file: 200 columns wide, without colours, an empty line between parts."""
    out = io.StringIO()
    # Without these, rich would display it in a notebook at once.
    console = Console(
        file=out,
        width=200,
        highlight=False,
        soft_wrap=True,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
    )
    for part in shown:
        console.print(safe(part))
        console.print()
    return out.getvalue().rstrip("\n")


def html(shown: Iterable[Any]) -> str:
    """HTML for a notebook: all text is escaped, and nothing in it is active."""
    return "\n".join(_table(part) if isinstance(part, _Table) else f"<p>{_text(part)}</p>" for part in shown)


def _table(table: _Table) -> str:
    aligned = [f' style="text-align: {column.justify}"' for column in table.columns]
    head = "".join(f"<th{style}>{_text(c.header)}</th>" for style, c in zip(aligned, table.columns, strict=True))
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = (
        "<tr>" + "".join(f"<td{style}>{_text(cell)}</td>" for style, cell in zip(aligned, row, strict=True)) + "</tr>"
        for row in rows
    )
    caption = f'<caption style="text-align: left; font-weight: bold">{_text(table.title or "")}</caption>'
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _text(shown: Any) -> str:
    text = shown if isinstance(shown, Text) else Text.from_markup(str(shown))
    parts = []
    for part, style, _ in text.render(Console(file=io.StringIO(), color_system=None, force_jupyter=False)):
        css = style.get_html_style() if style else ""
        parts.append(f'<span style="{css}">{escape(part)}</span>' if css else escape(part))
    return "".join(parts).rstrip("\n").replace("\n", "<br>")
