"""The worker on a Mac, with Core ML and Core AI: `python -m edgeattn.targets._apple.worker FOLDER...`.

Its job folders are those of ``_runner/worker.py``; one with an .mlpackage or .aimodel also holds ``runtime.txt``, a
name of ``edgeattn.runtimes.coreml.UNITS`` or of Core AI's.
"""

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import EdgeAttnError
from edgeattn.formats.mil import classifier
from edgeattn.formats.mil.package import main_function
from edgeattn.runtimes import RUNTIMES, missing
from edgeattn.runtimes import coreai as coreai_runtime
from edgeattn.runtimes.coreml import UNITS, as_given, as_taken
from edgeattn.system.vendor_errors import first_line
from edgeattn.targets._apple import coreai, coreml
from edgeattn.targets._runner import worker

RUNTIME_FILE = "runtime.txt"
# What the worker closes when it ends.
OPEN = ExitStack()


class CoreMl:
    """One package in Core ML, with the interface of the worker's own runtimes; Core ML chooses the threads."""

    def __init__(self, path: str, threads: int) -> None:
        self.name, self.version = (
            Path(path).with_name(RUNTIME_FILE).read_text(encoding="utf-8"),
            RUNTIMES.get("coreml").version(),
        )
        try:
            import coremltools as ct
        except ImportError as error:
            raise worker.RefusedError("missing", "coremltools is not installed: pip install coremltools") from error
        try:
            self.model = ct.models.MLModel(path, compute_units=ct.ComputeUnit[UNITS[self.name]])
            _require_loaded(self.model)
        except Exception as error:
            raise worker.RefusedError("artifact", f"Core ML refuses the package: {coreml.error_text(error)}") from error
        self.spec = self.model.get_spec()
        self.input_names = [tensor.name for tensor in self.spec.description.input]
        self.outputs = list(classifier.outputs(main_function(self.spec)[1]))
        self.values: dict[str, Any] = {}

    def feed(self, inputs: Arrays) -> None:
        worker.check_names(self.input_names, inputs)
        self.inputs = as_taken(self.spec.description, inputs)

    def run(self) -> None:
        self.values = self.model.predict(self.inputs)

    def results(self) -> list[Any]:
        values = as_given(self.spec, self.values)
        return [values[name] for name in self.outputs]

    def operators(self, folder: str) -> tuple[list[Any], str]:
        """As the worker's, with the compute unit at the end of each row; the note is the compute plan."""
        from coremltools.models.compute_plan import MLComputePlan

        try:
            plan = MLComputePlan.load_from_path(self.model.get_compiled_model_path(), self.model.compute_unit)
            note = f"{coreml.summary(plan)}; {coreml.ESTIMATE}"
            timings = asyncio.run(coreml.operators(self.model, None, self.inputs))
        except Exception as error:  # noqa: BLE001 - what was measured is good without a plan
            return [], f"no compute plan, which needs macOS 14.4 or later: {coreml.error_text(error)}"
        return [[op.name, op.kind, op.median_ns, op.layout, op.unit] for op in timings], note


class CoreAi:
    """One asset in Core AI, as :class:`CoreMl`; it stays open until the worker ends."""

    def __init__(self, path: str, threads: int) -> None:
        self.name, self.path = Path(path).with_name(RUNTIME_FILE).read_text(encoding="utf-8"), Path(path)
        runtime = RUNTIMES.get("coreai")
        if reason := missing(runtime):
            raise worker.RefusedError("missing", reason)
        self.version = runtime.version()
        try:
            self.session = OPEN.enter_context(runtime.open(self.path, variant=self.name))
        except EdgeAttnError as error:
            raise worker.RefusedError("artifact", str(error)) from error
        self.outputs = list(self.session.signature.outputs)
        self.values: Arrays = {}

    def feed(self, inputs: Arrays) -> None:
        worker.check_names(list(self.session.signature.inputs), inputs)
        self.inputs = inputs

    def run(self) -> None:
        self.values = self.session.run(self.inputs)

    def results(self) -> list[Any]:
        return [self.values[name] for name in self.outputs]

    def operators(self, folder: str) -> tuple[list[Any], str]:
        """As the worker's, with the compute unit at the end of each row; the note is the compute plan."""
        unit = coreai_runtime.UNITS[self.name]
        try:
            timings, note = asyncio.run(coreai.operators(self.path, lambda: coreai_runtime.options(unit), self.inputs))
        except Exception as error:  # noqa: BLE001 - what was measured is good without a plan
            return [], f"no compute plan: {first_line(error)}"
        return [[op.name, op.kind, op.median_ns, op.layout, op.unit] for op in timings], note


def _require_loaded(model: Any) -> None:
    """coremltools only warns of a package that Core ML refuses, and raises the reason at the first prediction."""
    try:
        model.get_compiled_model_path()
    except Exception:  # coremltools raises this very class
        model.predict({})
        raise


def main(arguments: list[str]) -> int:
    program = [sys.executable, "-m", "edgeattn.targets._apple.worker"]
    with OPEN:
        return worker.command(program, arguments, {**worker.RUNTIMES, coreai.SUFFIX: CoreAi, coreml.SUFFIX: CoreMl})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
