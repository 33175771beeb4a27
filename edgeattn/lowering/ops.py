"""The operators of a network on named axes, and what each computes.

A value has no order in memory here: reshapes and permutations are no operators. ``evaluate`` is the definition of each,
in plain PyTorch; every rewrite is compared with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from edgeattn.lowering.axes import Axis, Group, flat, leaves, size, sizes


@dataclass(frozen=True)
class Slot:
    """In the arguments of a function: the tensor with this number."""

    number: int


@dataclass(frozen=True)
class View:
    """An operator's value as a tensor of ``shape``: a group of axes for each dimension.

    A dimension without axes is longer than 1 where the value is broadcast over it.
    """

    op: Op
    dims: tuple[Group, ...]
    shape: tuple[int, ...]


@dataclass(eq=False, kw_only=True)
class Op(ABC):
    """One operator. ``node`` is what it comes from in the exported graph; ``dims`` are its axes, as that had them."""

    inputs: list[Op] = field(default_factory=list)
    dims: tuple[Group, ...] = ()
    node: fx.Node | None = None

    @property
    def axes(self) -> Group:
        """The axes of the value."""
        return flat(self.dims)

    @abstractmethod
    def evaluate(self, *values: Tensor) -> Any:
        """The value, with one dimension for each of ``axes``, from the values of the inputs in the same form."""


def aligned(value: Tensor, axes: Sequence[Axis], target: Sequence[Axis]) -> Tensor:
    """A tensor with a dimension for each of ``axes`` as one with a dimension for each of ``target``, to broadcast."""
    value = value.reshape(sizes(axes))
    axes = leaves(axes)
    present = [axis for axis in target if axis in axes]
    value = value.permute([axes.index(axis) for axis in present])
    return value.reshape([axis.size if axis in axes else 1 for axis in target])


def filled(arguments: Any, tensors: Sequence[Any]) -> Any:
    """The arguments with tensors for the slots."""
    if isinstance(arguments, Slot):
        return tensors[arguments.number]
    if isinstance(arguments, list | tuple):
        return type(arguments)(filled(a, tensors) for a in arguments)
    if isinstance(arguments, dict):
        return {name: filled(a, tensors) for name, a in arguments.items()}
    return arguments


@dataclass(eq=False, kw_only=True)
class Input(Op):
    """An input of the network."""

    number: int

    def evaluate(self, *values: Tensor) -> Any:
        """It has the one value that it is given."""
        (value,) = values
        return value


@dataclass(eq=False, kw_only=True)
class Constant(Op):
    """A tensor that does not depend on the inputs."""

    value: Tensor

    def evaluate(self, *values: Tensor) -> Any:
        return self.value.reshape(sizes(self.axes))


@dataclass(eq=False, kw_only=True)
class Pointwise(Op):
    """A function of each element of its inputs, which are broadcast over the axes that they lack."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def evaluate(self, *values: Tensor) -> Any:
        tensors = [aligned(v, op.axes, self.axes) for v, op in zip(values, self.inputs, strict=True)]
        return self.target(*filled(self.args, tensors), **self.kwargs)


@dataclass(eq=False, kw_only=True)
class Linear(Op):
    """A matrix over one group of axes: a 1x1 convolution, a linear layer, a product with a constant matrix.

    Args:
        inside, outside: the groups before and after.
        weight: [outside, inside].
        bias: [outside] or None.
    """

    inside: Group
    outside: Group
    weight: Tensor
    bias: Tensor | None = None

    def evaluate(self, *values: Tensor) -> Any:
        (x,), (op,) = values, self.inputs
        inside, outside = leaves(self.inside), leaves(self.outside)
        kept = [axis for axis in op.axes if axis not in inside]
        y = aligned(x, op.axes, [*kept, *inside]).reshape(*sizes(kept), size(inside))
        y = torch.nn.functional.linear(y, self.weight, self.bias).reshape(sizes([*kept, *outside]))
        return aligned(y, [*kept, *outside], self.axes)


@dataclass(eq=False, kw_only=True)
class Reduce(Op):
    """A sum, mean or largest value over axes. ``keepdim``: the original kept them, with length 1."""

    target: Callable[..., Any]
    over: Group
    keepdim: bool

    def evaluate(self, *values: Tensor) -> Any:
        (x,), (op,) = values, self.inputs
        over = leaves(self.over)
        kept = [axis for axis in op.axes if axis not in over]
        y = self.target(aligned(x, op.axes, [*kept, *over]), list(range(len(kept), len(kept) + len(over))))
        return aligned(y, kept, self.axes)


@dataclass(eq=False, kw_only=True)
class Softmax(Op):
    """A softmax over a group of axes, or its logarithm."""

    over: Group
    target: Callable[..., Any]

    def evaluate(self, *values: Tensor) -> Any:
        (x,), (op,) = values, self.inputs
        over = leaves(self.over)
        kept = [axis for axis in op.axes if axis not in over]
        y = self.target(aligned(x, op.axes, [*kept, *over]).reshape(*sizes(kept), size(over)), -1)
        return aligned(y, [*kept, *over], self.axes)


@dataclass(eq=False, kw_only=True)
class Contract(Op):
    """The sum of the product of two values over a group of axes: a matrix product, or a weighted sum."""

    over: Group
    keepdim: bool = False

    def evaluate(self, *values: Tensor) -> Any:
        letters: dict[Axis, str] = {}

        def word(axes: Sequence[Axis]) -> str:
            return "".join(letters.setdefault(axis, chr(ord("a") + len(letters))) for axis in axes)

        first, second = (op.axes for op in self.inputs)
        equation = f"{word(first)},{word(second)}->{word(self.axes)}"
        x, y = (v.reshape(sizes(op.axes)) for v, op in zip(values, self.inputs, strict=True))
        return torch.einsum(equation, x, y)


