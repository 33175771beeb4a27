"""TFLite files, through the object form of their flatbuffer."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.formats.tflite import builtin_kind, pack
from edgeattn.parity.mutation import EPSILON, EPSILON_FACTOR, RELU, SOFTMAX, SUBTRACTION, Array, Edit, Editor, Weight

# Operator -> for each operand that may be a weight, the axis of its output channels.
_KERNELS = {"CONV_2D": {1: 0}, "DEPTHWISE_CONV_2D": {1: 3}, "FULLY_CONNECTED": {1: 0}, "TRANSPOSE_CONV": {1: 0},
            "BATCH_MATMUL": {0: -2, 1: -1}}  # fmt: skip
_BIASES = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
_TYPES = {"FLOAT32": "<f4", "FLOAT16": "<f2"}


class _Model:
    """The first subgraph of a file: looks constants up, and adds tensors and operator codes."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.content = schema, path.read_bytes()
        self.model = schema.ModelT.InitFromPackedBuf(self.content, 0)
        self.graph = self.model.subgraphs[0]
        self.types = {getattr(schema.TensorType, name): dtype for name, dtype in _TYPES.items()}

    def kind(self, op: Any) -> str:
        return builtin_kind(self.model.operatorCodes[op.opcodeIndex])

    def constant(self, index: int) -> Array | None:
        """The value of a floating constant."""
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if index < 0 or data is None or len(data) == 0 or tensor.type not in self.types:
            return None
        return np.asarray(data, np.uint8).view(self.types[tensor.type]).reshape(self.shape(index))

    def shape(self, index: int) -> list[int]:
        shape = self.graph.tensors[index].shape
        return [] if shape is None else [int(n) for n in shape]

    def name(self, index: int) -> str:
        """The end of a name, which holds the module's whole path, and the tensor's number: ends are not unique."""
        text = self.graph.tensors[index].name
        text = text.decode(errors="replace") if isinstance(text, bytes) else str(text or "")
        head, _, number = text.partition(";")
        return f"{head.rpartition('/')[2].rpartition('.')[2]}{';' * bool(number)}{number[:3]} #{index}"

    def code(self, kind: str) -> int:
        """The index of an operator code, added if it is new."""
        for index, code in enumerate(self.model.operatorCodes):
            if builtin_kind(code) == kind:
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def add_tensor(self, like: int, shape: list[int], value: Any = None) -> int:
        """A tensor of the type of another; with a value it is a constant."""
        tensor, buffer = copy.copy(self.graph.tensors[like]), self.schema.BufferT()
        tensor.name, tensor.shape, tensor.shapeSignature = f"mutation{len(self.graph.tensors)}".encode(), shape, None
        tensor.buffer = len(self.model.buffers)
        if value is not None:
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
            if value.dtype == np.int32:
                tensor.type = self.schema.TensorType.INT32
        self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1


# Each of these returns a function that changes the operator, or None where it does not apply.
Change = Callable[[], None]


class TfLiteEditor(Editor):
    def weights(self, path: Path) -> tuple[Weight, ...]:
        model = _Model(path)
        weights: dict[int, Weight] = {}
        for op in model.graph.operators:
            kind = model.kind(op)
            operands = [(i, "weight", axis) for i, axis in _KERNELS.get(kind, {}).items()]
            operands += [(_BIASES[kind], "bias", 0)] if kind in _BIASES else []
            for operand, role, axis in operands:
                index = int(op.inputs[operand]) if operand < len(op.inputs) else -1
                value = model.constant(index) if index >= 0 else None
                if value is not None and -value.ndim <= axis < value.ndim:
                    weights.setdefault(index, Weight(model.name(index), value, role, axis % value.ndim))
        return tuple(weights.values())

    def edits(self, path: Path) -> tuple[Edit, ...]:
        model = _Model(path)
        return tuple(
            Edit(kind, index, model.name(int(op.outputs[0])))
            for index, op in enumerate(model.graph.operators)
            for kind, prepare in _EDITS.items()
            if prepare(model, op)
        )

    def write(
        self, source: Path, target: Path, replaced: Mapping[str, Array] | None = None, edit: Edit | None = None
    ) -> None:
        """A copy of ``source`` with other values of some weights, or with one operator changed."""
        model = _Model(source)
        if replaced:
            for index, tensor in enumerate(model.graph.tensors):
                if (name := model.name(index)) in replaced:
                    model.model.buffers[tensor.buffer].data = np.frombuffer(replaced[name].tobytes(), np.uint8)
        if edit:
            change = _EDITS[edit.kind](model, model.graph.operators[edit.index])
            if change is None:
                raise ValueError(f"{edit.place} is not suited to this mutation: {edit.kind}")
            change()
        target.write_bytes(pack(model.model, len(model.content)))


