"""Results as tables for people; nothing is decided here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeattn.bundle.manifest import Bundle
from edgeattn.inspection.inspect import Inspection
from edgeattn.inspection.shares import reasons
from edgeattn.interface import tables
from edgeattn.parity import diff
from edgeattn.parity.accuracy import Accuracy, wilson
from edgeattn.parity.layers import LayerRow, Layers
from edgeattn.parity.selftest import SelfTest
from edgeattn.parity.verdicts import NotChecked, Report, Row, worst
from edgeattn.precision import FP32, NoiseLimits
from edgeattn.runtimes import Share


def files(bundle: Bundle) -> Table:
    table = tables.table(f"Bundle {bundle.folder}", "artifact", "format", "size KiB>r", "stated>?", "edges>?")
    for artifact in bundle.manifest.artifacts:
        stated = ", ".join(f"{key} {_short(value)}" for key, value in artifact.details.document().items())
        edges = next((tensor.layout for tensor in artifact.inputs if tensor.layout), "-")
        table.add_row(artifact.file.path, artifact.format, f"{artifact.file.size_bytes / 1024:.0f}", stated, edges)
    return table


def _short(value: Any) -> str:
    """A statement of a file on one line: of a long list the number of its entries."""
    return f"{len(value)} kinds" if isinstance(value, list | tuple) and len(value) > 3 else str(value)


def lowering(bundle: Bundle) -> Table:
    table = tables.table("Lowering", "layout", "module", "became>?", "why")
    for layout, changes in bundle.manifest.lowering.items():
        changes_by_kind = Counter((change.before, change.after, change.reason) for change in changes)
        for (before, after, reason), number in changes_by_kind.items():
            table.add_row(layout, f"{number} x {before}", after, reason)
        if not changes:
            why = "nothing to lower: exported as it is" if bundle.manifest.lowered else "exported as it is, as asked"
            table.add_row(layout, "-", "-", why)
    return table


def parity(report: Report) -> list[Any]:
    """Both hops with the worst case of each candidate; accuracy, what was not run, and warnings."""
    columns = (
        "output", "cases>r", "worst case>?", "max noise>r", "RMS noise>r?", "max abs>r?", "SQNR dB>r?", "verdict",
    )  # fmt: skip
    hop_one = tables.table("Hop 1: reference to lowered form, PyTorch", "layout", "fp64 error>r", *columns)
    hop_two = tables.table("Hop 2: lowered form to artifact", "artifact", "runtime", *columns)
    unshown = {entry.candidate for entry in report.not_shown}
    for rows in _by_output(report.rows):
        row = worst(rows)
        failed = sum(not r.passed for r in rows)
        judged = sum(r.judged for r in rows)
        cells = (
            row.output,
            str(len(rows)) if judged == len(rows) else f"{judged} of {len(rows)}",
            row.case,
            tables.number(row.max_noise_units, ".2f"),
            tables.number(row.rms_noise_units, ".2f"),
            tables.number(row.max_abs, ".1e"),
            tables.number(row.sqnr_db, ".1f"),
            NOT_SHOWN
            if row.passed and row.hop == "conversion" and row.candidate in unshown
            else _verdict(row, f" (in {failed} cases)" if failed > 1 else ""),
        )
        if row.hop == "lowering":
            errors = [r.exact_relative_error for r in rows if r.exact_relative_error is not None]
            hop_one.add_row(row.candidate, tables.number(max(errors, default=None), ".0e"), *cells)
        else:
            hop_two.add_row(row.candidate, row.runtime, *cells)
            if others := [r for r in rows if not r.judged and r.passed]:
                hop_two.add_row(row.candidate, row.runtime, row.output, str(len(others)), *_apart(others))
    parts: list[Any] = [hop_one, hop_two]
    if report.accuracy:
        parts.append(_accuracy(report))
    warnings = (f"[yellow]Warning:[/] {escape(warning)}" for warning in report.warnings)
    return [*parts, *_not_run("Not run", report.not_run), *_not_shown(report), *warnings]


def verdict(report: Report) -> list[str]:
    """What noise units are, and how many files are the same model: the last lines on the screen."""
    limits = FP32.limits
    assert isinstance(limits, NoiseLimits)
    failed = [
        *(r.candidate for r in report.rows if not r.passed),
        *(r.candidate for r in report.accuracy if not r.passed),
    ]
    wrong = dict.fromkeys(failed)
    unshown = dict.fromkeys(e.candidate for e in report.not_shown if e.candidate not in wrong)
    files = report.artifacts_checked | unshown.keys() | {name for name in wrong if name in report.artifacts_checked}
    good = len(files - wrong.keys() - unshown.keys())
    number = f"{good} of {len(files)} file{'s' * (len(files) != 1)}"
    text = (
        f"[{'green' if report.passed else 'red' if report.wrong else 'yellow'}]{number} shown to be the same model[/]"
    )
    if wrong:
        text += f"; different: {escape(', '.join(wrong))}"
    if unshown:
        text += f"; not shown: {escape(', '.join(unshown))}"
    return [
        "Noise units are multiples of the reference's own error in float32: up to "
        f"{limits.max_noise_units:g} (max) and {limits.rms_noise_units:g} (RMS) fp32 is the same.",
        f"{text}.",
    ]


# Neither proved the same model nor another.
NOT_SHOWN = Text("not shown", "yellow")


def _apart(rows: list[Row]) -> tuple[str | Text, ...]:
    """Cells for the inputs that a lower precision is not made for: the worst, apart from what is judged."""
    row = worst(rows)
    sqnr = tables.number(row.sqnr_db, ".1f")
    return row.case, "-", "-", tables.number(row.max_abs, ".1e"), sqnr, Text("other inputs, not judged", "dim")


def _not_shown(report: Report) -> list[Table]:
    table = tables.table("Not shown to be the same model", "artifact", "runtime", "reason")
    for entry in report.not_shown:
        table.add_row(entry.candidate, "-", entry.reason)
    for finer in report.finer:
        table.add_row(finer.candidate, finer.runtime, finer.reason)
    return [table] if table.row_count else []


def _by_output(rows: Iterable[Row]) -> list[list[Row]]:
    """The cases of one candidate, runtime and output together, in order."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.hop, row.candidate, row.runtime, row.output), []).append(row)
    return list(groups.values())


