"""Rows as a Markdown table."""

from collections.abc import Iterable

import numpy as np

from benchmarks.peers.convert import OURS
from benchmarks.peers.measure import Row, ratio

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
    identity = (row.candidate.form, row.candidate.converter, row.runtime)
    inspection = row.inspection
    if inspection is None:
        return (*identity, *("-",) * (len(HEADER) - 4), f"does not convert: {row.not_run}".replace("|", "\\|"))
    return (
        *identity,
        str(sum(inspection.operators.values())),
        _counts(inspection.layout_ops),
        _counts(inspection.copy_ops),
        "-" if inspection.macs is None else f"{inspection.macs / 1e9:.3f} G",
        str(inspection.runtime.get("xnnpack_partitions", "-")),
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
        return row.not_run if row.comparison else f"not run: {row.not_run}"
    if row is ours:
        return "1"
    if not ours.samples_ns:
        return f"ours was not run: {ours.not_run}"
    speed = ratio(baseline_ns=row.samples_ns, candidate_ns=ours.samples_ns)
    return f"{speed.median:.2f} x ({speed.low:.2f} to {speed.high:.2f})"
