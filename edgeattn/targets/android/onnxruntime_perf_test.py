"""onnxruntime's `onnxruntime_perf_test`: its options, its result file and its profile (onnxruntime/test/perftest)."""

from math import ceil
from pathlib import Path
from statistics import median

from edgeattn.bundle.records import Operator
from edgeattn.system import files
from edgeattn.targets import Job
from edgeattn.targets._runner.worker import kernels
from edgeattn.targets.android.benchmark_output import BenchmarkTool, ToolOutput, error, number, operator, text

# It makes random inputs from this seed; without one the inputs would be uninitialised memory.
SEED = 1
TURNS = 10
OPERATOR_RUNS = 20
# Some hundred bytes for each kernel of each run.
PROFILE_BYTES = 2**24


def _common(job: Job, tool: str) -> str:
    # It would send telemetry, on Android too.
    return f"ORT_DISABLE_TELEMETRY=1 {tool} -e cpu -m times -x {job.threads} -y 1 -I -S {SEED}"


def _operators(folder: Path) -> tuple[Operator, ...]:
    """The kernels of its profile, in order, each with its median time."""
    profile = next(folder.glob("profile_*.json"), None)
    try:
        if profile:
            files.check_regular(profile, PROFILE_BYTES)
        times_by_kernel = kernels(str(profile)) if profile else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # cut off, or no profile
        return ()
    return tuple(operator(name, kind, median(times)) for (name, kind), times in times_by_kernel.items())


def _note(operators: tuple[Operator, ...]) -> str:
    if operators:
        return f"medians of {OPERATOR_RUNS} runs with onnxruntime's profiler on"
    return "onnxruntime_perf_test wrote no profile"


class OnnxruntimePerfTest(BenchmarkTool):
    """onnxruntime's tool."""

    name, format = "onnxruntime_perf_test", "onnx"
    live_files = ("out.txt", "result.csv")

    def starts(self, job: Job, *, interleaved: bool) -> int:
        """The number of starts: one, as it writes each run; several when interleaved with other jobs."""
        return min(TURNS, job.runs) if interleaved else 1

    def once(self, job: Job, warmup: int, tool: str, artifact: str, *, starts: int) -> str:
        """One start, in the job's folder. It warms up with one run by itself; the rest of the warm-up are measured
        runs, which :meth:`parse` leaves out."""
        runs = ceil(job.runs / starts) + max(warmup - 1, 0)
        return f"{_common(job, tool)} -r {runs} {artifact} result.csv >>out.txt 2>&1"

    def after(self, job: Job, tool: str, artifact: str) -> str:
        """A last start, for times by operator."""
        if not job.operators:
            return ":"
        return f"{_common(job, tool)} -r {OPERATOR_RUNS} -p profile {artifact} >profile.txt 2>&1"

    def parse(self, folder: Path, job: Job, warmup: int) -> ToolOutput:
        """Read the output files in ``folder``; a line of the result file is model, seconds, peak bytes, CPU %, run."""
        lines = [line.rsplit(",", 4) for line in text(folder / "result.csv").split("\n")[:-1]]
        runs = [line for line in lines if len(line) == 5 and int(line[4]) >= warmup - 1]
        output = text(folder / "out.txt")
        load_s = number("Session creation time cost:", output)
        operators = _operators(folder) if job.operators else ()
        return ToolOutput(
            samples_ns=tuple(round(float(run[1]) * 1e9) for run in runs[: job.runs]),
            load_ns=None if load_s is None else round(load_s * 1e9),
            # No first_run_ns: the tool prints it in whole milliseconds only.
            peak_memory_bytes=int(runs[-1][2]) if runs else None,
            operators=operators,
            operators_note=_note(operators) if job.operators else "",
            error=error(output),
        )


TOOL: BenchmarkTool = OnnxruntimePerfTest()
