"""ONNX files, through their protobuf."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.mutation import EPSILON, EPSILON_FACTOR, RELU, RESIDUAL, SOFTMAX, Array, Edit, Weight

# Operator -> for each operand that may be a weight, the axis of its output channels.
_KERNELS = {"Conv": {1: 0}, "ConvTranspose": {1: 1}, "Gemm": {1: 1}, "MatMul": {0: -2, 1: -1}}
_BIASED = ("Conv", "ConvTranspose", "Gemm")


def weights(path: Path) -> tuple[Weight, ...]:
    import onnx

    graph = onnx.load(str(path)).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    makers = {name: node.op_type for node in graph.node for name in node.output}
    found: dict[str, Weight] = {}
    for node in graph.node:
        for name, role, axis in _operands(node, constants, makers):
            value = constants.get(name)
            if value is not None and np.issubdtype(value.dtype, np.floating) and -value.ndim <= axis < value.ndim:
                found.setdefault(name, Weight(name, value, role, axis % value.ndim))
    return tuple(found.values())


def _operands(node: Any, constants: Mapping[str, Any], makers: Mapping[str, str]) -> Iterator[tuple[str, str, int]]:
    for operand, axis in _KERNELS.get(node.op_type, {}).items():
        flipped = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
        yield node.input[operand], "weight", 0 if flipped else axis
    if node.op_type in _BIASED and len(node.input) > 2:
        yield node.input[2], "bias", 0
    if node.op_type == "Add":  # the bias of a MatMul, on either side
        for bias, product in (node.input, reversed(node.input)):
            if bias in constants and makers.get(product) == "MatMul":
                yield bias, "bias", 0


def edits(path: Path) -> tuple[Edit, ...]:
    import onnx

    graph = onnx.load(str(path)).graph
    constants = {t.name for t in graph.initializer}
    return tuple(
        Edit(kind, index, node.name)
        for index, node in enumerate(graph.node)
        for kind, prepare in _EDITS.items()
        if prepare(node, constants)
    )


def write(source: Path, target: Path, replaced: Mapping[str, Array] | None = None, edit: Edit | None = None) -> None:
    """A copy of ``source`` with other values of some weights, or with one operator changed."""
    import onnx

    model = onnx.load(str(source))
    for tensor in model.graph.initializer:
        if replaced and tensor.name in replaced:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(replaced[tensor.name]), tensor.name))
    if edit:
        change = _EDITS[edit.kind](model.graph.node[edit.index], {t.name for t in model.graph.initializer})
        if change is None:
            raise ValueError(f"{edit.place} is no place for this mutation: {edit.kind}")
        change()
    target.write_bytes(model.SerializeToString(deterministic=True))


# Each of these answers with what changes the node, or None where it does not apply.
Change = Callable[[], None]


def _softmax_axis(node: Any, _: set[str]) -> Change | None:
    axis = _attribute(node, "axis") if node.op_type == "Softmax" else None
    if axis is None:
        return None
    return lambda: setattr(axis, "i", 1 if axis.i == 0 else axis.i - 1)


def _relu(node: Any, _: set[str]) -> Change | None:
    return (lambda: setattr(node, "op_type", "Identity")) if node.op_type == "Relu" else None


def _residual(node: Any, constants: set[str]) -> Change | None:
    if node.op_type != "Add" or constants.intersection(node.input):
        return None
    return lambda: setattr(node, "op_type", "Sub")


def _epsilon(node: Any, _: set[str]) -> Change | None:
    epsilon = _attribute(node, "epsilon")
    return None if epsilon is None else lambda: setattr(epsilon, "f", epsilon.f * EPSILON_FACTOR)


_EDITS = {SOFTMAX: _softmax_axis, RELU: _relu, RESIDUAL: _residual, EPSILON: _epsilon}


def _attribute(node: Any, name: str) -> Any:
    return next((a for a in node.attribute if a.name == name), None)
