"""Runs artifacts in the runtime of this machine, and writes the results: `python worker.py FOLDER...`.

Sent to boards as it is: one file, Python 3.8 or later, numpy, and one of ai-edge-litert, tflite-runtime, onnxruntime.
Several folders run interleaved, A B A B, each in a process of its own.

FOLDER holds ``job.txt``, a line for each of ``artifact FILE``, ``warmup N|auto``, ``runs N``, ``threads N``,
``count 0|1``, ``operators 0|1``, and ``input FILE.npy NAME`` for each input; after ``then K``, from 1, the inputs of
another run. It writes, in the same folder:

    result.json     one JSON object; written after loading, after the warm-up, and at the end, when ``complete`` becomes
                    true; and, if requested, once more with ``operators``, lists of name, kind and median time in ns
    samples.txt     a line for each timed run, in ns, as it runs: its lines are valid even after a kill
    first-I.npy     output I of the very first run, in the order of ``outputs`` in result.json
    last-I.npy      and of the last run
    then-K-I.npy    and of the runs on further inputs, which follow the samples

If it cannot run, result.json has ``error``, a sentence, and ``kind``: ``artifact``, ``input`` or ``missing``.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

# Calls shorter than this many steps of the clock are timed several at once.
CLOCK_STEPS = 20
# A warm-up until times settle: until the medians of two windows of calls, one after the other, differ by no more than
# SETTLED. A window is so many calls, and so long that a rising clock frequency shows in it.
WINDOW_CALLS, WINDOW_NS, SETTLED = 5, 100_000_000, 0.03
WARMUP_CALLS, WARMUP_NS = 100_000, 10_000_000_000
# Calls for the times by operator, and how long they may take together.
OPERATOR_CALLS, OPERATOR_NS = 20, 5_000_000_000
PROFILED = "medians of up to 20 runs under {}'s profiler, which has steps of 1 us and takes time itself{}"
# Option before the folder in the command of a process that runs interleaved with others.
ONE_OF_SEVERAL = "--one-of-several"
# Marks for an emulator's counting plugin (arm64/counter.c); a real kernel ignores them.
REGION_BEGIN, REGION_END = 0x51510001, 0x51510002


class RefusedError(Exception):
    """Why the job cannot run: its kind (``artifact``, ``input`` or ``missing``), and a sentence."""


def read_job(folder: str) -> dict[str, Any]:
    job: dict[str, Any] = {"warmup": 1, "runs": 1, "threads": 1, "count": 0, "operators": 0}
    input_sets: list[dict[str, str]] = [{}]
    with open(os.path.join(folder, "job.txt"), encoding="utf-8") as file:
        for key, _, value in (line.partition(" ") for line in file.read().split("\n") if line):
            if key == "input":
                path, _, name = value.partition(" ")
                input_sets[-1][name] = os.path.join(folder, path)
            elif key == "then":
                input_sets.append({})
            elif key == "artifact":
                job[key] = os.path.join(folder, value)
            else:
                job[key] = None if value == "auto" else int(value)
    return {**job, "inputs": input_sets[0], "then": input_sets[1:]}


class OnnxRuntime:
    """onnxruntime, on its CPU execution provider."""

    name, placed = "onnxruntime", staticmethod(lambda options: {"providers": ["CPUExecutionProvider"]})

    def __init__(self, path: str, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise RefusedError("missing", "onnxruntime is not installed here: pip install onnxruntime") from error
        self.module, self.version, self.path, self.threads = onnxruntime, onnxruntime.__version__, path, threads
        try:
            self.session = self.load()
        except Exception as error:
            raise RefusedError("artifact", f"onnxruntime refuses the file: {first_line(error)}") from error
        self.outputs = [output.name for output in self.session.get_outputs()]

    def load(self, profile: str = "") -> Any:
        options = self.module.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.add_session_config_entry("session.x64quantprecision", "1")  # x86 without VNNI saturates otherwise
        options.enable_profiling, options.profile_file_prefix = bool(profile), profile
        return self.module.InferenceSession(self.path, options, **self.placed(options))

    def feed(self, inputs: dict[str, Any]) -> None:
        check_names([tensor.name for tensor in self.session.get_inputs()], inputs)
        self.inputs = inputs

    def run(self) -> None:
        self.values: list[Any] = self.session.run(self.outputs, self.inputs)

    def results(self) -> list[Any]:
        return self.values

    def operators(self, folder: str) -> tuple[list[Any], str]:
        """Name, kind and median time in ns of each node of the optimised graph, in order, by onnxruntime's profile."""
        session = self.load(profile=os.path.join(folder, "profile"))
        for _ in operator_calls():
            session.run(self.outputs, self.inputs)
        path = session.end_profiling()
        rows = [[*node, int(np.median(times[1:]))] for node, times in kernels(path).items()]
        os.remove(path)
        return rows, PROFILED.format(self.name, "")


