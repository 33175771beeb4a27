"""A network of operators on named axes, and the one way to rewrite it: with a proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from edgeattn.bundle.change import Change
from edgeattn.lowering.ops import Constant, Op, Opaque, View, aligned
from edgeattn.lowering.proof import Values, equal


@dataclass
class Network:
    """Operators up to some outputs. ``changes`` are the rewrites so far; ``refused`` those whose proof failed."""

    ops: list[Op]
    outputs: list[View]
    values: Values
    changes: list[Change] = field(default_factory=list)
    refused: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sort()

    def sort(self) -> None:
        """Put the operators into an order of computation, without those that no output needs."""
        done: dict[Op, None] = {}
        for root in [op for op in self.ops if not op.inputs and not isinstance(op, Constant)]:
            done[root] = None
        for view in self.outputs:
            stack = [view.op]
            while stack:
                op = stack[-1]
                waiting = [x for x in op.inputs if x not in done]
                if waiting:
                    stack += waiting
                else:
                    done[stack.pop()] = None
        self.ops = list(done)
        self._users: dict[Op, list[Op]] = {op: [] for op in self.ops}
        for op in self.ops:
            for x in dict.fromkeys(op.inputs):
                self._users[x].append(op)

    def has(self, op: Op) -> bool:
        """Whether the operator is still part of the network."""
        return op in self._users

    def users(self, op: Op) -> list[Op]:
        """The operators that read a value, each once."""
        return self._users[op]

    def is_output(self, op: Op) -> bool:
        """Whether the network gives the value back."""
        return any(view.op is op for view in self.outputs)

    def only_user(self, op: Op) -> Op | None:
        """The one operator that reads a value, if nothing else does."""
        users = self._users[op]
        return users[0] if len(users) == 1 and not self.is_output(op) else None

    def swap(self, old: Op, new: Op, why: str = "", path_of: Op | None = None) -> bool:
        """Put ``new`` in the place of ``old`` if it has the same values; the new operators before it are found from it.

        Args:
            old: what is replaced; ``new`` has the same axes.
            why: a sentence for the list of changes; without one it is not listed.
            path_of: the operator whose module the list names, by default ``old``.
        """
        proved = self._proved(old, new)
        change = self._change(path_of or old, why, _title(new))
        if not proved:
            self.refused.append(replace(change, reason=f"not made, as the values would differ: {why}"))
            return False
        for op in [*self.ops, *self._unknown(new)]:
            if op is not new and old in op.inputs:
                op.inputs = [new if x is old else x for x in op.inputs]
                if isinstance(op, Opaque):
                    op.views = tuple(replace(v, op=new) if v.op is old else v for v in op.views)
        self.outputs = [replace(v, op=new) if v.op is old else v for v in self.outputs]
        new.node = new.node or old.node
        self.ops.append(new)
        self.sort()
        if why:
            self.changes.append(change)
        return True

    def _proved(self, old: Op, new: Op) -> bool:
        try:
            for op in self._unknown(new):
                self.values.compute(op)
        except RuntimeError:  # of other types or lengths: no rewrite of this operator
            return False
        before, after = self.values.of(old), self.values.of(new)
        return set(new.axes) == set(old.axes) and all(
            equal(aligned(a, old.axes, old.axes), aligned(b, new.axes, old.axes))
            for a, b in zip(before, after, strict=True)
        )

    def type_of(self, op: Op) -> torch.dtype:
        """The type of an operator's value."""
        value: Tensor = self.values.of(op)[0]
        return value.dtype

    def _unknown(self, op: Op) -> list[Op]:
        """The operators up to ``op`` that have no values yet, in order."""
        result: dict[Op, None] = {}

        def visit(one: Op) -> None:
            if one in self.values or one in result:
                return
            for x in one.inputs:
                visit(x)
            result[one] = None

        visit(op)
        return list(result)

    def _change(self, op: Op, why: str, after: str) -> Change:
        path, kind = origin(op)
        return Change(path, kind, after, why)


class Pass(Protocol):
    """One kind of rewrite. It is tested on a network that it changes, and on one that it must leave alone."""

    def __call__(self, network: Network) -> bool:
        """Rewrite ``network`` wherever it can be; whether it did."""
        ...


def origin(op: Op) -> tuple[str, str]:
    """The path and the class of the user's module that an operator comes from; empty if there is none."""
    return ("", "") if op.node is None else origin_of(op.node)


def origin_of(node: fx.Node) -> tuple[str, str]:
    """The same of a node."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return "", ""
    path, kind = list(stack.values())[-1]
    return str(path), str(kind if isinstance(kind, str) else getattr(kind, "__name__", kind)).rpartition(".")[2]


def each(network: Network, kind: type[Any]) -> Iterator[Any]:
    """The operators of one kind, also while the network is rewritten."""
    for op in list(network.ops):
        if isinstance(op, kind) and network.has(op):
            yield op


def wherever(network: Network, kind: type[Any], apply: Callable[[Network, Any], bool]) -> bool:
    """Apply a rewrite to every operator of one kind; whether any was made."""
    made = False
    for op in each(network, kind):
        made |= apply(network, op)
    return made


def _title(op: Op) -> str:
    """What an operator is called in the list of changes."""
    return "Conv2d" if isinstance(op, Opaque) else type(op).__name__
