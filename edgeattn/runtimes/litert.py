"""LiteRT: ai-edge-litert, or tflite-runtime where a board still has that. The Interpreter is the same."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.tensors import Arrays
from edgeattn.runtimes import Left, Observed, Runtime, Session, Share, Signature, ValueCallback
from edgeattn.system.output import quiet
from edgeattn.system.plugins import require
from edgeattn.system.vendor_errors import refusing


class LiteRt(Runtime):
    format = "tflite"
    extra = "tflite"
    packages = ("ai_edge_litert", "tflite_runtime")

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        from importlib.metadata import version as installed

        return installed("ai-edge-litert" if find_spec("ai_edge_litert") else "tflite-runtime")

    @contextmanager
    def open(self, path: Path, threads: int = 1, variant: str = "") -> Iterator[Session]:
        """Load ``path`` with XNNPACK, the default delegate.

        Raises:
            ArtifactError: LiteRT refuses the file.
        """
        with refusing(f"LiteRT refuses {path}"):
            session = _Session(_load(path, threads))
        yield session

    def observe(self, path: Path, inputs: Arrays, callback: ValueCallback) -> None:
        """Run an :class:`Observer` of ``path``; ``callback`` gets each op's value, by its number and name."""
        observer = Observer(path)
        for index, value in observer.values(inputs):
            if index in observer.ops:
                callback(observer.observed(index, value))

    def share(self, path: Path, variant: str = "") -> Share:
        """The operators that XNNPACK takes; it does not say why it leaves one."""
        with refusing(f"LiteRT refuses {path}"):
            interpreter = _load(path, 1)
            ops = interpreter._get_ops_details()
            names = {d["index"]: d["name"] for d in interpreter.get_tensor_details()}
        delegates = [op for op in ops if op["op_name"] == "DELEGATE"]
        own = [op for op in ops if op["op_name"] != "DELEGATE"]
        made_by = {int(tensor): op["index"] for op in own for tensor in op["outputs"]}
        inputs_of = {op["index"]: op["inputs"] for op in own}
        taken: set[int] = set()
        for delegate in delegates:  # what is between its inputs and its outputs
            open_tensors, seen = list(map(int, delegate["outputs"])), set(map(int, delegate["inputs"]))
            while open_tensors:
                tensor = open_tensors.pop()
                if tensor in made_by and tensor not in seen:
                    seen.add(tensor)
                    taken.add(made_by[tensor])
                    open_tensors += map(int, inputs_of[made_by[tensor]])
        left = [op for op in own if op["index"] not in taken and len(op["outputs"])]
        rest = tuple(
            Left(op["op_name"], "XNNPACK does not say why", observed_name(int(op["outputs"][0]), names)) for op in left
        )
        return Share("litert (XNNPACK)", len(taken), rest, len(delegates))

    def examine(self, path: Path) -> dict[str, Any]:
        """The number of partitions that XNNPACK makes of it."""
        return {"xnnpack_partitions": partitions(path)}


RUNTIME: Runtime = LiteRt()


def _module() -> Any:
    if find_spec("ai_edge_litert"):
        from ai_edge_litert import interpreter
    else:
        from tflite_runtime import interpreter
    return interpreter


class _Session(Session):
    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        signatures = interpreter.get_signature_list()
        details = interpreter.get_input_details()
        if signatures:
            key = next(iter(signatures))
            self.runner = interpreter.get_signature_runner(key)
            inputs = {n: self.runner.get_input_details()[n] for n in signatures[key]["inputs"]}
            outputs = tuple(signatures[key]["outputs"])
        else:
            self.runner = None
            inputs = {d["name"]: d for d in details}
            outputs = tuple(d["name"] for d in interpreter.get_output_details())
        self.signature = Signature(
            {n: tuple(None if k < 0 else int(k) for k in d["shape_signature"]) for n, d in inputs.items()},
            outputs,
        )
        self.inputs = inputs

    def run(self, inputs: Arrays) -> Arrays:
        with refusing("LiteRT cannot run the file on these inputs"):
            return self._run(inputs)

    def _run(self, inputs: Arrays) -> Arrays:
        inputs = {n: as_declared(x, self.inputs[n]["dtype"]) if n in self.inputs else x for n, x in inputs.items()}
        if self.runner is not None:
            return dict(self.runner(**inputs))
        for name, value in inputs.items():
            self.interpreter.set_tensor(self.inputs[name]["index"], value)
        self.interpreter.invoke()
        return {d["name"]: self.interpreter.get_tensor(d["index"]) for d in self.interpreter.get_output_details()}


