"""What every table for people has in common, and the two forms beside a terminal's: plain text and HTML.

What is shown is a list: tables, and lines of text in rich's markup.
"""

import io
from collections.abc import Iterable
from html import escape
from typing import Any

from rich.console import Console
from rich.table import Table as _Table
from rich.text import Text


def printable(text: str) -> str:
    """``text`` as it may go to a terminal: names in files are anyone's, and could hold its control sequences."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


class Table(_Table):
    """Its cells are shown as they are: no markup, but what is given as a :class:`rich.text.Text`."""

    def add_row(self, *cells: str | Text) -> None:  # type: ignore[override]  # rich takes more kinds and options
        super().add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells))


def table(title: str, *columns: str) -> Table:
    """An empty table; a column ``NAME>r`` is set to the right."""
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
    """As a command writes it into a file: 200 columns, without colours; an empty line between two of them."""
    out = io.StringIO()
    # In a notebook rich would show it there and then.
    console = Console(
        file=out,
        width=200,
        highlight=False,
        soft_wrap=True,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
    )
    for one in shown:
        console.print(one)
        console.print()
    return out.getvalue().rstrip("\n")


def html(shown: Iterable[Any]) -> str:
    """As tables of a notebook: all text is escaped, and nothing in it is markup or runs."""
    return "\n".join(_table(one) if isinstance(one, _Table) else f"<p>{_text(one)}</p>" for one in shown)


def _table(table: _Table) -> str:
    aligned = [f' style="text-align: {column.justify}"' for column in table.columns]
    head = "".join(f"<th{how}>{_text(c.header)}</th>" for how, c in zip(aligned, table.columns, strict=True))
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = (
        "<tr>" + "".join(f"<td{how}>{_text(cell)}</td>" for how, cell in zip(aligned, row, strict=True)) + "</tr>"
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
