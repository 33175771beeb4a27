"""ONNX files, through their protobuf."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.parity.mutation import EPSILON, EPSILON_FACTOR, RELU, SOFTMAX, SUBTRACTION, Array, Edit, Editor, Weight

# Operator -> for each operand that may be a weight, the axis of its output channels.
_KERNELS = {"Conv": {1: 0}, "ConvTranspose": {1: 1}, "Gemm": {1: 1}, "MatMul": {0: -2, 1: -1}}
_BIASED = ("Conv", "ConvTranspose", "Gemm")


class OnnxEditor(Editor):
    def weights(self, path: Path) -> tuple[Weight, ...]:
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

    def edits(self, path: Path) -> tuple[Edit, ...]:
        import onnx

        graph = onnx.load(str(path)).graph
        return tuple(
            Edit(kind, index, node.name)
            for index, node in enumerate(graph.node)
            for kind, prepare in _EDITS.items()
            if prepare(graph, node)
        )

    def write(
        self, source: Path, target: Path, replaced: Mapping[str, Array] | None = None, edit: Edit | None = None
    ) -> None:
        """A copy of ``source`` with other values of some weights, or with one operator changed."""
        import onnx

        model = onnx.load(str(source))
        for tensor in model.graph.initializer:
            if replaced and tensor.name in replaced:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(replaced[tensor.name]), tensor.name))
        if edit:
            change = _EDITS[edit.kind](model.graph, model.graph.node[edit.index])
            if change is None:
                raise ValueError(f"{edit.place} is no place for this mutation: {edit.kind}")
            change()
        target.write_bytes(model.SerializeToString(deterministic=True))


EDITOR: Editor = OnnxEditor()


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


# Each of these answers with what changes the node, or None where it does not apply.
Change = Callable[[], None]


def _softmax_axis(_: Any, node: Any) -> Change | None:
    axis = _attribute(node, "axis") if node.op_type == "Softmax" else None
    if axis is None:
        return None
    return lambda: setattr(axis, "i", 1 if axis.i == 0 else axis.i - 1)


def _relu(_: Any, node: Any) -> Change | None:
    return (lambda: setattr(node, "op_type", "Identity")) if node.op_type == "Relu" else None


def _subtraction(graph: Any, node: Any) -> Change | None:
    if node.op_type != "Add" or any(t.name in node.input for t in graph.initializer):
        return None
    return lambda: setattr(node, "op_type", "Sub")


def _epsilon(graph: Any, node: Any) -> Change | None:
    """A norm's own attribute, or the constant that is added before a square root."""
    import onnx

    if attribute := _attribute(node, "epsilon"):
        return lambda: setattr(attribute, "f", attribute.f * EPSILON_FACTOR)
    if node.op_type != "Add" or not any(n.op_type == "Sqrt" and n.input[0] == node.output[0] for n in graph.node):
        return None
    shared = next((t for t in graph.initializer if t.name in node.input), None)
    if shared is None:
        return None

    def change() -> None:  # other nodes may read the same constant
        own = f"mutation_{shared.name}"
        larger = np.asarray(onnx.numpy_helper.to_array(shared) * EPSILON_FACTOR)
        graph.initializer.append(onnx.numpy_helper.from_array(larger, own))
        node.input[:] = [own if name == shared.name else name for name in node.input]

    return change


_EDITS = {SOFTMAX: _softmax_axis, RELU: _relu, SUBTRACTION: _subtraction, EPSILON: _epsilon}


def _attribute(node: Any, name: str) -> Any:
    return next((a for a in node.attribute if a.name == name), None)