def as_declared(value: npt.NDArray[np.generic], dtype: Any) -> npt.NDArray[np.generic]:
    """Integers in the integer type that the file declares, int32 for PyTorch's int64, say; unchanged if one does not
    fit it, as LiteRT refuses them with a reason."""
    if value.dtype == dtype or not (np.issubdtype(value.dtype, np.integer) and np.issubdtype(dtype, np.integer)):
        return value
    cast = value.astype(dtype)
    return cast if np.array_equal(cast, value) else value


def partitions(path: Path) -> int:
    """The number of delegate partitions that XNNPACK makes of the model: one means that nothing is left outside."""
    # Not a public call; both packages have it, and no public call gives the number.
    with refusing(f"LiteRT refuses {path}"):
        return sum(op["op_name"] == "DELEGATE" for op in _load(path, 1)._get_ops_details())


class Observer:
    """A copy of ``path`` that gives every value as an output.

    XNNPACK keeps no values between the ops of its partition. The built-in kernels keep them, but are not the ones
    that are deployed: their mean over a large map is off by hundreds of noise units.

    Raises:
        ArtifactError: LiteRT refuses the file.
        MissingError: ai-edge-litert or flatbuffers is not installed; tflite-runtime cannot write the copy.
    """

    def __init__(self, path: Path) -> None:
        require("ai_edge_litert", "flatbuffers", extra=RUNTIME.extra)
        from edgeattn.formats.tflite import with_all_outputs

        _load(path, 1)  # the interpreter verifies the file; the code that rewrites it does not
        with refusing(f"{path} cannot be looked into"):
            self.content, self.ops = with_all_outputs(path.read_bytes())
            self._interpreter = _load(path, 1, self.content)
            self._session = _Session(self._interpreter)
            runner = self._session.runner
            # Of each output in the signature, the tensor's number.
            self.numbers = {n: d["index"] for n, d in runner.get_output_details().items()} if runner else {}
            self.names = {d["index"]: d["name"] for d in self._interpreter.get_tensor_details()}

    def observed(self, index: int, value: npt.NDArray[np.generic]) -> Observed:
        """A value by its op's number and name."""
        return Observed(observed_name(index, self.names), self.ops[index], value)

    def values(self, inputs: Arrays) -> Iterator[tuple[int, npt.NDArray[np.generic]]]:
        """Run once: the inputs and each op's output, by the numbers of their tensors."""
        found = {self.numbers[name]: value for name, value in self._session.run(inputs).items() if name in self.numbers}
        for index in (*(d["index"] for d in self._interpreter.get_input_details()), *self.ops):
            yield index, found[index] if index in found else self._interpreter.get_tensor(index)


def observed_name(index: int, names: Mapping[int, str]) -> str:
    """The name of a value: the number of its tensor, and the innermost part of the tensor's name. The converter's names
    list the classes and parts on the way to each op that went into one, with their packages."""
    return f"{index} {re.split(r'[/.]', names[index].split(';')[0])[-1]}"


def _load(path: Path, threads: int, content: bytes | None = None) -> Any:
    """An interpreter of ``path``, or of ``content``, its rewritten copy."""
    with refusing(f"LiteRT refuses {path}"), quiet():
        interpreter = _module().Interpreter(None if content else str(path), model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter
