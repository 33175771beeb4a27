"""Linear layers and convolutions as matrices and kernels: read from an operator, and made into one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgeattn.lowering.axes import Group, fresh, leaves
from edgeattn.lowering.movement import name
from edgeattn.lowering.ops import Constant, Linear, Op, Opaque, Slot, View, viewed


@dataclass(frozen=True)
class Conv:
    """A 2D convolution: its input as a view [B, C, H, W], kernel [out, in / groups, h, w] and bias [out]."""

    x: View
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def is_padded(self) -> bool:
        """Whether it reads zeros around its input."""
        return self.padding != (0, 0)


def conv_of(op: Op) -> Conv | None:
    """The convolution that an operator is, if its kernel is constant and its padding is in numbers."""
    if not isinstance(op, Opaque) or (name(op.node) != "conv2d" and op.target is not torch.ops.aten.conv2d.default):  # type: ignore[arg-type]
        return None
    if not op.is_map or op.target is not torch.ops.aten.conv2d.default:
        return None
    _, _, bias, stride, padding, dilation, groups = (*op.args, *(None, 1, 0, 1, 1)[len(op.args) - 2 :])[:7]
    if isinstance(padding, str):
        return None
    constants = [viewed(v.op.evaluate(), v) for v in op.views[1:] if isinstance(v.op, Constant)]
    return Conv(
        op.views[0], constants[0], None if bias is None else constants[1],
        _pair(stride), _pair(padding), _pair(dilation), groups,
    )  # fmt: skip


def conv_op(conv: Conv, dims: tuple[Group, ...], shape: tuple[int, ...], like: Op) -> Opaque:
    """The operator of a convolution, whose result has ``dims``."""
    tensors = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
    constants = [Constant(value=t, dims=fresh(t.shape), node=like.node) for t in tensors]
    views = (conv.x, *(View(c, c.dims, tuple(c.value.shape)) for c in constants))
    args = (
        Slot(0), Slot(1), None if conv.bias is None else Slot(2),
        list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups,
    )  # fmt: skip
    return Opaque(
        inputs=[v.op for v in views], target=torch.ops.aten.conv2d.default, args=args, kwargs={}, views=views,
        is_map=True, dims=dims, shape=shape, node=like.node,
    )  # fmt: skip


def scaled(op: Op, factor: Tensor | None, term: Tensor | None, dims: tuple[Group, ...]) -> Op | None:
    """A Linear or convolution whose outputs [out] are times ``factor`` and plus ``term``; ``dims`` of the result."""
    if isinstance(op, Linear):
        weight = op.weight if factor is None else op.weight * factor[:, None]
        return Linear(
            inputs=op.inputs, inside=op.inside, outside=op.outside, weight=weight, bias=_affine(op.bias, factor, term),
            dims=dims, node=op.node,
        )  # fmt: skip
    conv = conv_of(op)
    if conv is None:
        return None
    weight = conv.weight if factor is None else conv.weight * factor[:, None, None, None]
    assert isinstance(op, Opaque)
    return conv_op(replace(conv, weight=weight, bias=_affine(conv.bias, factor, term)), dims, op.shape, op)


def outside_of(op: Op) -> Group | None:
    """The axes of the output channels, if the operator is a Linear or a convolution."""
    if isinstance(op, Linear):
        return leaves(op.outside)
    return None if conv_of(op) is None else leaves(op.dims[1])


def _affine(bias: Tensor | None, factor: Tensor | None, term: Tensor | None) -> Tensor | None:
    if bias is not None and factor is not None:
        bias = bias * factor
    if term is None:
        return bias
    return term.clone() if bias is None else bias + term


def _pair(value: Any) -> tuple[int, int]:
    values = list(value) if isinstance(value, list | tuple) else [value, value]
    return (int(values[0]), int(values[-1]))
