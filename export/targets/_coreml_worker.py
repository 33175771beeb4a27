"""The worker on a Mac, with Core ML: `python -m export.targets._coreml_worker FOLDER RUNTIME 0|1`.

FOLDER is as ``_worker.py`` has it, with an .mlpackage in it; RUNTIME is a key of ``_coreml.UNITS``; 1 asks for times by
operator. Beside what the worker writes, ``coreml.json`` has ``note`` (the compute plan) and ``operators``.

A process of its own: Core ML may crash, and its peak memory is that of this one artifact.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import Any

import numpy as np

from export.runtimes import Arrays
from export.runtimes.coreml import version
from export.targets import _coreml, _worker


class CoreMl:
    """One package in Core ML, with the interface of the worker's own runtimes."""

    def __init__(self, path: str, runtime: str) -> None:
        self.name, self.version = runtime, version()
        try:
            import coremltools as ct
        except ImportError as error:
            raise _worker.RefusedError("missing", "coremltools is not installed: pip install coremltools") from error
        try:
            self.model = ct.models.MLModel(path, compute_units=ct.ComputeUnit[_coreml.UNITS[runtime]])
            _require_loaded(self.model)
        except Exception as error:
            raise _worker.RefusedError("artifact", f"Core ML refuses the package: {_coreml.said(error)}") from error
        description = self.model.get_spec().description
        self.input_names = [tensor.name for tensor in description.input]
        self.outputs = [tensor.name for tensor in description.output]
        self.values: dict[str, Any] = {}

    def feed(self, inputs: Arrays) -> None:
        _worker.check_names(self.input_names, inputs)
        self.inputs = inputs

    def run(self) -> None:
        self.values = self.model.predict(self.inputs)

    def results(self) -> list[Any]:
        return [np.asarray(self.values[name]) for name in self.outputs]

    def plan(self) -> str:
        from coremltools.models.compute_plan import MLComputePlan

        return _coreml.summary(
            MLComputePlan.load_from_path(self.model.get_compiled_model_path(), self.model.compute_unit)
        )


def _require_loaded(model: Any) -> None:
    """coremltools only warns of a package that Core ML refuses, and tells the reason to who predicts."""
    try:
        model.get_compiled_model_path()
    except Exception:
        model.predict({})
        raise


def after(session: CoreMl, by_operator: bool) -> dict[str, Any]:
    """The compute plan and, if they are wanted, times by operator; why there are none where there are none."""
    found: dict[str, Any] = {"operators": []}
    try:
        found["note"] = session.plan()
        if by_operator:
            operators = asyncio.run(_coreml.operators(session.model, None, session.inputs))
            found["operators"] = [asdict(operator) for operator in operators]
            found["note"] += f"; {_coreml.ESTIMATE}"
    except Exception as error:  # noqa: BLE001 - what was measured is good without a plan
        found["note"] = f"no compute plan, which needs macOS 14.4 or later: {_coreml.said(error)}"
    return found


def main(folder: str, runtime: str, by_operator: str) -> int:
    sessions: list[CoreMl] = []

    def open_package(path: str, threads: int) -> CoreMl:
        sessions.append(CoreMl(path, runtime))
        return sessions[0]

    _worker.RUNTIMES[".mlpackage"] = open_package
    code = _worker.main(folder)
    if code == 0:
        with open(os.path.join(folder, "coreml.json"), "w", encoding="utf-8") as file:
            json.dump(after(sessions[0], by_operator == "1"), file)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
