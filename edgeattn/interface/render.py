"""Results as tables for people; nothing is decided here."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeattn.bundle.manifest import Bundle
from edgeattn.inspection.inspect import Inspection
from edgeattn.interface.tables import number as _number
from edgeattn.interface.tables import table as _table
from edgeattn.interface.tables import verdict
from edgeattn.parity.accuracy import Accuracy, wilson
from edgeattn.parity.diff import Row as Compared
from edgeattn.parity.layers import LayerRow, Layers
from edgeattn.parity.selftest import SelfTest
from edgeattn.parity.verdicts import NotRun, Report, Row, worst


def files(bundle: Bundle) -> Table:
    table = _table(f"Bundle {bundle.folder}", "artifact", "format", "size KiB>r", "stated", "edges")
    for artifact in bundle.manifest.artifacts:
        stated = ", ".join(f"{key} {value}" for key, value in artifact.details.document().items())
        edges = next((tensor.layout for tensor in artifact.inputs if tensor.layout), "-")
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


def parity(report: Report) -> list[Any]:
    """The two hops with the worst case of each candidate, accuracy, what was not run, and warnings."""
    columns = ("output", "cases>r", "worst case", "max noise>r", "RMS noise>r", "max abs>r", "SQNR dB>r", "verdict")
    one = _table("Hop 1: reference to lowered form, PyTorch", "layout", "fp64 error>r", *columns)
    two = _table("Hop 2: lowered form to artifact", "artifact", "runtime", *columns)
    for rows in _alike(report.rows):
        row = worst(rows)
        failed = sum(not r.passed for r in rows)
        cells = (
            row.output,
            str(len(rows)),
            row.case,
            _number(row.max_noise_units, ".2f"),
            _number(row.rms_noise_units, ".2f"),
            _number(row.max_abs, ".1e"),
            _number(row.sqnr_db, ".1f"),
            _verdict(row, f" (in {failed} cases)" if failed > 1 else ""),
        )
        if row.hop == "lowering":
            errors = [r.exact_relative_error for r in rows if r.exact_relative_error is not None]
            one.add_row(row.candidate, _number(max(errors, default=None), ".0e"), *cells)
        else:
            two.add_row(row.candidate, row.runtime, *cells)
    tables: list[Any] = [one, two]
    if report.accuracy:
        tables.append(_accuracy(report))
    warnings = (f"[yellow]Warning:[/] {escape(warning)}" for warning in report.warnings)
    return [*tables, *_not_run("Not run", report.not_run), *warnings]


def _alike(rows: Iterable[Row]) -> list[list[Row]]:
    """The cases of one candidate, runtime and output together, in order."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.hop, row.candidate, row.runtime, row.output), []).append(row)
    return list(groups.values())


def self_test(found: SelfTest) -> list[Table]:
    """Every mutant by artifact and runtime, the kill rate by format, and what was not run."""
    tables = []
    for candidate, runtime in dict.fromkeys((t.candidate, t.runtime) for t in found.trials):
        columns = ("mutation", "place", "verdict", "noise>r", "killed by", "reason")
        table = _table(f"Damaged copies of {candidate}, in {runtime}", *columns)
        for trial in (t for t in found.trials if (t.candidate, t.runtime) == (candidate, runtime)):
            judgement = trial.judgement
            table.add_row(
                trial.mutation,
                trial.place,
                Text(judgement.verdict, "red" if judgement.verdict == "survived" else "green"),
                _number(judgement.noise_units, ".3g"),
                judgement.case or "-",
                "" if judgement.verdict == "killed" else judgement.reason,
            )
        tables.append(table)
    rates = _table("Kill rate", "format", "killed>r", "refused>r", "survived>r", "rate>r", "equivalent, not counted>r")
    for name, rate in found.kill_rates.items():
        number = Counter(t.judgement.verdict for t in found.trials if t.format == name)
        counts = [str(number[verdict]) for verdict in ("killed", "refused", "survived")]
        rates.add_row(name, *counts, f"{rate:.1%}", str(number["equivalent"]))
    return [*tables, rates, *_not_run("Not run", found.not_run)]


def _not_run(title: str, entries: tuple[NotRun, ...]) -> list[Table]:
    table = _table(title, "artifact", "runtime", "reason")
    for entry in entries:
        table.add_row(entry.candidate, entry.runtime, entry.reason)
    return [table] if entries else []


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


def _verdict(row: Row | Accuracy | LayerRow, more: str = "") -> Text:
    return verdict(row.passed, f"{row.reason}{more}")


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
                row.layer,
                row.op,
                row.source.partition(" ")[0],
                f"{row.artifact_op} {row.tensor}",
                _number(row.max_noise_units, ".2f"),
                _number(row.rms_noise_units, ".2f"),
                _verdict(row),
            )
        shown += [table, escape(depth.sentence)]
    return [*shown, *_not_run("Layers not compared", found.not_run)]


def comparison(rows: list[Compared]) -> Table:
    table = _table("B against A", "A", "B", "case", "output", "max abs>r", "relative>r", "SQNR dB>r", "cosine>r")
    for row in rows:
        d = row.difference
        numbers = (f"{d.max_abs:.1e}", f"{d.relative:.1e}", f"{d.sqnr_db:.1f}", f"{d.cosine:.6f}")
        table.add_row(row.a, row.b, row.case, row.output, *numbers)
    return table


def inspection(found: Inspection) -> list[Table]:
    """Operators, and a summary."""
    summary = _table(f"{found.artifact} ({found.format})", "", "")
    for side, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            shape = ", ".join("?" if n is None else str(n) for n in tensor["shape"])
            summary.add_row(side, f"{tensor['name']} [{shape}] {tensor['dtype']}")
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
        return ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
    return str(value)
