"""Runs one artifact in the runtime that is here, and writes down what it saw: `python _worker.py FOLDER`.

Sent to boards as it is: one file, Python 3.8 or later, numpy, and one of ai-edge-litert, tflite-runtime, onnxruntime.

FOLDER holds ``job.txt``, a line for each of ``artifact FILE``, ``warmup N``, ``runs N``, ``threads N``, ``count 0|1``,
and ``input FILE.npy NAME`` for each input. What comes out, in the same folder:

    result.json     one JSON object; written after loading and again at the end, when ``complete`` becomes true
    samples.txt     a line for each timed run, in ns, as it goes: what is there after a kill is still good
    first-I.npy     output I of the very first run, in the order of ``outputs`` in result.json
    last-I.npy      and of the last run

If it cannot run, result.json has ``error``, a sentence, and ``kind``: ``artifact``, ``input`` or ``missing``.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# Calls shorter than this many steps of the clock are timed several at once.
CLOCK_STEPS = 20
# Marks that the counting plugin of an emulator sees (arm64/counter.c), and no kernel minds.
REGION_BEGIN, REGION_END = 0x51510001, 0x51510002


class RefusedError(Exception):
    """Why the job cannot be run; ``kind`` says whose fault it is."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


def read_job(folder: str) -> dict[str, Any]:
    job: dict[str, Any] = {"warmup": 1, "runs": 1, "threads": 1, "count": 0, "inputs": {}}
    with open(os.path.join(folder, "job.txt"), encoding="utf-8") as file:
        for line in file.read().splitlines():
            key, _, value = line.partition(" ")
            if key == "input":
                path, _, name = value.partition(" ")
                job["inputs"][name] = np.load(os.path.join(folder, path), allow_pickle=False)
            else:
                job[key] = os.path.join(folder, value) if key == "artifact" else int(value)
    return job


class OnnxRuntime:
    """onnxruntime, on its CPU execution provider."""

    name = "onnxruntime"

    def __init__(self, path: str, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise RefusedError("missing", "onnxruntime is not installed here: pip install onnxruntime") from error
        self.version = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise RefusedError("artifact", f"onnxruntime refuses the file: {first_line(error)}") from error
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.values: list[Any] = []

    def feed(self, inputs: dict[str, Any]) -> None:
        check_names([tensor.name for tensor in self.session.get_inputs()], inputs)
        self.inputs = inputs

    def run(self) -> None:
        self.values = self.session.run(self.outputs, self.inputs)

    def results(self) -> list[Any]:
        return self.values


class LiteRt:
    """LiteRT with XNNPACK, or its forerunner tflite-runtime; the Interpreter is the same."""

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
        self.version = __version__
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
        self.places = {name: tensor["index"] for name, tensor in inputs.items()}
        self.outputs = list(outputs)
        self.output_places = [tensor["index"] for tensor in outputs.values()]
        self.run: Callable[[], None] = self.interpreter.invoke

    def feed(self, inputs: dict[str, Any]) -> None:
        check_names(list(self.places), inputs)
        for name, value in inputs.items():
            self.interpreter.set_tensor(self.places[name], value)

    def results(self) -> list[Any]:
        return [self.interpreter.get_tensor(place) for place in self.output_places]


RUNTIMES: dict[str, Any] = {".onnx": OnnxRuntime, ".tflite": LiteRt}


def check_names(wanted: list[str], given: dict[str, Any]) -> None:
    if set(wanted) != set(given):
        raise RefusedError("input", f"the artifact takes {', '.join(wanted)}, not {', '.join(given)}")


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def clock_step() -> int:
    """The smallest step of the clock that was seen, in ns."""
    steps = []
    for _ in range(200):
        start = now = time.perf_counter_ns()
        while now == start:
            now = time.perf_counter_ns()
        steps.append(now - start)
    return min(steps)


def peak_memory_bytes() -> int | None:
    """The most memory that this process ever held, with Python's own: VmHWM, or on macOS the maximum resident size."""
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


def calls_per_sample(run: Callable[[], None], step_ns: int) -> int:
    """As many calls, doubled from one, as take CLOCK_STEPS steps together."""
    calls = 1
    while elapsed_ns(run, calls) < CLOCK_STEPS * step_ns:
        calls *= 2
    return calls


def write_result(folder: str, result: dict[str, Any]) -> None:
    path = os.path.join(folder, "result.json")
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(path + ".part", path)


def save(folder: str, which: str, values: list[Any]) -> None:
    for index, value in enumerate(values):
        np.save(os.path.join(folder, f"{which}-{index}.npy"), np.asarray(value))


def work(folder: str) -> None:
    job = read_job(folder)
    suffix = os.path.splitext(job["artifact"])[1]
    if suffix not in RUNTIMES:
        raise RefusedError("artifact", f"the worker runs .onnx and .tflite files, not {suffix or 'this one'}")
    start = time.perf_counter_ns()
    session = RUNTIMES[suffix](job["artifact"], job["threads"])
    result: dict[str, Any] = {
        "complete": False,
        "runtime": session.name,
        "runtime_version": session.version,
        "load_ns": time.perf_counter_ns() - start,
        "outputs": session.outputs,
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    write_result(folder, result)
    try:
        session.feed(job["inputs"])
        result["first_run_ns"] = elapsed_ns(session.run)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError("input", f"{session.name} fails on these inputs: {first_line(error)}") from error
    save(folder, "first", session.results())
    for _ in range(job["warmup"]):
        session.run()
    step = clock_step()
    calls = 1 if job["count"] or not job["runs"] else calls_per_sample(session.run, step)
    result.update(clock_step_ns=step, calls_per_sample=calls)
    write_result(folder, result)

    mark = marker() if job["count"] else lambda _: None
    with open(os.path.join(folder, "samples.txt"), "w", encoding="ascii") as samples:
        for _ in range(job["runs"]):
            mark(REGION_BEGIN)
            elapsed = elapsed_ns(session.run, calls)
            mark(REGION_END)
            samples.write(f"{elapsed // calls}\n")
            samples.flush()
    save(folder, "last", session.results())
    result.update(complete=True, peak_memory_bytes=peak_memory_bytes())
    write_result(folder, result)


def main(folder: str) -> int:
    try:
        work(folder)
    except RefusedError as refusal:
        write_result(folder, {"error": str(refusal), "kind": refusal.kind})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
