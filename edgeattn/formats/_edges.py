"""Inputs and outputs of a module as a converter takes them: of other types or ranks, or an output that is an input."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

# Operators that coremltools reads as nothing at all.
_NOTHING = (
    "alias", "clone", "contiguous", "detach", "detach_", "dropout", "expand", "lift_fresh_copy", "_to_copy", "view",
    "reshape", "_unsafe_view",
)  # fmt: skip


# Types of integers that a converter may lack; each value that an int32 holds is the same in it.
OTHER_INTEGERS = (torch.uint16, torch.uint32, torch.uint64, torch.int16)


class Taking(nn.Module):
    """``module`` that takes a number of no dimension as [1], and integers of one type as those of another.

    Integers are not cast back: the converter lacks their type. What is computed with them is the same, unless it
    overflows in the smaller type on purpose.
    """

    def __init__(self, module: nn.Module, scalars: frozenset[int]) -> None:
        super().__init__()
        self.module, self.scalars = module, scalars
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        """The same outputs."""
        return self.module(*(x.reshape(()) if i in self.scalars else x for i, x in enumerate(inputs)))


def taken(
    module: nn.Module, inputs: dict[str, Tensor], types: Mapping[torch.dtype, torch.dtype], *, scalars: bool = True
) -> tuple[nn.Module, dict[str, Tensor]]:
    """A module and its inputs with other ``types`` in place of those that a converter lacks, and, if it lacks
    ``scalars``, with numbers of no dimension as [1]."""
    numbers = frozenset() if scalars else frozenset(i for i, x in enumerate(inputs.values()) if not x.dim())
    result = {name: x.to(types.get(x.dtype, x.dtype)) for name, x in inputs.items()}
    if not numbers:
        return module, result
    return Taking(module, numbers), {name: x if x.dim() else x.reshape(1) for name, x in result.items()}


class Apart(nn.Module):
    """``module`` with an operator before each output of these numbers, so that none of them is an input itself."""

    def __init__(self, module: nn.Module, numbers: frozenset[int]) -> None:
        super().__init__()
        self.module, self.numbers = module, numbers
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The same outputs."""
        result = self.module(*inputs)
        values = (result,) if isinstance(result, Tensor) else tuple(result)
        values = tuple(_apart(x) if i in self.numbers else x for i, x in enumerate(values))
        return values[0] if isinstance(result, Tensor) else values


def _apart(x: Tensor) -> Tensor:
    return torch.logical_or(x, x) if x.dtype == torch.bool else x * 1


def passed(program: Any) -> frozenset[int]:
    """The numbers of a program's outputs that are inputs of it, by their nodes."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    return frozenset(
        number
        for number, node in enumerate(output.args[0])
        if isinstance(node, fx.Node) and _root(node).name in program.graph_signature.user_inputs
    )


def _root(node: fx.Node) -> fx.Node:
    """The node that gives the same value, of the same shape and type, behind operators that do nothing."""
    while node.op == "call_function" and getattr(node.target, "_opname", "") in _NOTHING:
        before = node.args[0]
        if not isinstance(before, fx.Node) or not _alike(before.meta.get("val"), node.meta.get("val")):
            break
        node = before
    return node


def _alike(a: Any, b: Any) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype
