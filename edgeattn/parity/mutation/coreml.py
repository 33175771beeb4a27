"""Core ML packages: weights are overwritten in the weight file, operators are changed in the protobuf."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.formats.mil import package
from edgeattn.formats.mil.values import constant
from edgeattn.parity.mutation import EPSILON, EPSILON_FACTOR, RELU, SOFTMAX, SUBTRACTION, Array, Edit, Editor, Weight

# Operator -> for each operand that may be a weight, its role and the axis of its output channels.
_OPERANDS = {
    "conv": {"weight": ("weight", 0), "bias": ("bias", 0)},
    "conv_transpose": {"weight": ("weight", 1), "bias": ("bias", 0)},
    "linear": {"weight": ("weight", 0), "bias": ("bias", 0)},
    "matmul": {"x": ("weight", -2), "y": ("weight", -1)},
}


class _Model:
    """The main block of a package's program, and its constants by name."""

    def __init__(self, path: Path) -> None:
        self.spec = package.read_spec(path)
        _, self.block = package.main_function(self.spec)
        self.weights = package.Weights(path)
        self.constants = {op.outputs[0].name: op for op in self.block.operations if op.type == "const"}
        self.producers = {value.name: op.type for op in self.block.operations for value in op.outputs}

    def value(self, name: str) -> Any:
        """A floating constant; None for anything else."""
        if name not in self.constants:
            return None
        value = constant(self.constants[name].attributes["val"], self.weights)
        return value if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating) else None

    def replace_operand(self, op: Any, key: str, change: Callable[[Any], Any]) -> None:
        """Give ``op`` a constant of its own instead of one that other operators may share."""
        old = self.constants[_name(op, key)]
        new = type(old).FromString(old.SerializeToString())
        name = f"mutation_{old.outputs[0].name}"
        new.outputs[0].name = name
        new.attributes["name"].immediateValue.tensor.strings.values[:] = [name]
        value = np.asarray(constant(old.attributes["val"], self.weights))
        _write_immediate(new, np.asarray(change(value), value.dtype))
        self.block.operations.insert(list(self.block.operations).index(old), new)
        op.inputs[key].arguments[0].name = name


def _name(op: Any, key: str) -> str:
    return str(op.inputs[key].arguments[0].name) if key in op.inputs else ""


class CoreMlEditor(Editor):
    def weights(self, path: Path) -> tuple[Weight, ...]:
        model = _Model(path)
        weights: dict[str, Weight] = {}
        for op in model.block.operations:
            operands = {_name(op, key): kind for key, kind in _OPERANDS.get(op.type, {}).items()}
            if op.type == "add":  # the bias of a matmul, on either side
                x, y = _name(op, "x"), _name(op, "y")
                operands = {
                    bias: ("bias", 0) for bias, product in ((x, y), (y, x)) if model.producers.get(product) == "matmul"
                }
            for name, (role, axis) in operands.items():
                value = model.value(name)
                if value is not None and -value.ndim <= axis < value.ndim:
                    weights.setdefault(name, Weight(name, value, role, axis % value.ndim))
        return tuple(weights.values())

    def edits(self, path: Path) -> tuple[Edit, ...]:
        model = _Model(path)
        return tuple(
            Edit(kind, index, op.outputs[0].name)
            for index, op in enumerate(model.block.operations)
            for kind, prepare in _EDITS.items()
            if prepare(model, op)
        )

    def write(
        self, source: Path, target: Path, replaced: Mapping[str, Array] | None = None, edit: Edit | None = None
    ) -> None:
        """A copy of ``source`` with other values of some weights, or with one operator changed."""
        shutil.copytree(source, target)
        model = _Model(target)
        for name, array in (replaced or {}).items():
            value = model.constants[name].attributes["val"]
            if value.WhichOneof("value") == "blobFileValue":
                file, offset, _ = model.weights.locate(value)
                with file.open("r+b") as stream:
                    stream.seek(offset)
                    stream.write(array.tobytes())
            else:
                _write_immediate(model.constants[name], array)
        if edit:
            change = _EDITS[edit.kind](model, model.block.operations[edit.index])
            if change is None:
                raise ValueError(f"{edit.place} is not suited to this mutation: {edit.kind}")
            change()
        package.model_file(target).write_bytes(model.spec.SerializeToString(deterministic=True))


EDITOR: Editor = CoreMlEditor()


def _write_immediate(op: Any, array: Any) -> None:
    tensor = op.attributes["val"].immediateValue.tensor
    content = getattr(tensor, tensor.WhichOneof("value"))
    if isinstance(content.values, bytes):  # types that protobuf does not know, as float16
        content.values = array.tobytes()
    else:
        content.values[:] = array.reshape(-1).tolist()


# Each of these returns a function that changes the operator, or None where it does not apply.
Change = Callable[[], None]


def _softmax_axis(model: _Model, op: Any) -> Change | None:
    if op.type != "softmax" or _name(op, "axis") not in model.constants:
        return None
    return lambda: model.replace_operand(op, "axis", lambda axis: np.where(axis == 0, 1, axis - 1))


def _relu(_: _Model, op: Any) -> Change | None:
    return (lambda: setattr(op, "type", "identity")) if op.type == "relu" else None


def _subtraction(model: _Model, op: Any) -> Change | None:
    if op.type != "add" or _name(op, "x") in model.constants or _name(op, "y") in model.constants:
        return None
    return lambda: setattr(op, "type", "sub")


def _epsilon(model: _Model, op: Any) -> Change | None:
    """A norm's own operand, or the constant that is added before a square root; rsqrt's own is far too small."""
    keys = [] if op.type == "rsqrt" else ["epsilon"]
    if op.type == "add":
        rooted = any(
            o.type in ("sqrt", "rsqrt") and _name(o, "x") == op.outputs[0].name for o in model.block.operations
        )
        keys = ["x", "y"] if rooted else []
    key = next((key for key in keys if _name(op, key) in model.constants), None)
    return None if key is None else lambda: model.replace_operand(op, key, lambda epsilon: epsilon * EPSILON_FACTOR)


_EDITS = {SOFTMAX: _softmax_axis, RELU: _relu, SUBTRACTION: _subtraction, EPSILON: _epsilon}
