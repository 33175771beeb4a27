"""Tables for people on a terminal, as plain text and as HTML.

Output is a list of tables and of lines of text in rich's markup.
"""

import copy
import io
from collections.abc import Collection, Iterable
from dataclasses import replace
from html import escape
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
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


# On a narrow terminal a column of names wraps down to this width before less important columns are left out.
_NARROWEST = 14


class Table(_Table):
    """A table whose cells contain no markup; a cell with style is a :class:`rich.text.Text`.

    ``optional`` are the columns that a narrow terminal does not get, the last one first; the table then says so.
    """

    optional: tuple[str, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, without the columns for which there is no room."""
        left_out: list[str] = []
        for name in reversed(self.optional):
            if self._least(left_out) <= options.max_width:
                break
            left_out.insert(0, name)
        if not left_out:
            # A number that is cut is another number: rather a longer line.
            options = options.update_width(max(options.max_width, self._least(())))
            yield from super().__rich_console__(console, options)
            return
        shown = copy.copy(self)
        shown.columns = [column for column in self.columns if column.header not in left_out]
        shown.columns = [replace(column, _index=i) for i, column in enumerate(shown.columns)]
        shown.caption = f"no room for {', '.join(left_out)}; --json has all"
        shown.caption_justify, shown.optional = "left", ()
        yield from shown.__rich_console__(console, options)

    def _least(self, without: Collection[str]) -> int:
        """The least width without some columns."""
        widths = []
        for column in self.columns:
            if column.header in without:
                continue
            cells = (column.header, *column.cells)  # texts without markup, all of them
            longest = max(cell_len(cell.plain if isinstance(cell, Text) else str(cell)) for cell in cells)
            widths.append(longest if column.no_wrap else min(longest, _NARROWEST))
        return sum(widths) + 2 * len(widths) - 1

    def add_row(self, *cells: str | Text) -> None:  # type: ignore[override]  # rich takes more kinds and options
        super().add_row(*(Text(printable(cell)) if isinstance(cell, str) else safe(cell) for cell in cells))


def table(title: str, *columns: str) -> Table:
    """An empty table. A column ``NAME>r`` holds numbers, which are never cut: names wrap, and columns ``NAME>?`` and
    ``NAME>r?`` are left out where the terminal is too narrow, the last one first."""
    shown = Table(title=Text(printable(title)), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        name, _, kind = column.partition(">")
        is_number = kind.startswith("r")
        shown.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
        if kind.endswith("?"):
            shown.optional = (*shown.optional, name)
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
