"""Measurements as tables for people; nothing is decided here."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeattn.bundle.records import NotRun, Record, middle
from edgeattn.interface.tables import number, table, verdict
from edgeattn.profile import heat
from edgeattn.profile.comparison import Comparison, Ratio
from edgeattn.profile.latency import Interval, summary
from edgeattn.system.duration import clock

_SLOWEST = 12
_MOST_CHANGES = 500
# Why a change is a failure, after its verdict.
_OVER = ", over the limit"
_WHY = {"missing": " in NEW", "can't tell": ", which fails", "different": ""}


def measured(records: Sequence[Record], ratios: Sequence[Ratio], not_run: Sequence[NotRun]) -> list[Any]:
    """Counted instructions or times (no table has both), ratios, operators, and quality warnings."""
    timed = [record for record in records if not record.counts]
    shown: list[Any] = []
    if counted := [record for record in records if record.counts]:
        shown.append(_counted(counted))
    if timed:
        shown += _timed(timed)
    if ratios:
        shown.append(_ratios(ratios))
    shown += _sustained(records)
    # One list for each artifact and runtime: with other threads it is similar, and in the file of records.
    with_operators = {(r.subject.artifact, r.runtime): r for r in reversed(timed) if r.operators}
    shown += [_operators(record) for record in reversed(with_operators.values())]
    notes = {
        f"No time by operator in {r.runtime}: {r.operators_note}" for r in timed if r.operators_note and not r.operators
    }
    shown += map(escape, sorted(notes))
    for record in records:
        about = f"{record.subject.artifact} in {record.runtime}, threads {record.threads}"
        shown += [f"[yellow]Not to be trusted:[/] {escape(about)}: {escape(reason)}" for reason in record.untrusted]
    if not_run:
        unmeasured = table("Not run", "artifact", "target", "reason")
        for entry in not_run:
            unmeasured.add_row(entry.subject, entry.target, entry.reason)
        shown.append(unmeasured)
    return shown


def _sustained(records: Sequence[Record]) -> list[Any]:
    """Sustained runs minute by minute, a table for each record, and what changes from the first stretch to the last."""
    shown: list[Any] = []
    for record in records:
        if found := heat.course(record):
            title = f"{record.subject.artifact} in {record.runtime}, threads {record.threads}, minute by minute"
            minutes = table(title, "until>r", "p50 ms>r", "p90 ms>r", "runs>r", "°C>r", "MHz>r")
            for minute in found.minutes:
                times = (f"{ns / 1e6:.3f}" for ns in (minute.p50_ns, minute.p90_ns))
                state = number(minute.temperature_c, ".1f"), number(minute.frequency_mhz, "d")
                minutes.add_row(clock(minute.end_s), *times, f"{minute.runs:,}", *state)
            ratio = found.last_to_first
            interval = f" (last / first {ratio.value:.3f}, {_interval(ratio)})" if ratio else ""
            shown += [minutes, escape(f"{found.sentence.removesuffix('.')}{interval}.")]
    return [*shown, *(escape(f"{each.group.rpartition(', ')[0]}: {each.sentence}") for each in heat.places(records))]


_ABOUT = ("artifact", "origin>?", "device>?", "runtime", "threads>r?")


def _about(record: Record) -> tuple[str, ...]:
    runtime = f"{record.runtime} {record.runtime_version}"
    return record.subject.artifact, record.origin, record.device.name, runtime, str(record.threads)


def _parity(record: Record) -> Text:
    if record.parity is None:
        return Text("-")
    noise = number(record.parity.max_noise_units, ".1f")
    return verdict(record.parity.passed, f"({noise})" if record.parity.passed else record.parity.reason)


def _counted(records: Sequence[Record]) -> Table:
    title = "Instructions of one run, median"
    shown = table(title, *_ABOUT, "all>r", "SIMD>r?", "memory>r?", "runs>r?", "layout ops>r?", "parity (noise units)")
    for record in records:
        run = middle(record.counts)
        sums = (f"{n:,}" for n in (run.total, run.simd, run.memory))
        layout = number(record.subject.layout_ops, "d")
        shown.add_row(*_about(record), *sums, str(len(record.counts)), layout, _parity(record))
    return shown


def _timed(records: Sequence[Record]) -> list[Table]:
    times = table(
        "Time of one run, ms", *_ABOUT, "p50>r", "95 % interval>r?", "p90>r?", "p99>r?", "sd>r?", "runs>r?", "runs/s>r?"
    )
    columns = ("load ms>r?", "first run ms>r", "warm-up>r?", "peak MiB>r?", "layout ops>r?", "parity (noise units)")
    rest = table("Load, warm-up and memory", "artifact", "runtime", "threads>r", *columns)
    for record in records:
        times.add_row(*_about(record), *_statistics(record))
        rest.add_row(
            *(record.subject.artifact, record.runtime, str(record.threads)),
            number(_ms(record.load_ns), ".1f"),
            number(_ms(record.first_run_ns), ".3f"),
            f"{record.warmup} runs, {number(_ms(record.warmup_ns), '.0f')} ms",
            number(None if record.peak_memory_bytes is None else record.peak_memory_bytes / 2**20, ".0f"),
            number(record.subject.layout_ops, "d"),
            _parity(record),
        )
    return [times, rest]


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e6


def _statistics(record: Record) -> list[str]:
    if not record.samples_ns:
        return ["-"] * 5 + ["0", "-"]
    s = summary(record.samples_ns)
    low, high = s.p50_interval_ns
    interval = f"{low / 1e6:.3f} to {high / 1e6:.3f}"
    tail = [f"{ns / 1e6:.3f}" for ns in (s.p90_ns, s.p99_ns, s.sd_ns)]
    return [f"{s.p50_ns / 1e6:.3f}", interval, *tail, str(s.n), f"{1e9 / s.p50_ns:.1f}" if s.p50_ns else "-"]


def _interval(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


def _ratios(ratios: Sequence[Ratio]) -> Table:
    shown = table("Interleaved runs, A B A B", "runtime", "artifact", "times as fast>r", "95 % interval>r?", "as")
    for ratio in ratios:
        speed = ratio.times_as_fast
        environment = ratio.group.rpartition(", ")[0]
        shown.add_row(environment, ratio.candidate, f"{speed.value:.3f}", _interval(speed), ratio.baseline)
    return shown


def _operators(record: Record) -> Table:
    """The slowest operators, and the sums of the layout ops and reorders."""
    title = f"{record.subject.artifact} in {record.runtime} by operator: {record.operators_note}"
    shown = table(title, "operator", "kind>?", "layer>?", "us>r", "share>r")
    total = sum(op.median_ns for op in record.operators) or 1
    slowest = sorted(record.operators, key=lambda op: -op.median_ns)
    layout = [op for op in record.operators if op.layout]
    reorder = [op for op in record.operators if op.kind.startswith("Reorder")]
    sums = (
        (f"{len(slowest) - _SLOWEST} others", slowest[_SLOWEST:]),
        (f"layout ops, {len(layout)}", layout),
        (f"the runtime's own reorders, {len(reorder)}", reorder),
        ("all", slowest),
    )
    for op in slowest[:_SLOWEST]:
        shown.add_row(op.name, op.kind, op.layer, f"{op.median_ns / 1e3:.0f}", f"{op.median_ns / total:.1%}")
    for name, ops in sums:
        ns = sum(op.median_ns for op in ops)
        if ops or ops is layout:
            shown.add_row(Text(name, "bold"), "", "", f"{ns / 1e3:.0f}", f"{ns / total:.1%}")
    return shown


def compared(result: Comparison) -> list[Any]:
    """New records against old ones."""
    about = ("artifact", "target>?", "runtime", "threads>r?", "quantity")
    shown = table("NEW against OLD", *about, "old>r", "new>r", "new / old>r", "95 % interval>r?", "verdict")
    # What fails comes first, then what changed: nobody reads thousands of rows, and drawing them takes long.
    ordered = sorted(result.changes, key=lambda c: (c.passed, c.verdict in ("same", "can't tell")))
    changes = ordered if len(ordered) > _MOST_CHANGES else result.changes
    for change in changes[:_MOST_CHANGES]:
        growth = change.growth
        shown.add_row(
            *(change.artifact, change.target, change.runtime, str(change.threads), change.quantity),
            *(_quantity(change.quantity, value) for value in (change.old, change.new)),
            number(growth.value if growth else None, ".3f"),
            _interval(growth) if growth and growth.low < growth.high else "-",
            change.verdict if change.passed else Text(f"{change.verdict}{_WHY.get(change.verdict, _OVER)}", "red"),
        )
    notes = {
        f"{change.artifact} in {change.runtime}, {change.quantity}: {change.note}": 0
        for change in changes[:_MOST_CHANGES]
        if change.note
    }
    only_in = (("OLD", result.only_old), ("NEW", result.only_new))
    only = [f"Only in {which}: {escape(name)}" for which, names in only_in for name in names]
    more = len(changes) - _MOST_CHANGES
    bounded = [f"{more:,} rows more, none of which fails: --json has all."] if more > 0 else []
    if more > 0 and not changes[_MOST_CHANGES].passed:
        bounded = [f"[red]{more:,} rows more, and some fail:[/] --json has all."]
    if len(only) > _MOST_CHANGES:
        only = [*only[:_MOST_CHANGES], f"{len(only) - _MOST_CHANGES:,} records more are in one file only."]
    return [shown, *bounded, *map(escape, notes), *only]


def _quantity(quantity: str, value: float | None) -> str:
    if value is not None and quantity == "memory":
        return f"{value / 2**20:.1f} MiB"
    if value is not None and quantity in ("time", "p99", "load"):
        return f"{value / 1e6:.3f} ms"
    return number(value, ",.0f")