def kernels(path: str) -> dict[tuple[str, str], list[int]]:
    """The times in ns, one a run, by node name and kind, of onnxruntime's profile (Chrome's trace events, in us)."""
    times: dict[tuple[str, str], list[int]] = {}
    with open(path, encoding="utf-8") as file:
        for event in json.load(file):
            name, _, suffix = event["name"].rpartition("_kernel_")
            if event.get("cat") == "Node" and suffix == "time":
                times.setdefault((name, event["args"]["op_name"]), []).append(event["dur"] * 1000)
    return times


class LiteRt:
    """LiteRT with XNNPACK, or its predecessor tflite-runtime; the Interpreter is the same."""

    name = "litert"

    def __init__(self, path: str, threads: int) -> None:
        try:
            from ai_edge_litert import __version__
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            try:
                from tflite_runtime import __version__
                from tflite_runtime.interpreter import Interpreter
            except ImportError as error:
                raise RefusedError("missing", "no LiteRT is installed here: pip install ai-edge-litert") from error
        self.version, self.path, self.threads = __version__, path, threads
        try:
            self.interpreter = Interpreter(path, num_threads=threads)
            self.interpreter.allocate_tensors()
        except Exception as error:
            raise RefusedError("artifact", f"LiteRT refuses the file: {first_line(error)}") from error
        signatures = self.interpreter.get_signature_list()
        if signatures:
            runner = self.interpreter.get_signature_runner(next(iter(signatures)))
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
        else:
            inputs = {tensor["name"]: tensor for tensor in self.interpreter.get_input_details()}
            outputs = {tensor["name"]: tensor for tensor in self.interpreter.get_output_details()}
        self.input_indices = {name: tensor["index"] for name, tensor in inputs.items()}
        self.outputs = list(outputs)
        self.output_indices = [tensor["index"] for tensor in outputs.values()]
        self.run: Callable[[], None] = self.interpreter.invoke

    def feed(self, inputs: dict[str, Any]) -> None:
        check_names(list(self.input_indices), inputs)
        self.inputs = inputs
        for name, value in inputs.items():
            self.interpreter.set_tensor(self.input_indices[name], value)

    def results(self) -> list[Any]:
        return [self.interpreter.get_tensor(index) for index in self.output_indices]

    def operators(self, folder: str) -> tuple[list[Any], str]:
        """As for onnxruntime, by the profiler of LiteRT's C interface, if it and ``litert_profiler.py`` are here."""
        try:
            profiler: Any = import_module("litert_profiler")  # absent where this file was sent alone
            rows = profiler.operators(self.path, self.threads, self.inputs, operator_calls())
        except (ImportError, OSError, AttributeError, KeyError, RuntimeError) as error:
            return [], f"no time by operator: LiteRT's profiler is not here ({first_line(error)})"
        return rows, PROFILED.format("LiteRT", "; its kernels do not tell which layer they are of")


RUNTIMES: dict[str, Callable[[str, int], Any]] = {".onnx": OnnxRuntime, ".tflite": LiteRt}


