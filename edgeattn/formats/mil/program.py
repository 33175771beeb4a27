"""A program from its package, ready to run: constants decoded, every op known, values freed after their last use.

Only this file handles the program's own types: a value of fp16 is widened to fp32 before an op, and the op's result
is rounded once, to the type that the program declares.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import edgeattn.formats.mil.ops  # noqa: F401 - its ops register themselves
from edgeattn.errors import ArtifactError, MissingError
from edgeattn.formats.mil.classifier import is_classify
from edgeattn.formats.mil.classifier import outputs as outputs_of
from edgeattn.formats.mil.ops.elementwise import TORCH_TYPES
from edgeattn.formats.mil.package import Weights, is_constant, main_function, read_spec
from edgeattn.formats.mil.registry import OPS
from edgeattn.formats.mil.values import Constant, TensorType, constant, tensor_type
from edgeattn.system.vendor_errors import first_line

Value = Tensor | str
# These parameters take any number of values; all others take one.
_TUPLES = ("values", "ref_tensors", "begins", "ends", "end_masks")


@dataclass(frozen=True)
class Step:
    """One op: its inputs by parameter, its outputs with their declared types, and the values to free after it."""

    op: str
    inputs: dict[str, str | tuple[str, ...]]
    outputs: dict[str, TensorType]
    frees: tuple[str, ...] = ()

    @property
    def reads(self) -> set[str]:
        return {n for names in self.inputs.values() for n in ((names,) if isinstance(names, str) else names)}


@dataclass(frozen=True)
class Program:
    """What a package computes. Constants are in the form that the ops use, compressed weights decompressed."""

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: dict[str, TensorType]
    constants: dict[str, Value]
    steps: tuple[Step, ...]

    def run(
        self, inputs: Mapping[str, Tensor], see: Callable[[Step, str, Tensor], None] | None = None
    ) -> dict[str, Tensor]:
        """The outputs for these inputs, which are in the declared types.

        Args:
            inputs: a tensor for each of :attr:`inputs`.
            see: called with every value as soon as it is computed: its step, its name, the value.

        Raises:
            ArtifactError: an op fails, or its result is not of the declared type.
        """
        values: dict[str, Value] = {**self.constants, **inputs}
        with torch.inference_mode():
            for step in self.steps:
                try:
                    results = _computed(step, values)
                except ValueError as error:
                    raise ArtifactError(f"{self.path} cannot be run: {error}") from error
                values.update(results)
                if see is not None:
                    for name, result in results.items():
                        see(step, name, result)
                for name in step.frees:
                    del values[name]
        return {name: value for name in self.outputs if isinstance(value := values[name], Tensor)}


def load(path: Path) -> Program:
    """Read the package ``path``.

    Raises:
        MissingError: the program needs an op that is not known; nothing was run.
        ArtifactError: the package is damaged.
    """
    try:
        function, block = main_function(read_spec(path))
        _require_known_ops(path, function, block)
        return _build(path, function, block)
    except MissingError:
        raise
    except Exception as error:
        raise ArtifactError(f"{path} is not a readable Core ML package: {first_line(error)}") from error


def _require_known_ops(path: Path, function: Any, block: Any) -> None:
    operations = [op for op in block.operations if not is_classify(op)]
    unknown = {op.type for op in operations if op.type != "const" and op.type not in OPS}
    for op in operations:
        if op.type in OPS:
            known = inspect.signature(OPS[op.type]).parameters
            unknown |= {f"{op.type} with {name}" for name in op.inputs if name not in known}
            unknown |= {f"{op.type} of another type" for value in op.outputs if tensor_type(value.type) is None}
    unknown |= {"a state" for value in function.inputs if tensor_type(value.type) is None}
    if unknown:
        raise MissingError(
            f"{path} needs what mil_reference does not have: {', '.join(sorted(unknown))}; Core ML on macOS runs it"
        )


def _build(path: Path, function: Any, block: Any) -> Program:
    weights = Weights(path)
    constants: dict[str, Value] = {}
    steps: list[Step] = []
    types = {value.name: kind for value in function.inputs if (kind := tensor_type(value.type)) is not None}
    inputs = tuple(types)
    results = outputs_of(block)
    for op in block.operations:
        if is_classify(op):
            continue
        outputs = {value.name: kind for value in op.outputs if (kind := tensor_type(value.type)) is not None}
        types.update(outputs)
        if op.type == "const":
            constants[op.outputs[0].name] = _as_value(constant(op.attributes["val"], weights))
            continue
        step = Step(op.type, _bound(op, weights, constants), outputs)
        if unknown := step.reads - types.keys() - constants.keys():
            raise ValueError(f"its op {op.type} uses {', '.join(sorted(unknown))}, which nothing gives before it")
        if is_constant(op):
            constants.update(_computed(step, constants))
        else:
            steps.append(step)
    if unknown := set(results) - types.keys():
        raise ValueError(f"its program has no value for its output {', '.join(sorted(unknown))}")
    # The parts of decompressed weights are not needed any more.
    used = {*results, *(name for step in steps for name in step.reads)}
    constants = {name: value for name, value in constants.items() if name in used}
    ordered = _with_frees(steps, {*results, *constants})
    return Program(path, inputs, results, types, constants, ordered)


def _bound(op: Any, weights: Weights, constants: dict[str, Value]) -> dict[str, str | tuple[str, ...]]:
    """The values of an op's parameters, by name; a value that is written into the op becomes a constant."""

    def written(key: str, number: int, value: Any) -> str:
        name = f"{op.outputs[0].name}/{key}/{number}"
        constants[name] = _as_value(constant(value, weights))
        return name

    inputs: dict[str, str | tuple[str, ...]] = {}
    for key, argument in op.inputs.items():
        names = tuple(
            written(key, number, a.value) if a.WhichOneof("binding") == "value" else a.name
            for number, a in enumerate(argument.arguments)
        )
        inputs[key] = names if key in _TUPLES else names[0]
    # iOS 16 writes what a compressed weight consists of as attributes.
    inputs |= {key: written(key, 0, value) for key, value in op.attributes.items() if key != "name"}
    needed = inspect.signature(OPS[op.type]).parameters.values()
    if missing := [p.name for p in needed if p.default is p.empty and p.name not in inputs]:
        raise ValueError(f"its op {op.type} has no {' and no '.join(missing)}")
    return inputs


