"""Core AI assets: constants get other values, operators are changed in the program."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.formats.aimodel import asset
from edgeattn.formats.aimodel.program import Program, Step, constant, is_constant, type_of
from edgeattn.parity.mutation import EPSILON, EPSILON_FACTOR, RELU, SOFTMAX, SUBTRACTION, Array, Edit, Editor, Weight

# Operator -> for each operand that may be a weight, its role and the axis of its output channels.
_OPERANDS = {
    "batch_matmul": {0: ("weight", -2), 1: ("weight", -1)},
    "broadcasting_batch_matmul": {0: ("weight", -2), 1: ("weight", -1)},
    "conv2d": {1: ("weight", 0)},
    "conv_transpose2d": {1: ("weight", 1)},
}
_ADD, _SUB = "coreai.decomposable.broadcasting_add", "coreai.decomposable.broadcasting_sub"
_ROOTS = ("rsqrt", "sqrt")


class CoreAiEditor(Editor):
    def weights(self, path: Path) -> tuple[Weight, ...]:
        program = asset.load(path)
        weights: dict[str, Weight] = {}
        for name, op, role, axis in _weights(program):
            value = constant(op)
            if np.issubdtype(value.dtype, np.floating) and -value.ndim <= axis < value.ndim:
                weights.setdefault(name, Weight(name, value.copy(), role, axis % value.ndim))
        return tuple(weights.values())

    def edits(self, path: Path) -> tuple[Edit, ...]:
        program = asset.load(path)
        return tuple(
            Edit(kind, index, place)
            for index, (place, step) in enumerate(_places(program))
            for kind, prepare in _EDITS.items()
            if prepare(step)
        )

    def write(
        self, source: Path, target: Path, replaced: Mapping[str, Array] | None = None, edit: Edit | None = None
    ) -> None:
        """A copy of ``source`` with other values of some weights, or with one operator changed."""
        program = asset.load(source)
        ops = {name: op for name, op, *_ in reversed(list(_weights(program)))}
        for name, array in (replaced or {}).items():
            program.replace(ops[name], array)
        if edit:
            _, step = list(_places(program))[edit.index]
            change = _EDITS[edit.kind](step)
            if change is None:
                raise ValueError(f"{edit.place} is not suited to this mutation: {edit.kind}")
            change()
        asset.save(program, target, asset.own_metadata(source))


EDITOR: Editor = CoreAiEditor()


def _weights(program: Program) -> Iterator[tuple[str, Any, str, int]]:
    """Name, constant, role and axis of each weight, by the first operator that reads it."""
    seen: list[Any] = []
    for step in program.steps():
        operands = dict(_OPERANDS.get(step.kind, {}))
        if step.op.name == _ADD:  # the bias of a product, on either side
            products = [_kind(value) in _OPERANDS for value in step.op.operands]
            operands = {1 - i: ("bias", 0) for i, is_product in enumerate(products) if is_product}
        for i, (role, axis) in operands.items():
            value = step.op.operands[i]
            if is_constant(value) and not any(value.owner == other for other in seen):
                seen.append(value.owner)
                yield f"{step.name}.{role}", value.owner, role, axis


def _places(program: Program) -> Iterator[tuple[str, Step]]:
    """All operators, those of composites too, each once, with a name for people."""
    for own, graph in program.graphs.items():
        for step in program.steps(graph):
            yield (step.name if graph == program.main else f"{own}/{step.name}"), step


def _kind(value: Any) -> str:
    """The kind of the operator that gives a value; "" for an input."""
    name = str(getattr(value.owner, "name", ""))
    return name.rpartition(".")[2]


# Each of these returns a function that changes the operator, or None where it does not apply.
Change = Callable[[], None]


def _softmax_axis(step: Step) -> Change | None:
    if step.kind != "softmax" or not is_constant(step.op.operands[1]):
        return None
    axis = int(constant(step.op.operands[1].owner)) % len(type_of(step.op.operands[0].type).shape)
    return lambda: _with_constant(step.op, 1, lambda value: np.full_like(value, 1 if axis == 0 else axis - 1))


def _relu(step: Step) -> Change | None:
    return (lambda: step.op.results[0].replace_all_uses_with(step.op.operands[0])) if step.kind == "relu" else None


def _subtraction(step: Step) -> Change | None:
    if step.op.name != _ADD or any(map(is_constant, step.op.operands)):
        return None
    return lambda: _as(step.op, _SUB)


def _epsilon(step: Step) -> Change | None:
    """The constant that is added before a square root."""
    if step.op.name != _ADD or not any(_kind_of_user(use) in _ROOTS for use in step.op.results[0].uses):
        return None
    index = next((i for i, value in enumerate(step.op.operands) if is_constant(value)), None)
    if index is None:
        return None
    return lambda: _with_constant(step.op, index, lambda epsilon: epsilon * epsilon.dtype.type(EPSILON_FACTOR))


def _kind_of_user(use: Any) -> str:
    return str(use.owner.name).rpartition(".")[2]


def _with_constant(op: Any, index: int, change: Callable[[Any], Any]) -> None:
    Program.put(op, index, change(constant(op.operands[index].owner)))


def _as(op: Any, name: str) -> None:
    """Put an operator of another name, with the same operands, in place of ``op``."""
    from coreai._compiler.ir import InsertionPoint, Operation

    with op.context, op.location, InsertionPoint(op):
        types, operands = [value.type for value in op.results], list(op.operands)
        made = Operation.create(name, results=types, operands=operands)
    op.results[0].replace_all_uses_with(made.results[0])
    op.erase()


_EDITS = {SOFTMAX: _softmax_axis, RELU: _relu, SUBTRACTION: _subtraction, EPSILON: _epsilon}