def check_names(wanted: list[str], inputs: dict[str, Any]) -> None:
    if set(wanted) != set(inputs):
        raise RefusedError("input", f"the artifact takes {', '.join(wanted)}, not {', '.join(inputs)}")


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def clock_step() -> int:
    """The smallest observed step of the clock, in ns."""
    smallest = 10**9
    for _ in range(200):
        start = now = time.perf_counter_ns()
        while now == start:
            now = time.perf_counter_ns()
        smallest = min(smallest, now - start)
    return smallest


def peak_memory_bytes() -> int | None:
    """The peak memory of this process, Python's own included: VmHWM, or on macOS the maximum resident size."""
    try:
        if sys.platform == "darwin":
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def marker() -> Callable[[int], object]:
    import ctypes

    getpriority = ctypes.CDLL(None).getpriority
    return lambda mark: getpriority(0, mark)


def elapsed_ns(run: Callable[[], None], calls: int = 1) -> int:
    start = time.perf_counter_ns()
    for _ in range(calls):
        run()
    return time.perf_counter_ns() - start


def run_once(session: Any, files: dict[str, str]) -> int:
    """Run the session on the inputs of these files; the time of the run in ns."""
    try:
        session.feed({name: np.load(path, allow_pickle=False) for name, path in files.items()})
        return elapsed_ns(session.run)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError("input", f"{session.name} fails on these inputs: {first_line(error)}") from error


def calls_per_sample(run: Callable[[], None], step_ns: int) -> int:
    """The number of calls, doubled from one, that together take CLOCK_STEPS steps."""
    calls = 1
    while elapsed_ns(run, calls) < CLOCK_STEPS * step_ns:
        calls *= 2
    return calls


def warm_up(run: Callable[[], None]) -> tuple[int, bool]:
    """Call ``run`` until its times settle: the number of calls, and whether the times settled before the limit."""
    calls, start, before = 0, time.perf_counter_ns(), None
    while calls < WARMUP_CALLS and time.perf_counter_ns() - start < WARMUP_NS:
        window: list[int] = []
        spent = 0
        while len(window) < WINDOW_CALLS or (spent < WINDOW_NS and calls + len(window) < WARMUP_CALLS):
            window.append(elapsed_ns(run))
            spent += window[-1]
        calls += len(window)
        now = float(np.median(window))
        if before is not None and abs(now - before) <= SETTLED * before:
            return calls, True
        before = now
    return calls, False


def operator_calls() -> Iterator[None]:
    """One item for each profiled call: at least two, as the first lays out memory and does not count."""
    start = time.perf_counter_ns()
    for call in range(OPERATOR_CALLS):
        if call < 2 or time.perf_counter_ns() - start < OPERATOR_NS:
            yield


def write_result(folder: str, result: dict[str, Any]) -> None:
    path = os.path.join(folder, "result.json")
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(path + ".part", path)


def save(folder: str, which: str, values: list[Any]) -> None:
    for index, value in enumerate(values):
        np.save(os.path.join(folder, f"{which}-{index}.npy"), np.asarray(value))


