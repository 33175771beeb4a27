"""ONNX files, through onnx_ir, which knows the producer and the readers of a value."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeattn.parity.mutation import EPSILON, EPSILON_FACTOR, RELU, SOFTMAX, SUBTRACTION, Array, Edit, Editor, Weight

if TYPE_CHECKING:
    import onnx_ir as ir

# Operator -> for each operand that may be a weight, the axis of its output channels.
_KERNELS = {"Conv": {1: 0}, "ConvTranspose": {1: 1}, "Gemm": {1: 1}, "MatMul": {0: -2, 1: -1}}
_BIASED = ("Conv", "ConvTranspose", "Gemm")


class OnnxEditor(Editor):
    def weights(self, path: Path) -> tuple[Weight, ...]:
        import onnx_ir as ir

        weights: dict[str, Weight] = {}
        for node in ir.load(str(path)).graph:
            for value, role, axis in _operands(node):
                if value is None or value.name is None or value.const_value is None:
                    continue
                weight = value.const_value.numpy()
                if np.issubdtype(weight.dtype, np.floating) and -weight.ndim <= axis < weight.ndim:
                    weights.setdefault(value.name, Weight(value.name, weight, role, axis % weight.ndim))
        return tuple(weights.values())

    def edits(self, path: Path) -> tuple[Edit, ...]:
        import onnx_ir as ir

        return tuple(
            Edit(kind, index, node.name or "")
            for index, node in enumerate(ir.load(str(path)).graph)
            for kind, prepare in _EDITS.items()
            if prepare(node)
        )

    def write(
        self, source: Path, target: Path, replaced: Mapping[str, Array] | None = None, edit: Edit | None = None
    ) -> None:
        """A copy of ``source`` with other values of some weights, or with one operator changed."""
        import onnx_ir as ir

        model = ir.load(str(source))
        for name, value in (replaced or {}).items():
            model.graph.initializers[name].const_value = ir.tensor(np.ascontiguousarray(value), name=name)
        if edit:
            change = _EDITS[edit.kind](model.graph[edit.index])
            if change is None:
                raise ValueError(f"{edit.place} is not suited to this mutation: {edit.kind}")
            change()
        ir.save(model, str(target))


EDITOR: Editor = OnnxEditor()


def _operands(node: "ir.Node") -> "Iterator[tuple[ir.Value | None, str, int]]":
    for operand, axis in _KERNELS.get(node.op_type, {}).items():
        transposed = node.op_type == "Gemm" and node.attributes.get_int("transB")
        yield node.inputs[operand], "weight", 0 if transposed else axis
    if node.op_type in _BIASED and len(node.inputs) > 2:
        yield node.inputs[2], "bias", 0
    if node.op_type == "Add":  # the bias of a MatMul, on either side
        for bias, product in (node.inputs, reversed(node.inputs)):
            producer = product and product.producer()
            if producer and producer.op_type == "MatMul":
                yield bias, "bias", 0


# Each of these returns a function that changes the node, or None where it does not apply.
Change = Callable[[], None]


def _softmax_axis(node: "ir.Node") -> Change | None:
    import onnx_ir as ir

    axis = node.attributes.get_int("axis") if node.op_type == "Softmax" else None
    if axis is None:
        return None
    other_axis = ir.AttrInt64("axis", 1 if axis == 0 else axis - 1)
    return lambda: node.attributes.add(other_axis)


def _relu(node: "ir.Node") -> Change | None:
    return (lambda: setattr(node, "op_type", "Identity")) if node.op_type == "Relu" else None


def _subtraction(node: "ir.Node") -> Change | None:
    if node.op_type != "Add" or any(value and value.is_initializer() for value in node.inputs):
        return None
    return lambda: setattr(node, "op_type", "Sub")


def _epsilon(node: "ir.Node") -> Change | None:
    """A norm's own attribute, or the constant that is added before a square root."""
    import onnx_ir as ir

    epsilon = node.attributes.get_float("epsilon")
    if epsilon is not None:
        larger = ir.AttrFloat32("epsilon", epsilon * EPSILON_FACTOR)
        return lambda: node.attributes.add(larger)
    if node.op_type != "Add" or all(reader.op_type != "Sqrt" for reader in node.successors()):
        return None
    shared = next((value for value in node.inputs if value and value.is_initializer()), None)
    if shared is None or shared.const_value is None:
        return None
    name = f"mutation_{shared.name}"
    own = ir.val(name, const_value=ir.tensor(np.asarray(shared.const_value.numpy() * EPSILON_FACTOR), name=name))

    def change() -> None:  # other nodes may read the same constant
        model = node.graph
        assert isinstance(model, ir.Graph)
        model.register_initializer(own)
        node.replace_input_with(node.inputs.index(shared), own)

    return change


_EDITS = {SOFTMAX: _softmax_axis, RELU: _relu, SUBTRACTION: _subtraction, EPSILON: _epsilon}
