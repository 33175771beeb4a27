"""What every table for people has in common."""

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
