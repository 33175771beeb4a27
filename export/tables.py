"""What every table for people has in common."""

from rich.table import Table


def table(title: str, *columns: str) -> Table:
    """An empty table; a column ``NAME>r`` is set to the right."""
    shown = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        name, _, right = column.partition(">")
        shown.add_column(name, justify="right" if right == "r" else "left", no_wrap=True)
    return shown


def number(value: float | None, pattern: str) -> str:
    """``value`` by a format pattern, "-" for None."""
    return "-" if value is None else format(value, pattern)