@dataclass(eq=False, kw_only=True)
class Norm(Op):
    """The value less its mean, over its standard deviation, over a group of axes; then a factor and a term.

    ``weight`` and ``bias`` are along ``affine``. ``node`` is the group_norm or layer_norm that it comes from.
    """

    over: Group
    epsilon: float
    affine: Group = ()
    weight: Tensor | None = None
    bias: Tensor | None = None

    def evaluate(self, *values: Tensor) -> Any:
        (x,), (op,) = values, self.inputs
        over = leaves(self.over)
        axes = op.axes
        x = x.reshape(sizes(axes))
        at = [axes.index(axis) for axis in over]
        z = x - x.mean(at, keepdim=True) if at else x * 0
        y = z * torch.rsqrt((z * z).mean(at, keepdim=True) + self.epsilon) if at else z
        for parameter, apply in ((self.weight, torch.mul), (self.bias, torch.add)):
            if parameter is not None:
                y = apply(y, aligned(parameter, self.affine, axes))
        return aligned(y, axes, self.axes)


@dataclass(eq=False, kw_only=True)
class Slice(Op):
    """Every ``step``-th value along the group ``inside`` from ``start`` on; they are along ``outside``."""

    inside: Group
    outside: Group
    start: int
    step: int = 1

    def cut(self, axes: Sequence[Axis]) -> Group:
        """The axes, with those of the slice in place of those that it cuts."""
        inside, outside = leaves(self.inside), leaves(self.outside)
        return tuple(b for a in leaves(axes) for b in (outside if a is inside[0] else () if a in inside else (a,)))

    def evaluate(self, *values: Tensor) -> Any:
        (x,), (op,) = values, self.inputs
        inside = leaves(self.inside)
        kept = [axis for axis in op.axes if axis not in inside]
        y = aligned(x, op.axes, [*kept, *inside]).reshape(*sizes(kept), size(inside))
        number = size(leaves(self.outside))
        y = y[..., self.start : self.start + (number - 1) * self.step + 1 : self.step]
        target = leaves(self.outside)
        return aligned(y.reshape(sizes([*kept, *target])), [*kept, *target], self.axes)


@dataclass(eq=False, kw_only=True)
class Concat(Op):
    """The inputs one after the other along a group; each has its own ``inside``, the result has ``outside``."""

    inside: tuple[Group, ...]
    outside: Group

    def evaluate(self, *values: Tensor) -> Any:
        outside = leaves(self.outside)
        kept = [axis for axis in self.axes if axis not in outside]
        pieces = []
        for x, op, group in zip(values, self.inputs, self.inside, strict=True):
            piece = aligned(x, op.axes, [*kept, *leaves(group)])
            # An input that is broadcast over an axis has it here.
            pieces.append(piece.expand(*sizes(kept), *sizes(group)).reshape(*sizes(kept), size(leaves(group))))
        return aligned(torch.cat(pieces, -1).reshape(sizes([*kept, *outside])), [*kept, *outside], self.axes)


@dataclass(eq=False, kw_only=True)
class Expand(Op):
    """The value again along new axes."""

    def evaluate(self, *values: Tensor) -> Any:
        (x,), (op,) = values, self.inputs
        return aligned(x, op.axes, self.axes).expand(sizes(self.axes))


@dataclass(eq=False, kw_only=True)
class Rename(Op):
    """The same value, some of whose axes have other names: ``pairs`` of (old, new)."""

    pairs: tuple[tuple[Axis, Axis], ...]

    def evaluate(self, *values: Tensor) -> Any:
        (x,), (op,) = values, self.inputs
        return aligned(x, self.renamed(op.axes), self.axes)

    def renamed(self, axes: Sequence[Axis]) -> Group:
        """The axes by their new names."""
        names = dict(
            pair for old, new in self.pairs for pair in zip(leaves((old,)), _same_cut(leaves((old,)), new), strict=True)
        )
        return tuple(names.get(axis, axis) for axis in leaves(axes))


def _same_cut(old: Group, new: Axis) -> Group:
    """The leaves of ``new``, cut as ``old`` is."""
    from edgeattn.lowering.axes import pairs

    both = pairs(old, (new,))
    assert both is not None
    return tuple(b for _, b in both)


@dataclass(eq=False, kw_only=True)
class Opaque(Op):
    """Any other function, of tensors in their original order. ``views`` say how each input is read.

    ``is_map``: of [B, C, H, W], with an output of the same kind: a convolution, a pooling, a resize.
    """

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    views: tuple[View, ...]
    is_map: bool = False
    shape: tuple[int, ...] = ()

    def evaluate(self, *values: Tensor) -> Any:
        tensors = [viewed(x, view) for x, view in zip(values, self.views, strict=True)]
        y = self.target(*filled(self.args, tensors), **filled(self.kwargs, tensors))
        return y.reshape(sizes(self.axes)) if isinstance(y, Tensor) else y


def viewed(value: Any, view: View) -> Any:
    """An operator's value in the order and shape of a view."""
    if not isinstance(value, Tensor):
        return value
    axes = flat(view.dims)
    ones = [size(leaves(group)) for group in view.dims]
    return aligned(value, view.op.axes, axes).reshape(ones).expand(view.shape)
