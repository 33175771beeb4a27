"""Writing linear maps over the channels."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeattn.lowering import forms
from edgeattn.lowering.axes import Group, flat, leaves, size, sizes
from edgeattn.lowering.ops import (
    Contract,
    Linear,
)
from edgeattn.lowering.projections import conv, linear
from edgeattn.lowering.writing import maps
from edgeattn.lowering.writing.dimensions import ending, is_run, runs
from edgeattn.lowering.writing.emitter import Emitter
from edgeattn.lowering.writing.heads import from_heads, to_heads
from edgeattn.lowering.writing.physical import TO_FIRST, TO_LAST, Phys

aten = torch.ops.aten


def linear_map(e: Emitter, op: Linear) -> Phys:
    x = e.of(op.inputs[0], op)
    if e.manner.by_head and (y := _of_heads(e, op, x)) is not None:
        return y
    inside = leaves(op.inside)
    order = x.axes
    at = sorted(order.index(a) for a in inside)
    together = bool(at) and is_run([order[i] for i in at], order)
    last = together and at[-1] == len(order) - 1
    lead = [a for a in order if a not in inside]
    batch = set(leaves(op.dims[0])) if op.dims else set()
    if e.manner.settles and op.inputs[0].dims:
        batch |= set(leaves(op.inputs[0].dims[0]))
    second = together and set(order[: at[0]]) <= batch
    wants_last = last and (e.w.is_last or not second or len(op.dims) == 2)
    if not at and not e.w.is_last and len(x.shape) == 4 and x.shape[1] == 1:
        wants_last = False
    elif not at:
        x = x if x.shape[-1:] == (1,) else e.w.view(x, [*x.groups, ()])
        wants_last, lead = True, list(order)
    elif e.w.is_last and not last:
        x, wants_last = e.w.reorder(x, [*lead, *(order[i] for i in at)]), True
    elif not (last or second):
        front = [a for a in lead if a in batch]
        x = e.w.reorder(x, [*front, *(order[i] for i in at), *(a for a in lead if a not in front)])
    # The columns in the order in which the channels lie in memory.
    now = tuple(a for a in x.axes if a in inside)
    weight = op.weight.reshape(-1, *sizes(inside))
    weight = weight.permute(0, *(1 + inside.index(a) for a in now)).reshape(len(op.weight), -1)
    if wants_last:
        return _linear_last(e, op, x, now, weight)
    return _linear_first(e, op, x, now, weight)


def _of_heads(e: Emitter, op: Linear, x: Phys) -> Phys | None:
    if op in e.heads and (y := to_heads(e.w, op, x, e.heads[op])) is not None:
        return y
    return from_heads(e.w, op, x)


def _linear_last(e: Emitter, op: Linear, x: Phys, inside: Group, weight: Tensor) -> Phys:
    outside = leaves(op.outside)
    groups = ending(x, inside)
    if len(op.dims) == 2 and len(groups) > 2:
        groups = [flat(groups[:-1]), inside]
    x = e.w.view(x, groups)
    order = (*x.axes[: len(x.axes) - len(inside)], *outside)
    shape = (*x.shape[:-1], len(weight))
    if e.w.is_last and x.is_map and len(shape) == 4:
        node = e.w.module(conv(weight, op.bias), e.w.permute(x.node, TO_FIRST, free=True))
        return Phys(e.w.permute(node, TO_LAST, free=True), order, shape, is_map=True)
    if e.w.is_last and len(weight) == 1 and op.bias is None:
        node = e.w.module(forms.ScoreLast(weight, keepdim=x.is_map), x.node)
        return Phys(node, order, shape if x.is_map else shape[:-1], x.is_map)
    if e.w.is_last and len(shape) > 2 and shape[-2] == 1 and not isinstance(op.inputs[0], Contract):
        # litert-torch cannot do a linear layer on [B, P, 1, C].
        rows = e.w.view(x, [tuple(x.axes[: len(x.axes) - len(inside)]), inside])
        node = e.w.module(linear(weight, op.bias), rows.node)
        flat_rows = Phys(node, order, (rows.shape[0], len(weight)), x.is_map)
        return e.w.view(flat_rows, [*groups[:-1], outside])
    return Phys(e.w.module(linear(weight, op.bias), x.node), order, shape, x.is_map)


def _linear_first(e: Emitter, op: Linear, x: Phys, inside: Group, weight: Tensor) -> Phys:
    """[B, C, ...]: a convolution; a matrix product where the result is one channel, or on a few columns."""
    outside = leaves(op.outside)
    start = x.axes.index(inside[0]) if inside else len(x.groups[0])
    batch, rest = x.axes[:start], x.axes[start + len(inside) :]
    order = (*batch, *outside, *rest)
    if len(weight) == 1 and op.bias is None and rest and not maps.is_map(e, x):
        cells = e.w.view(x, [batch, inside, rest])
        node = e.w.module(forms.Score(weight), cells.node)
        return Phys(node, order, (size(batch), 1, size(rest)))
    if len(x.shape) == 3 and x.groups[1] == inside:
        node = e.w.module(forms.Columns(weight, op.bias), x.node)
        return Phys(node, order, (x.shape[0], len(weight), x.shape[2]))
    if len(x.shape) != 4 or x.groups[0] != batch or x.groups[1] != inside:
        tail = [g for g in runs(x.groups, rest) if g]
        own = [leaves(g) for g in op.dims[2:]]
        if len(own) == 2 and flat(own) == rest:
            tail = own  # a map again
        elif len(tail) > 2:
            tail = [tail[0], flat(tail[1:])]
        x = e.w.view(x, [batch, inside, *[*tail, (), ()][:2]])
    node = e.w.module(conv(weight, op.bias), x.node)
    return Phys(node, order, (x.shape[0], len(weight), *x.shape[2:]), x.is_map)