def self_test(result: SelfTest) -> list[Table]:
    """Every mutant by artifact and runtime, the kill rate by format, and what was not run."""
    mutants = []
    for candidate, runtime in dict.fromkeys((t.candidate, t.runtime) for t in result.trials):
        columns = ("mutation", "place>?", "verdict", "noise>r?", "killed by>?", "reason")
        table = tables.table(f"Damaged copies of {candidate}, in {runtime}", *columns)
        for trial in (t for t in result.trials if (t.candidate, t.runtime) == (candidate, runtime)):
            judgement = trial.judgement
            table.add_row(
                trial.mutation,
                trial.place,
                Text(judgement.verdict, "red" if judgement.verdict == "survived" else "green"),
                tables.number(judgement.noise_units, ".3g"),
                judgement.case or "-",
                "" if judgement.verdict == "killed" else judgement.reason,
            )
        mutants.append(table)
    rates = tables.table(
        "Kill rate", "format", "killed>r", "refused>r", "survived>r", "rate>r", "equivalent, not counted>r?"
    )
    for name, rate in result.kill_rates.items():
        number = Counter(t.judgement.verdict for t in result.trials if t.format == name)
        counts = [str(number[verdict]) for verdict in ("killed", "refused", "survived")]
        rates.add_row(name, *counts, f"{rate:.1%}", str(number["equivalent"]))
    return [*mutants, rates, *_not_run("Not run", result.not_run)]


def _not_run(title: str, entries: tuple[NotChecked, ...]) -> list[Table]:
    table = tables.table(title, "artifact", "runtime", "reason")
    for entry in entries:
        table.add_row(entry.candidate, entry.runtime, entry.reason)
    return [table] if entries else []


def _accuracy(report: Report) -> Table:
    is_dense = any(row.miou is not None for row in report.accuracy)
    # The pixels of an image are not independent: no interval.
    more = "mIoU>r" if is_dense else "95 % interval>r?"
    columns = (
        "artifact",
        "runtime",
        "pixels>r" if is_dense else "top-1>r",
        more,
        "reference>r?",
        "agreeing>r",
        "verdict",
    )
    table = tables.table("Accuracy on the held-out inputs", *columns)
    for row in report.accuracy:
        low, high = wilson(row.correct, row.n)
        interval, reference = f"{low:.1%} to {high:.1%}", f"{row.reference_correct} of {row.n}"
        if row.miou is not None and row.reference_miou is not None:
            interval, reference = f"{row.miou:.1%}", f"{row.reference_miou:.1%}"
        share = f"{row.agreeing / row.n:.2%}" if is_dense else f"{row.agreeing} of {row.n}"
        table.add_row(
            row.candidate,
            row.runtime,
            f"{row.correct} of {row.n}, {row.correct / row.n:.1%}",
            interval,
            reference,
            share,
            _verdict(row),
        )
    return table


def _verdict(row: Row | Accuracy | LayerRow, more: str = "") -> Text:
    return tables.verdict(row.passed, f"{row.reason}{more}")


def layers(result: Layers) -> list[Any]:
    """For each artifact and runtime the layers in order of execution, and where its error begins."""
    shown: list[Any] = []
    for depth in result.depths:
        table = tables.table(
            f"Layers of {depth.candidate} in {depth.runtime}",
            *("layer", "op>?", "line>?", "op in the artifact>?", "max noise>r", "RMS noise>r?", "verdict"),
        )
        for row in depth.rows:
            table.add_row(
                row.layer,
                row.op,
                row.source.partition(" ")[0],
                f"{row.artifact_op} {row.tensor}",
                tables.number(row.max_noise_units, ".2f"),
                tables.number(row.rms_noise_units, ".2f"),
                _verdict(row),
            )
        shown += [table, escape(depth.sentence)]
    return [*shown, *_not_run("Layers not compared", result.not_run)]


def comparison(rows: list[diff.Row]) -> Table:
    table = tables.table(
        "B against A", "A", "B", "case>?", "output", "max abs>r", "relative>r?", "SQNR dB>r", "cosine>r?"
    )
    for row in rows:
        d = row.difference
        numbers = (f"{d.max_abs:.1e}", f"{d.relative:.1e}", f"{d.sqnr_db:.1f}", f"{d.cosine:.6f}")
        table.add_row(row.a, row.b, row.case, row.output, *numbers)
    return table


def inspection(result: Inspection) -> list[Table]:
    """A summary, and the operators by kind."""
    summary = tables.table(f"{result.artifact} ({result.format})", "", "")
    for side, tensors in (("input", result.inputs), ("output", result.outputs)):
        for tensor in tensors:
            shape = ", ".join("?" if n is None else str(n) for n in tensor["shape"])
            summary.add_row(side, f"{tensor['name']} [{shape}] {tensor['dtype']}")
    summary.add_row("operators", f"{sum(result.operators.values())}")
    summary.add_row("layout ops", _kinds(result.layout_ops, result.layout_bytes))
    summary.add_row("copy ops", _kinds(result.copy_ops, result.copy_bytes))
    free = "unknown: they depend on axes that the file leaves free"
    summary.add_row("multiply-adds", free if result.macs is None else f"{result.macs:,}")
    summary.add_row("parameters", f"{result.parameters:,}")
    for key, value in (*result.details.items(), *((f"runtime: {k}", v) for k, v in result.runtime.items())):
        summary.add_row(key, _plain(value))
    operators = tables.table("Operators", "kind", "count>r")
    for kind, number in result.operators.items():
        operators.add_row(kind, str(number))
    return [summary, operators]


def shares(found: Sequence[Share]) -> list[Table]:
    """Who runs what: a row for each backend, and one for each reason why an operator is left."""
    summary = tables.table("Who runs what", "backend", "takes>r", "leaves>r", "partitions>r", "")
    rest = tables.table("Left to others", "backend", "operator", "number>r", "in its words", "for example>?")
    for share in found:
        if share.taken is None:
            summary.add_row(share.backend, "-", "-", "-", f"not asked: {share.note}")
            continue
        partitions = tables.number(share.partitions, "d")
        summary.add_row(share.backend, str(share.taken), str(len(share.left)), partitions, share.note)
        for kind, number, reason, example in reasons(share.left):
            rest.add_row(share.backend, kind, str(number), reason, example)
    return [summary, rest] if rest.rows else [summary]


def _kinds(ops: dict[str, int], size: int) -> str:
    return f"{sum(ops.values())}" + (f" ({_plain(ops)}; {size:,} bytes)" if ops else "")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
    return str(value)
