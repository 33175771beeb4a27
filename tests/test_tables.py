"""Tables on narrow terminals: names wrap, numbers are never cut, what goes is said; the verdict comes last."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Answer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from edgeattn.bundle import manifest, records
from edgeattn.interface import render, render_records, tables
from edgeattn.parity.verdicts import NotShown, Report, stored

WIDTHS = (60, 80, 100, 120)
GOLDEN = Path(__file__).parent / "golden"


def drawn(part: object, width: int) -> str:
    """What a terminal of this width shows, without colours, as `edgeattn` prints it."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, soft_wrap=True, force_terminal=True, color_system=None).print(part)
    return out.getvalue()


def numbers(table: tables.Table, without: tuple[str, ...]) -> Iterator[str]:
    for column in table.columns:
        if column.no_wrap and column.header not in without:
            yield from (cell.plain if isinstance(cell, Text) else str(cell) for cell in column.cells)


def whole(table: tables.Table, width: int) -> None:
    """Every number is there as it is, or its column is named as left out."""
    shown = drawn(table, width)
    without = tuple(name for name in table.optional if f"{name}," in shown or f"{name}; --json" in shown)
    assert "…" not in shown
    for number in numbers(table, without):
        assert number in shown, (width, number, shown)
    if without:
        assert "no room for" in " ".join(shown.split())


@pytest.mark.parametrize("width", WIDTHS)
def test_parity_and_records(made_bundle: Path, width: int) -> None:
    bundle = manifest.load(made_bundle)
    report, _ = stored(bundle)
    found = [part for part in [render.files(bundle), *render.parity(report)] if isinstance(part, tables.Table)]
    for path in sorted(GOLDEN.glob("records-*.json")):
        measured = records.load(path)
        found += [part for part in render_records.measured(measured.records, (), ()) if isinstance(part, tables.Table)]
    assert len(found) > 5
    for table in found:
        whole(table, width)


@given(
    width=st.integers(20, 200),
    names=st.lists(st.text("abc-_. é漢", min_size=1, max_size=40), min_size=1, max_size=4),
    values=st.lists(st.integers(0, 10**15), min_size=4, max_size=4),
)
def test_any_numbers_and_names(width: int, names: list[str], values: list[int]) -> None:
    table = tables.table("A table", "name", "runtime>?", "a>r", "b>r?", "c>r?", "d>r", "verdict")
    for name in names:
        table.add_row(name, name[::-1], *map(str, values), Text("same"))
    whole(table, width)


def test_what_goes_first() -> None:
    table = tables.table("", "name", "a>r?", "b>r?", "c>r")
    table.add_row("n" * 20, "1" * 20, "2" * 20, "3" * 20)
    assert "no room for" not in drawn(table, 90)
    assert "no room for b; --json has all" in drawn(table, 70)
    narrow = drawn(table, 40)
    assert "no room for a, b; --json has all" in narrow
    assert "3" * 20 in narrow
    # Where not even the rest fits, the line is longer.
    assert "3" * 20 in drawn(table, 10)


def verdict(report: Report) -> str:
    return Text.from_markup(render.verdict(report)[-1]).plain


def test_the_verdict_counts_files(made_bundle: Path) -> None:
    report, _ = stored(manifest.load(made_bundle))
    number = len(report.artifacts_checked)
    assert verdict(report) == f"{number} of {number} files shown to be the same model."
    name = "attention-fp32.onnx"
    rows = tuple(replace(row, passed=row.candidate != name) for row in report.rows)
    assert verdict(replace(report, rows=rows)) == (
        f"{number - 1} of {number} files shown to be the same model; different: {name}."
    )
    unshown = replace(report, not_shown=(NotShown(name, "it computes in fp32 here"),))
    assert verdict(unshown).endswith(f"{number - 1} of {number} files shown to be the same model; not shown: {name}.")


def test_it_is_the_last_line(edgeattn: object, made_bundle: Path) -> None:
    answer: Answer = edgeattn("parity", made_bundle)  # type: ignore[operator]
    assert answer.out.rstrip().splitlines()[-1].endswith("files shown to be the same model.")
    assert "Noise units are multiples of the reference's own error" in answer.out
    json.loads(edgeattn("parity", made_bundle, "--json").out)  # type: ignore[operator]
