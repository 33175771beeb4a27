"""The worker on this machine, for the runtimes that run only where they are asked for: LiteRT's GPU accelerator, and
onnxruntime's execution providers: `python -m edgeattn.targets._host_worker FOLDER...`.

Its job folders are those of ``_runner/worker.py``, with the name of the backend in ``runtime.txt``.
"""

import sys
from pathlib import Path
from typing import Any

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import EdgeAttnError, MissingError
from edgeattn.runtimes import RUNTIMES
from edgeattn.runtimes._litert_gpu_child import Model
from edgeattn.runtimes._providers import Provider
from edgeattn.targets._runner import worker

RUNTIME_FILE = "runtime.txt"


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


def _name(path: str) -> str:
    return Path(path).with_name(RUNTIME_FILE).read_text(encoding="utf-8")


def main(arguments: list[str]) -> int:
    program = [sys.executable, "-m", "edgeattn.targets._host_worker"]
    runtimes = {
        ".tflite": lambda path, threads: Gpu(_name(path), path),
        ".onnx": lambda path, threads: OnnxProvider(_name(path), path, threads),
    }
    return worker.command(program, arguments, runtimes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