EDITOR: Editor = TfLiteEditor()


def _softmax_axis(model: _Model, op: Any) -> Change | None:
    """The operator supports the last axis only: a transpose exchanges the last two before it, another after it."""
    if model.kind(op) != "SOFTMAX" or len(model.shape(op.inputs[0])) < 2:
        return None

    def change() -> None:
        source, result = int(op.inputs[0]), int(op.outputs[0])
        shape = model.shape(source)
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        swapped = [shape[i] for i in order]
        axes = model.add_tensor(source, [len(order)], np.array(order, np.int32))
        before, after = model.add_tensor(source, swapped), model.add_tensor(source, swapped)
        position = model.graph.operators.index(op)
        model.graph.operators[position : position + 1] = [
            _transpose(model, source, axes, before),
            op,
            _transpose(model, after, axes, result),
        ]
        op.inputs, op.outputs = [before], [after]

    return change


def _transpose(model: _Model, source: int, axes: int, result: int) -> Any:
    op = model.schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = model.code("TRANSPOSE"), [source, axes], [result]
    op.builtinOptionsType = model.schema.BuiltinOptions.TransposeOptions
    op.builtinOptions = model.schema.TransposeOptionsT()
    return op


def _relu(model: _Model, op: Any) -> Change | None:
    none, relu = model.schema.ActivationFunctionType.NONE, model.schema.ActivationFunctionType.RELU
    if getattr(op.builtinOptions, "fusedActivationFunction", none) == relu:
        return lambda: setattr(op.builtinOptions, "fusedActivationFunction", none)
    if model.kind(op) != "RELU" or op.outputs[0] in model.graph.outputs:
        return None

    def change() -> None:
        for reader in model.graph.operators:
            reader.inputs = [op.inputs[0] if i == op.outputs[0] else i for i in reader.inputs]
        model.graph.operators.remove(op)

    return change


def _subtraction(model: _Model, op: Any) -> Change | None:
    if model.kind(op) != "ADD" or any(model.constant(int(i)) is not None for i in op.inputs):
        return None

    def change() -> None:
        options = model.schema.SubOptionsT()
        options.fusedActivationFunction = op.builtinOptions.fusedActivationFunction
        op.opcodeIndex = model.code("SUB")
        op.builtinOptionsType, op.builtinOptions = model.schema.BuiltinOptions.SubOptions, options

    return change


def _epsilon(model: _Model, op: Any) -> Change | None:
    """The constant that is added before a square root."""
    roots = [o.inputs[0] for o in model.graph.operators if model.kind(o) in ("RSQRT", "SQRT")]
    if model.kind(op) != "ADD" or op.outputs[0] not in roots:
        return None
    for operand, index in enumerate(op.inputs):
        value = model.constant(int(index))
        if value is not None and value.size == 1:
            return partial(_replace_operand, model, op, operand, np.asarray(value * EPSILON_FACTOR, value.dtype))
    return None


def _replace_operand(model: _Model, op: Any, operand: int, value: Array) -> None:
    """Give ``op`` a constant of its own instead of one that other operators may share."""
    own = model.add_tensor(int(op.inputs[operand]), list(value.shape), value)
    op.inputs = [own if i == operand else int(index) for i, index in enumerate(op.inputs)]


_EDITS = {SOFTMAX: _softmax_axis, RELU: _relu, SUBTRACTION: _subtraction, EPSILON: _epsilon}
