"""The tables of a report. Each origin has its own: no column mixes a phone and an emulated core."""

from collections.abc import Iterable
from itertools import groupby

from edgeattn.bundle.records import NotRun, Record
from edgeattn.profile import comparison
from edgeattn.report import words
from edgeattn.report.content import Accuracy, Judged
from edgeattn.report.document import Cell, Column, Table, Tone
from edgeattn.report.result import Result, origin_name

_CAVEATS = {
    "emulated": "Instructions of one run, counted on an emulated core; they ignore caches and are no time.",
    "browser": "Measured in a browser on a computer: not a phone's figures.",
    "host": "Measured on the machine that ran edgeattn: not a phone's figures.",
}
_TONES: dict[str, Tone] = {"same": "good", "DIFFERENT": "bad", "not shown": "caution"}
# A page of thousands of rows takes minutes to write and is not read.
_MOST_ROWS = 500


def by_origin(results: Iterable[Result]) -> tuple[Table, ...]:
    """A table for each origin; the results are sorted by origin."""
    return tuple(_table(origin, list(rows)) for origin, rows in groupby(results, key=lambda r: r.origin))


def _table(origin: str, rows: list[Result]) -> Table:
    counted = origin == "emulated"
    figures = (
        ("Instructions, M", "SIMD, M", "Loads and stores, M")
        if counted
        else ("p50, ms", "p90, ms", "p99, ms", "Load, ms")
    )
    several = len({row.model for row in rows}) > 1
    columns = (
        *([Column("Model")] if several else []),
        Column("Artifact"),
        Column("Target"),
        Column("Runtime"),
        *(Column(name, numeric=True) for name in figures),
        *([] if counted else [Column("Memory, MiB", numeric=True)]),
        Column("Size, MiB", numeric=True),
        Column("Layout ops", numeric=True),
        Column("Parity, noise units", numeric=True),
    )
    slowest = max((_cost(row) for row in rows), default=0.0) or 1.0
    lines = []
    for row in rows[:_MOST_ROWS]:
        model = [Cell(row.model)] if several else []
        lines.append((*model, *_named(row), *_figures(row, slowest, counted=counted), *_common(row)))
    more = len(rows) - len(lines)
    bounded = f"{words.number(more, 'row')} more: a .csv or .json report has all." if more else ""
    return Table(
        origin_name(origin), columns, tuple(lines), " ".join(filter(None, (_CAVEATS.get(origin, ""), bounded)))
    )


def _named(row: Result) -> tuple[Cell, ...]:
    tone: Tone = "" if row.status == "measured" else "caution"
    about = ", ".join(filter(None, (row.format, row.precision, "" if row.status == "measured" else row.status)))
    threads = words.number(row.threads, "thread")
    device = "" if row.device == row.target else row.device
    return (
        Cell(row.artifact, about, tone),
        Cell(row.target, device),
        Cell(f"{row.runtime} {row.runtime_version}", threads),
    )


def _figures(row: Result, slowest: float, *, counted: bool) -> tuple[Cell, ...]:
    share = _cost(row) / slowest
    if counted:
        total = Cell(words.millions(row.instructions), words.number(row.runs, "run"), share=share)
        return total, Cell(words.millions(row.simd_instructions)), Cell(words.millions(row.memory_instructions))
    interval = "" if row.p50_low_ms is None else f"{words.ms(row.p50_low_ms)} to {words.ms(row.p50_high_ms)}"
    return (
        Cell(words.ms(row.p50_ms), interval, share=share if row.p50_ms is not None else None),
        Cell(words.ms(row.p90_ms)),
        Cell(words.ms(row.p99_ms), words.number(row.runs, "run")),
        Cell(words.ms(row.load_ms)),
        Cell(words.mib(row.peak_memory_mib)),
    )


def _common(row: Result) -> tuple[Cell, ...]:
    return (
        Cell(words.mib(row.size_bytes / 2**20)),
        Cell(words.DASH if row.layout_ops is None else str(row.layout_ops), tone="good" if row.layout_ops == 0 else ""),
        verdict_cell(row.same_model, row.parity, row.sqnr_db),
    )


def _cost(row: Result) -> float:
    return float(row.p50_ms if row.p50_ms is not None else row.instructions or 0)


