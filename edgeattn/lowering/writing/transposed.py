"""Transposed convolutions and folds in operators that every converter has, exactly.

A transposed convolution with padding is the one without, cropped; what its output padding adds at the end is the bias
alone. A fold that adds overlapping patches up is a transposed convolution of each channel, whose kernels are ones at
one place each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgeattn.lowering.axes import flat
from edgeattn.lowering.movement import name
from edgeattn.lowering.ops import Constant, Opaque, filled, viewed
from edgeattn.lowering.writing.emitter import Emitter
from edgeattn.lowering.writing.physical import Phys

aten = torch.ops.aten
TRANSPOSED, FOLD = "conv_transpose2d", "col2im"
# The arguments of conv_transpose2d from the bias on, where they are left out.
_DEFAULTS = (None, [1, 1], [0, 0], [0, 0], 1, [1, 1])


def is_padded(e: Emitter, op: Opaque) -> bool:
    """Whether it is a transposed convolution that a format of this layout lacks: one of another padding than that
    which makes the output so many times as large as the stride says."""
    if TRANSPOSED not in e.lacks or op.node is None or name(op.node) != TRANSPOSED or len(op.shape) != 4:
        return False
    _, stride, padding, more, _, dilation = _arguments(op.args)
    kernel = op.views[1].shape[2:]
    return _is_spread(stride, dilation) or any(
        (p or o) and (o or d * (k - 1) + 1 - s != 2 * p)
        for k, s, p, o, d in zip(kernel, stride, padding, more, dilation, strict=True)
    )


def _is_spread(stride: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether both are more than 1, which litert-torch lacks: the kernel is then written with zeros in it."""
    return max(stride) > 1 and max(dilation) > 1


def _spread(weight: Tensor, dilation: Sequence[int]) -> Tensor:
    """The kernel [..., h, w] with the zeros that a dilation stands for."""
    sizes = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    result = weight.new_zeros((*weight.shape[:2], *sizes))
    result[:, :, :: dilation[0], :: dilation[1]] = weight
    return result


def _arguments(args: tuple[Any, ...]) -> list[Any]:
    """Bias, stride, padding, output padding, groups and dilation, the lengths for both dimensions."""
    given = [*args[2:], *_DEFAULTS[len(args) - 2 :]]
    return [list(a) * 2 if isinstance(a, list | tuple) and len(a) == 1 else a for a in given]


def cropped(e: Emitter, op: Opaque, nodes: list[fx.Node]) -> fx.Node:
    """A transposed convolution of ``nodes``, its tensors in their original order, without padding, cut."""
    x, weight, *_ = filled(op.args, nodes)
    bias, stride, padding, _, groups, dilation = _arguments(tuple(filled(op.args, nodes)))
    before, kernel, after = op.views[0].shape[2:], op.views[1].shape[2:], op.shape[2:]
    whole = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(before, stride, dilation, kernel, strict=True)]
    if _is_spread(stride, dilation) and isinstance(op.views[1].op, Constant):
        weight = e.w.buffer(_spread(viewed(op.views[1].op.evaluate(), op.views[1]), dilation))
        dilation = [1, 1]
    longer = any(p + n > full for p, n, full in zip(padding, after, whole, strict=True))
    y = e.w.call(op.target, x, weight, None if longer else bias, stride, [0, 0], [0, 0], groups, dilation)
    y = _cut(e, y, whole, padding, after)
    if longer and bias is not None:
        y = e.w.call(aten.add.Tensor, y, e.w.call(aten.reshape.default, bias, [op.shape[1], 1, 1]))
    return y


def is_overlapping(e: Emitter, op: Opaque) -> bool:
    """Whether it is a fold that a format of this layout lacks: the others are movements, and known as such."""
    return FOLD in e.lacks and op.node is not None and name(op.node) == FOLD and len(op.shape) == 4


def folded(e: Emitter, op: Opaque) -> Phys:
    """A fold [B, C * kh * kw, L] -> [B, C, H, W] as a transposed convolution in C groups."""
    size, kernel, dilation, padding, stride = (list(a) for a in op.args[1:6])
    channels = op.shape[1]
    count = kernel[0] * kernel[1]
    grid = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)
    ]
    whole = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(grid, stride, dilation, kernel, strict=True)]
    ones = torch.eye(count, dtype=torch.float64).reshape(count, 1, *kernel).repeat(channels, 1, 1, 1)
    if _is_spread(stride, dilation):
        ones, dilation = _spread(ones, dilation), [1, 1]
    x = e.w.call(aten.reshape.default, e.logical(op.views[0]), [-1, channels * count, *grid])
    y = e.w.call(aten.conv_transpose2d.input, x, e.w.buffer(ones), None, stride, [0, 0], [0, 0], channels, dilation)
    y = _cut(e, y, whole, padding, size)
    return Phys(y, flat(op.dims), op.shape)


def _cut(e: Emitter, y: fx.Node, whole: list[int], begin: Sequence[int], lengths: Sequence[int]) -> fx.Node:
    """Rows and columns of a map from ``begin`` on, of which there are ``whole``, and zeros behind."""
    more = [max(0, b + n - full) for b, n, full in zip(begin, lengths, whole, strict=True)]
    if any(more):
        y = e.w.call(aten.constant_pad_nd.default, y, [0, more[1], 0, more[0]], 0.0)
    for dim, (b, n, full, extra) in enumerate(zip(begin, lengths, whole, more, strict=True), start=2):
        if b or n != full + extra:
            y = e.w.call(aten.slice.Tensor, y, dim, b, b + n)
    return y