def _as_value(content: Constant) -> Value:
    if isinstance(content, str):
        return content
    carrier = {"u2": np.int32, "u4": np.int64, "u8": np.int64}.get(content.dtype.str[1:])
    return torch.from_numpy(content if carrier is None else content.astype(carrier))


def _with_frees(steps: list[Step], lasting: set[str]) -> tuple[Step, ...]:
    later: set[str] = set()
    result: list[Step] = []
    for step in reversed(steps):
        frees = (step.reads | step.outputs.keys()) - lasting - later
        later |= step.reads
        result.append(replace(step, frees=tuple(sorted(frees))))
    return tuple(reversed(result))


def _computed(step: Step, values: Mapping[str, Value]) -> dict[str, Tensor]:
    try:
        arguments = {
            key: _widened(values[names]) if isinstance(names, str) else tuple(_widened(values[n]) for n in names)
            for key, names in step.inputs.items()
        }
        results = OPS[step.op](**arguments)
        results = results if isinstance(results, tuple) else (results,)
        return {
            name: _as_declared(result, declared)
            for (name, declared), result in zip(step.outputs.items(), results, strict=True)
        }
    except Exception as error:
        raise ValueError(f"its op {step.op} ({', '.join(step.outputs)}) fails: {first_line(error)}") from error


def _widened(value: Value) -> Value:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.float16 else value


def _as_declared(value: Tensor, declared: TensorType) -> Tensor:
    """A result rounded to its declared type; a result of another kind means an error in the program or in an op."""
    shape = declared.shape
    if len(shape) != value.dim() or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
        raise ValueError(f"it gives the shape {list(value.shape)}, but the program declares {list(shape)}")
    kind = TORCH_TYPES[declared.dtype.name]
    if (value.is_floating_point(), value.dtype == torch.bool) != (kind.is_floating_point, kind == torch.bool):
        raise ValueError(f"it gives {value.dtype}, but the program declares {declared.dtype.name}")
    return value.to(kind)
