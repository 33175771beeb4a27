"""Rows as a Markdown table."""

from collections.abc import Iterable

import numpy as np

from benchmarks.peers.convert import OURS
from benchmarks.peers.measure import RUNTIMES, Row, ratio

HEADER = (
    "form", "converter", "runtime", "operators", "layout ops", "copy ops", "multiply-adds", "XNNPACK partitions",
    "size", "same outputs?", "median", "ours is faster by (95 % interval)",
)  # fmt: skip


def table(rows: Iterable[Row]) -> str:
    """One line a row; speed is against our row of the same runtime."""
    rows = list(rows)
    ours = {row.candidate.format: row for row in rows if row.candidate.form == OURS}
    lines = [HEADER, ("---",) * len(HEADER), *(_cells(row, ours[row.candidate.format]) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Row, ours: Row) -> tuple[str, ...]:
    who = (row.candidate.form, row.candidate.converter, RUNTIMES[row.candidate.format])
    found = row.inspection
    if found is None:
        return (*who, *("-",) * (len(HEADER) - 4), f"does not convert: {row.not_run}".replace("|", "\\|"))
    return (
        *who,
        str(sum(found.operators.values())),
        _counts(found.layout_ops),
        _counts(found.copy_ops),
        f"{found.macs / 1e9:.3f} G",
        str(found.runtime.get("xnnpack_partitions", "-")),
        f"{row.size_bytes / 1e6:.1f} MB",
        _same(row),
        f"{np.median(row.samples_ns) / 1e6:.2f} ms" if row.samples_ns else "-",
        _speed(row, ours),
    )


def _counts(ops: dict[str, int]) -> str:
    """``51: 45 TRANSPOSE, 6 GATHER``."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in ops.items())
    return f"{sum(ops.values())}: {kinds}" if ops else "0"


def _same(row: Row) -> str:
    if row.comparison is None:
        return "not run"
    verdict = "yes" if row.comparison.passed else f"no ({row.comparison.reason})"
    return f"{verdict}, {row.comparison.sqnr_db:.0f} dB"


def _speed(row: Row, ours: Row) -> str:
    if not row.samples_ns:
        return f"not run: {row.not_run}"
    if row is ours:
        return "1"
    if not ours.samples_ns:
        return f"ours was not run: {ours.not_run}"
    found = ratio(baseline_ns=row.samples_ns, candidate_ns=ours.samples_ns)
    return f"{found.median:.2f} x ({found.low:.2f} to {found.high:.2f})"
