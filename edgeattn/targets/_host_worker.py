"""The worker on this machine, for the runtimes that boards do not have: ExecuTorch, LiteRT's GPU accelerator, and
onnxruntime's execution providers: `python -m edgeattn.targets._host_worker FOLDER...`.

Its job folders are those of ``_runner/worker.py``, with the name of the backend in ``runtime.txt``.
"""

import sys
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import EdgeAttnError, MissingError
from edgeattn.formats import _pte
from edgeattn.runtimes import RUNTIMES, _etdump, executorch, missing
from edgeattn.runtimes._litert_gpu_child import Model
from edgeattn.runtimes._providers import Provider
from edgeattn.targets._runner import worker

RUNTIME_FILE = "runtime.txt"
_TRACED = (
    "medians of up to 20 runs under ExecuTorch's event tracer, which takes time itself; its XNNPACK backend has steps "
    "of 1 us, and does not tell which layer a kernel is of"
)


class Gpu:
    """A .tflite file on the GPU accelerator, with the interface of the worker's own runtimes."""

    def __init__(self, name: str, path: str) -> None:
        runtime = RUNTIMES.get("litert_gpu")
        self.name, self.version = name, runtime.version()
        try:
            self.model = Model(path, runtime.variants[name])
        except Exception as error:
            sentence = f"LiteRT's GPU accelerator refuses the file: {worker.first_line(error)}"
            raise worker.RefusedError("artifact", sentence) from error
        if not self.model.alone:
            sentence = "it is not on the GPU alone; `edgeattn inspect --backends` names the operators that it leaves"
            raise worker.RefusedError("artifact", sentence)
        self.outputs = self.model.outputs
        self.values: dict[str, Any] = {}

    def feed(self, inputs: Arrays) -> None:
        worker.check_names(self.model.inputs, inputs)
        self.model.feed(inputs)

    def run(self) -> None:
        """Until the outputs are there: the GPU works on while the call has returned."""
        self.model.invoke()
        self.values = self.model.results()

    def results(self) -> list[Any]:
        return [self.values[name] for name in self.outputs]

    def operators(self, folder: str) -> tuple[list[Any], str]:
        return [], "LiteRT's GPU accelerator gives no time by operator"


class OnnxProvider(worker.OnnxRuntime):
    """onnxruntime on another execution provider; what that does not take runs on the CPU's."""

    def __init__(self, name: str, path: str, threads: int) -> None:
        try:
            self.provider = Provider.parse(name.partition(" ")[2])
            self.provider.check()
        except EdgeAttnError as error:
            raise worker.RefusedError("missing" if isinstance(error, MissingError) else "input", str(error)) from error
        super().__init__(path, threads)
        self.name = name

    def placed(self, options: Any) -> dict[str, Any]:
        self.provider.add_to(options)
        return {"enable_fallback": 0}


class ExecuTorch:
    """A .pte file, with the interface of the worker's own runtimes."""

    name = executorch.RUNTIME.format

    def __init__(self, path: str, threads: int) -> None:
        if absent := missing(executorch.RUNTIME):
            raise worker.RefusedError("missing", absent)
        self.version, self.threads = executorch.RUNTIME.version(), threads
        self.content = Path(path).read_bytes()
        try:
            self.loaded = executorch.Loaded(self.content, threads)
        except Exception as error:
            raise worker.RefusedError("artifact", f"ExecuTorch refuses the file: {worker.first_line(error)}") from error

    @staticmethod
    def prepare(folder: str) -> None:
        """Import torch if the job needs it: an app has none, so it is no part of the time that a file takes to load."""
        if Path(folder, "artifact.pte").exists() and not missing(executorch.RUNTIME):
            import_module("executorch.runtime")

    @cached_property
    def edges(self) -> executorch.Edges:
        """Read by ExecuTorch's tools, which an app does not have: no part of the time that it takes to load."""
        return executorch.Edges(_pte.unpack(self.content, graphs=False))

    @property
    def outputs(self) -> list[str]:
        return list(self.edges.signature.outputs)

    def feed(self, inputs: Arrays) -> None:
        worker.check_names(list(self.edges.signature.inputs), inputs)
        self.tensors = self.edges.tensors(inputs)

    def run(self) -> None:
        self.values = self.loaded.execute(self.tensors)

    def results(self) -> list[Any]:
        return executorch.as_arrays(self.values)

    def operators(self, folder: str) -> tuple[list[Any], str]:
        traced, path = executorch.Loaded(self.content, self.threads, traced=True), Path(folder, "etdump")
        for _ in worker.operator_calls():
            traced.execute(self.tensors)
        traced.program.write_etdump_result_to_file(str(path), str(path.with_suffix(".debug")))
        return [list(row) for row in _etdump.operators(path)], _TRACED


def _name(path: str) -> str:
    return Path(path).with_name(RUNTIME_FILE).read_text(encoding="utf-8")


def main(arguments: list[str]) -> int:
    program = [sys.executable, "-m", "edgeattn.targets._host_worker"]
    if arguments[0] == worker.ONE_OF_SEVERAL or len(arguments) == 1:
        ExecuTorch.prepare(arguments[-1])
    runtimes: dict[str, Callable[[str, int], Any]] = {
        ".tflite": lambda path, threads: Gpu(_name(path), path),
        ".onnx": lambda path, threads: OnnxProvider(_name(path), path, threads),
        ".pte": ExecuTorch,
    }
    return worker.command(program, arguments, runtimes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