def verdict_cell(same: bool | None, noise_units: float | None, sqnr_db: float | None, *, is_shown: bool = True) -> Cell:
    """``is_shown`` is False for an artifact of which no check failed, and none proves that it is the same model."""
    if same is None:
        return Cell(words.DASH, "not judged")
    verdict = "DIFFERENT" if not same else "same" if is_shown else "not shown"
    detail = verdict + ("" if sqnr_db is None else f", {sqnr_db:.0f} dB")
    return Cell(words.units(noise_units), detail, _TONES[verdict])


def interleaved(records: Iterable[Record]) -> Table | None:
    """The ratios of interleaved runs (A B A B), which are more accurate than those of separate runs."""
    # A clock that is too coarse gives samples of zero, which have no ratio.
    timed = [record for record in records if record.samples_ns and min(record.samples_ns) > 0]
    rows = []
    first_of_group = {record.group: record for record in reversed(timed)}
    for ratio in comparison.ratios(timed)[:_MOST_ROWS]:
        record = first_of_group[ratio.group]
        times = ratio.times_as_fast
        verdict: tuple[str, Tone] = (
            ("faster", "good") if times.low > 1 else ("slower", "") if times.high < 1 else ("can't tell", "")
        )
        rows.append(
            (
                Cell(ratio.candidate),
                Cell(record.runtime, words.number(record.threads, "thread")),
                Cell(record.target, f"{origin_name(record.origin)}, {record.device.name}"),
                Cell(f"{times.value:.2f} x", f"{times.low:.2f} to {times.high:.2f}"),
                Cell(ratio.baseline),
                Cell(verdict[0], tone=verdict[1]),
            )
        )
    columns = (
        Column("Artifact"), Column("Runtime"), Column("Target"), Column("As fast", numeric=True),
        Column("As this one"), Column("So it is"),
    )  # fmt: skip
    note = (
        "Runs were interleaved: a drift of the machine affects both. The median of the ratios, and its 95 % interval."
    )
    return Table("Interleaved runs", columns, tuple(rows), note) if rows else None


def parity(judged: Iterable[Judged], not_shown: Iterable[NotRun] = ()) -> Table:
    """Parity at export, in the runtimes of the machine that made the bundles."""
    unproven = {entry.subject for entry in not_shown}
    columns = (
        Column("Artifact"), Column("Runtime"), Column("Cases", numeric=True), Column("Worst case"),
        Column("Noise units", numeric=True), Column("Size, MiB", numeric=True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(j.artifact, j.model),
            Cell(j.runtime),
            Cell(str(j.cases)),
            Cell(j.worst, j.reason),
            verdict_cell(j.passed, j.max_noise_units, j.sqnr_db, is_shown=j.artifact not in unproven),
            Cell(words.mib(None if j.size_bytes is None else j.size_bytes / 2**20)),
        )
        for j in judged
    )
    note = "Errors in units of the reference's own rounding error, the noise floor. dB: signal to noise."
    return Table("Parity, artifact against reference", columns, rows, note)


def accuracy(results: Iterable[Accuracy]) -> Table:
    columns = (Column("Artifact"), Column("Runtime"), *(Column(name, numeric=True)
               for name in ("Right answers", "Reference", "Agreeing")), Column("Verdict"))  # fmt: skip
    rows = tuple(
        (
            Cell(a.artifact, a.model),
            Cell(a.runtime),
            Cell(_right(a.correct, a.n, a.miou), f"{a.correct} of {a.n}"),
            Cell(_right(a.reference_correct, a.n, a.reference_miou), f"{a.reference_correct} of {a.n}"),
            Cell(f"{a.agreeing / a.n:.1%}" if a.n else words.DASH, f"{a.agreeing} of {a.n}"),
            Cell("same" if a.passed else "DIFFERENT", a.reason, "good" if a.passed else "bad"),
        )
        for a in results
    )
    return Table("Accuracy on inputs that training never saw", columns, rows)


def _right(correct: int, n: int, miou: float | None) -> str:
    share = f"{correct / n:.1%}" if n else words.DASH
    return share if miou is None else f"{share} of pixels, mIoU {miou:.1%}"


def not_run(entries: Iterable[NotRun]) -> Table:
    columns = (Column("What"), Column("Where"), Column("Why not"))
    rows = tuple((Cell(e.subject), Cell(e.target), Cell(e.reason)) for e in entries)
    return Table("Not run", columns, rows)
