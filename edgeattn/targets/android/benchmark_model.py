"""TensorFlow Lite's and LiteRT's `benchmark_model`: its options and its output (tflite/tools/benchmark).

It prints sums over its runs, never a single run. So it is started for each sample, with one measured run: the sum is
that run.
"""

import re
from pathlib import Path

from edgeattn.bundle.records import Operator
from edgeattn.targets import Job
from edgeattn.targets.android.benchmark_output import BenchmarkTool, ToolOutput, error, number, operator, text

_START = "== start"
_OPERATORS = "operators.txt"
# Its clock counts microseconds.
CLOCK_STEP_NS = 1000
OPERATOR_RUNS = 20


def _common(job: Job, tool: str, artifact: str) -> str:
    # Without the minimum durations it would run more often than --num_runs.
    minimums = "--min_secs=0 --warmup_min_secs=0"
    return f"{tool} --graph={artifact} --num_threads={job.threads} --use_xnnpack=true {minimums}"


def _sample_ns(start: str) -> int | None:
    """The single measured run of a start: its sum is the last, after the warm-up's."""
    if "Inference timings in us:" not in start:
        return None
    sums = re.findall(r"^(?:INFO: )?count=(\d+) (?:first=\S+ )?curr=(\d+)", start, re.MULTILINE)
    return int(sums[-1][1]) * 1000 if sums and sums[-1][0] == "1" else None


def _operators(output: str) -> tuple[Operator, ...]:
    """The table of the regular runs in the order of execution; its columns differ between versions."""
    table = output.partition("Operator-wise Profiling Info for Regular Benchmark Runs:")[2]
    table = table.partition(" Run Order =")[2].partition("=====================")[2]
    rows = [[cell.strip() for cell in line.split("\t")[1:]] for line in table.split("\n=====")[0].splitlines()]
    rows = [row for row in rows if row and row[0]]
    if not rows or "[avg ms]" not in rows[0]:
        return ()
    kind, average, name = (rows[0].index(column) for column in ("[node type]", "[avg ms]", "[Name]"))
    return tuple(operator(row[name], row[kind], float(row[average]) * 1e6) for row in rows[1:] if len(row) > name)


def _note(operators: tuple[Operator, ...]) -> str:
    if operators:
        return f"benchmark_model's own means, not medians, of {OPERATOR_RUNS} runs with its profiler on"
    return "benchmark_model gave no times by operator"


def _ns(us: float | None) -> int | None:
    return None if us is None else round(us * 1000)


class BenchmarkModel(BenchmarkTool):
    """LiteRT's tool."""

    name, format = "benchmark_model", "tflite"
    live_files = ("out.txt",)

    def starts(self, job: Job, *, interleaved: bool) -> int:
        """The number of starts."""
        return job.runs

    def once(self, job: Job, warmup: int, tool: str, artifact: str, *, starts: int) -> str:
        """One start, in the job's folder."""
        line = f"{_common(job, tool, artifact)} --warmup_runs={max(warmup, 1)} --num_runs=1"
        return f"echo '{_START}' >>out.txt && {line} >>out.txt 2>&1"

    def after(self, job: Job, tool: str, artifact: str) -> str:
        """A last start, for values whose collection would disturb the times: memory, and times by operator."""
        runs = f"--warmup_runs=1 --num_runs={OPERATOR_RUNS} --report_peak_memory_footprint=true"
        profiling = f"--enable_op_profiling={'true' if job.operators else 'false'}"
        return f"{_common(job, tool, artifact)} {runs} {profiling} >{_OPERATORS} 2>&1"

    def parse(self, folder: Path, job: Job, warmup: int) -> ToolOutput:
        """Read the output files in ``folder``."""
        starts = text(folder / "out.txt").split(_START)[1:]
        samples = tuple(sample for start in starts if (sample := _sample_ns(start)) is not None)
        profiled = text(folder / _OPERATORS)
        first = starts[0] if starts else ""
        peak_mb = number("Overall peak memory footprint (MB) via periodic monitoring:", profiled)
        operators = _operators(profiled) if job.operators else ()
        return ToolOutput(
            samples_ns=samples,
            clock_step_ns=CLOCK_STEP_NS,
            load_ns=_ns(number("Init:", first)),
            first_run_ns=_ns(number("First inference:", first)),
            peak_memory_bytes=round(peak_mb * 2**20) if peak_mb and peak_mb > 0 else None,
            operators=operators,
            operators_note=_note(operators) if job.operators else "",
            error=error(starts[-1]) if starts else "",
        )


TOOL: BenchmarkTool = BenchmarkModel()