def work(folder: str, runtimes: dict[str, Callable[[str, int], Any]], turn: Callable[[], bool]) -> None:
    """Run the job of ``folder``; ``turn`` is called before each sample; it returns when this process may go on,
    and tells whether another job has run since."""
    job = read_job(folder)
    suffix = os.path.splitext(job["artifact"])[1]
    if suffix not in runtimes:
        raise RefusedError("artifact", f"the worker runs {' and '.join(runtimes)} files, not {suffix or 'this one'}")
    start = time.perf_counter_ns()
    session = runtimes[suffix](job["artifact"], job["threads"])
    result: dict[str, Any] = {
        "complete": False,
        "runtime": session.name,
        "runtime_version": session.version,
        "load_ns": time.perf_counter_ns() - start,
        "outputs": session.outputs,
    }
    write_result(folder, result)
    result["first_run_ns"] = run_once(session, job["inputs"])
    save(folder, "first", session.results())
    gc.disable()  # garbage collection is no part of a run
    start = time.perf_counter_ns()
    if job["warmup"] is None:
        result["warmup"], result["settled"] = warm_up(session.run)
    else:
        result["warmup"] = job["warmup"]
        for _ in range(job["warmup"]):
            session.run()
    result["warmup_ns"] = time.perf_counter_ns() - start
    step = clock_step()
    calls = 1 if job["count"] or not job["runs"] else calls_per_sample(session.run, step)
    result.update(clock_step_ns=step, calls_per_sample=calls)
    write_result(folder, result)

    mark = marker() if job["count"] else lambda _: None
    with open(os.path.join(folder, "samples.txt"), "w", encoding="ascii") as samples:
        for _ in range(job["runs"]):
            if turn():
                # The other job's data are in the caches, and its threads may still be spinning.
                session.run()
            mark(REGION_BEGIN)
            elapsed = elapsed_ns(session.run, calls)
            mark(REGION_END)
            samples.write(f"{elapsed // calls}\n")
            samples.flush()
    save(folder, "last", session.results())
    for number, files in enumerate(job["then"], 1):
        run_once(session, files)
        save(folder, f"then-{number}", session.results())
    result.update(complete=True, peak_memory_bytes=peak_memory_bytes())
    write_result(folder, result)
    if job["operators"]:
        turn()
        write_result(folder, {**result, "operators_note": "no time by operator: it ended in the profiler"})
        result["operators"], result["operators_note"] = session.operators(folder)
        write_result(folder, result)


def main(folder: str, runtimes: dict[str, Callable[[str, int], Any]], turn: Callable[[], bool] = lambda: False) -> int:
    try:
        work(folder, runtimes, turn)
    except RefusedError as refusal:
        write_result(folder, dict(zip(("kind", "error"), refusal.args)))  # noqa: B905 Python 3.8 has no strict
        return 1
    return 0


def interleaved_job(folder: str, runtimes: dict[str, Callable[[str, int], Any]]) -> int:
    """Run the job of ``folder`` whenever this process has its turn: a byte on stdin starts a turn, a byte on stdout
    ends it."""
    turns = os.dup(1)
    os.dup2(2, 1)  # a runtime's output must not end a turn

    def wait() -> None:
        if not os.read(0, 1):
            sys.exit("the process that gives the turns has ended")

    def turn() -> bool:
        os.write(turns, b".")
        wait()
        return True

    wait()
    return main(folder, runtimes, turn)


def has_turn(process: Any) -> bool:
    """Let a process with pipes run for one turn; False if it has ended."""
    try:
        process.stdin.write(b".")
    except BrokenPipeError:
        return False
    return bool(process.stdout.read(1))


def interleaved(program: list[str], folders: list[str]) -> int:
    """Run the jobs of all ``folders`` interleaved; if one ends early, the others go on."""
    command = [*program, ONE_OF_SEVERAL]
    pipe = subprocess.PIPE
    processes = {folder: subprocess.Popen([*command, folder], stdin=pipe, stdout=pipe, bufsize=0) for folder in folders}
    running = list(processes.values())
    while running:
        running = [process for process in running if has_turn(process)]
    for folder, process in processes.items():
        if process.wait() < 0:
            sys.stderr.write(f"the run in {folder} was ended by signal {-process.returncode}\n")
    return int(any(process.returncode for process in processes.values()))


def command(program: list[str], arguments: list[str], runtimes: dict[str, Callable[[str, int], Any]]) -> int:
    """The command line: ``program`` starts this worker, ``runtimes`` are by file suffix."""
    if arguments[0] == ONE_OF_SEVERAL:
        return interleaved_job(arguments[1], runtimes)
    return main(arguments[0], runtimes) if len(arguments) == 1 else interleaved(program, arguments)


if __name__ == "__main__":
    sys.exit(command([sys.executable, os.path.abspath(__file__)], sys.argv[1:], RUNTIMES))
