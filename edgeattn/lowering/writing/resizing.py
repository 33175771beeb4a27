"""A resize of a map as two linear maps, over its rows and over its columns, for formats that lack the operator.

Every resize of PyTorch that is not adaptive is a fixed matrix for the rows and one for the columns, whatever it takes
between pixels. The values stay where they are, in both layouts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeattn.lowering import forms
from edgeattn.lowering.axes import Group, flat, leaves, size
from edgeattn.lowering.movement import name
from edgeattn.lowering.ops import Opaque, filled
from edgeattn.lowering.projections import linear
from edgeattn.lowering.writing.emitter import Emitter
from edgeattn.lowering.writing.physical import TO_LAST, Phys

# By pixels that are not a whole number of times as many, nearest rounds, and not every runtime as PyTorch does.
_NEAREST = "upsample_nearest2d"
RESIZES = (
    _NEAREST, "_upsample_nearest_exact2d", "upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_bicubic2d",
    "_upsample_bicubic2d_aa",
)  # fmt: skip


def is_lacking(e: Emitter, op: Opaque) -> bool:
    """Whether it is a resize that a format of this layout does not have."""
    if not op.is_map or op.node is None or name(op.node) not in e.lacks or name(op.node) not in RESIZES:
        return False
    before, after = op.views[0].shape[2:], op.shape[2:]
    return name(op.node) != _NEAREST or any(b % a for a, b in zip(before, after, strict=True))


def resize(e: Emitter, op: Opaque) -> Phys:
    """Over the rows and over the columns, the cheaper first."""
    view = op.views[0]
    x = e.of(view.op)
    before, after = view.dims, op.dims
    x = e.w.reorder(x, flat([before[i] for i in TO_LAST] if e.w.is_last else before))
    h, w = view.shape[2:]
    rows, columns = op.shape[2:]
    order = (2, 3) if rows * h * w + rows * w * columns <= h * w * columns + rows * h * columns else (3, 2)
    for dim in order:
        x = _over(e, x, leaves(before[dim]), leaves(after[dim]), _matrix(op, dim))
    dims = [after[i] for i in (TO_LAST if e.w.is_last else range(4))]
    return Phys(e.w.view(x, dims).node, flat(dims), tuple(size(leaves(g)) for g in dims), is_map=True)


def _matrix(op: Opaque, dim: int) -> Tensor:
    """[after, before]: what the operator does along one dimension, from all unit vectors, each as a channel."""
    length = op.views[0].shape[dim]
    units = torch.eye(length, dtype=torch.float64)
    # Two along the other, as PyTorch's antialiasing takes one for another memory format.
    units = units[None, :, :, None].expand(1, -1, -1, 2) if dim == 2 else units[None, :, None].expand(1, -1, 2, -1)
    units = units.contiguous()
    target = [op.shape[2], 2] if dim == 2 else [2, op.shape[3]]
    # By sizes, not by factors: the output's size is known, and the factors stay as they are where there are any.
    args = list(filled(op.args, [units]))
    args[1] = target
    factors = args[-1] if isinstance(args[-1], list | tuple) else None
    if factors is not None and args[-1] is not target:
        args[1], args[-1] = None, [factors[0], 1.0] if dim == 2 else [1.0, factors[1]]
    y = op.target(*args, **op.kwargs)[0]
    return (y[:, :, 0] if dim == 2 else y[:, 0]).T.contiguous()  # type: ignore[no-any-return]


def _over(e: Emitter, x: Phys, inside: Group, outside: Group, weight: Tensor) -> Phys:
    """A linear map over axes that lie together, in place."""
    order = x.axes
    begin = order.index(inside[0]) if inside else 0
    lead, tail = order[:begin], order[begin + len(inside) :]
    if not tail:
        node = e.w.module(linear(weight, None), e.w.view(x, [lead, inside]).node)
        return Phys(node, (*lead, *outside), (size(lead), size(outside)))
    node = e.w.module(forms.Columns(weight, None), e.w.view(x, [lead, inside, tail]).node)
    return Phys(node, (*lead, *outside, *tail), (size(lead), size(outside), size(tail)))
