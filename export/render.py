"""Results as tables for people; nothing is decided here."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.markup import escape
from rich.table import Table

from edgeattn.accuracy import wilson
from export.bundle import Bundle
from export.evaluate import Accuracy
from export.inspection import Inspection
from export.layers import LayerRow, Layers
from export.verify import NotRun, Report, Row


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        name, _, right = column.partition(">")
        table.add_column(name, justify="right" if right == "r" else "left", no_wrap=True)
    return table


def _number(value: float | None, pattern: str) -> str:
    return "-" if value is None else format(value, pattern)


def files(bundle: Bundle) -> Table:
    table = _table(f"Bundle {bundle.folder}", "artifact", "format", "size KiB>r", "stated", "edges")
    for artifact in bundle.manifest.artifacts:
        stated = ", ".join(f"{key} {value}" for key, value in artifact.details.items())
        edges = artifact.inputs[0].layout or "-"
        table.add_row(artifact.file.path, artifact.format, f"{artifact.file.size_bytes / 1024:.0f}", stated, edges)
    return table


def lowering(bundle: Bundle) -> Table:
    table = _table("Lowering", "layout", "module", "became", "why")
    for layout, changes in bundle.manifest.lowering.items():
        alike = Counter((change.before, change.after, change.reason) for change in changes)
        for (before, after, reason), number in alike.items():
            table.add_row(layout, f"{number} x {before}", after, reason)
        if not changes:
            table.add_row(layout, "-", "-", "nothing to lower: exported as it is")
    return table


def parity(report: Report) -> list[Table]:
    """The two hops, the accuracy if there are labelled inputs, and what was not run."""
    columns = ("case", "output", "max noise>r", "RMS noise>r", "max abs>r", "SQNR dB>r", "verdict")
    one = _table("Hop 1: reference to lowered form, PyTorch", "layout", *columns[:2], "fp64 error>r", *columns[2:])
    two = _table("Hop 2: lowered form to artifact", "artifact", "runtime", *columns)
    for row in report.rows:
        numbers = (
            _number(row.max_noise_units, ".2f"),
            _number(row.rms_noise_units, ".2f"),
            _number(row.max_abs, ".1e"),
            _number(row.sqnr_db, ".1f"),
            _verdict(row),
        )
        if row.hop == "lowering":
            error = _number(row.exact_relative_error, ".0e")
            one.add_row(row.candidate, row.case, row.output, error, *numbers)
        else:
            two.add_row(row.candidate, row.runtime, row.case, row.output, *numbers)
    tables = [one, two]
    if report.accuracy:
        tables.append(_accuracy(report))
    if report.not_run:
        tables.append(_not_run("Not run", report.not_run))
    return tables


def _not_run(title: str, entries: Iterable[NotRun]) -> Table:
    table = _table(title, "artifact", "runtime", "reason")
    for entry in entries:
        table.add_row(entry.candidate, entry.runtime, entry.reason)
    return table


def _accuracy(report: Report) -> Table:
    columns = ("artifact", "runtime", "top-1>r", "95 % interval>r", "reference>r", "agreeing>r", "verdict")
    table = _table("Accuracy on the held-out inputs", *columns)
    for row in report.accuracy:
        low, high = wilson(row.correct, row.n)
        table.add_row(
            row.candidate,
            row.runtime,
            f"{row.correct} of {row.n}, {row.correct / row.n:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{row.reference_correct} of {row.n}",
            f"{row.agreeing} of {row.n}",
            _verdict(row),
        )
    return table


def _verdict(row: Row | Accuracy | LayerRow) -> str:
    return f"[green]same[/] {row.reason}".rstrip() if row.passed else f"[red]DIFFERENT[/] {row.reason}"


def layers(found: Layers) -> list[Any]:
    """For each artifact and runtime the layers in order of execution, and where its error begins."""
    shown: list[Any] = []
    for depth in found.depths:
        table = _table(
            f"Layers of {depth.candidate} in {depth.runtime}",
            *("layer", "op", "line", "op in the artifact", "max noise>r", "RMS noise>r", "verdict"),
        )
        for row in depth.rows:
            table.add_row(
                escape(row.layer),
                row.op,
                row.source.partition(" ")[0],
                escape(f"{row.artifact_op} {row.tensor}"),
                _number(row.max_noise_units, ".2f"),
                _number(row.rms_noise_units, ".2f"),
                _verdict(row),
            )
        shown += [table, escape(depth.sentence)]
    if found.not_run:
        shown.append(_not_run("Layers not compared", found.not_run))
    return shown


def inspection(found: Inspection) -> list[Table]:
    """Operators, and a summary."""
    summary = _table(f"{found.artifact} ({found.format})", "", "")
    for side, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            shape = ", ".join("?" if n is None else str(n) for n in tensor["shape"])
            summary.add_row(side, f"{tensor['name']} [{shape}] {tensor['dtype']}".replace("[", "\\["))
    summary.add_row("operators", f"{sum(found.operators.values())}")
    summary.add_row("layout ops", _kinds(found.layout_ops, found.layout_bytes))
    summary.add_row("copy ops", _kinds(found.copy_ops, found.copy_bytes))
    summary.add_row("multiply-adds", f"{found.macs:,}")
    summary.add_row("parameters", f"{found.parameters:,}")
    for key, value in (*found.details.items(), *((f"runtime: {k}", v) for k, v in found.runtime.items())):
        summary.add_row(key, _plain(value))
    operators = _table("Operators", "kind", "count>r")
    for kind, number in found.operators.items():
        operators.add_row(kind, str(number))
    return [summary, operators]


def _kinds(ops: dict[str, int], size: int) -> str:
    return f"{sum(ops.values())}" + (f" ({_plain(ops)}; {size:,} bytes)" if ops else "")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items()).replace("[", "\\[") or "none"
    return str(value)
