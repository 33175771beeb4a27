"""Writing functions of each element: common orders and dimensions for what is broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from edgeattn.lowering import forms
from edgeattn.lowering.axes import Axis, Group, flat, leaves, size
from edgeattn.lowering.ops import (
    Constant,
    Op,
    Pointwise,
    filled,
)
from edgeattn.lowering.writing import maps
from edgeattn.lowering.writing.dimensions import one_hot, put_in, short
from edgeattn.lowering.writing.emitter import Emitter
from edgeattn.lowering.writing.physical import Phys

aten = torch.ops.aten
_ARITHMETIC = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)


def pointwise(e: Emitter, op: Pointwise) -> Phys:
    constants = [x for x in op.inputs if isinstance(x, Constant)]
    parts = [e.of(x, op) for x in op.inputs if not isinstance(x, Constant)]
    lead, order = _common_order(op, parts)
    fitted = [e.w.reorder(p, [a for a in order if a in p.axes]) for p in parts]
    groups, fitted = common_groups(e, fitted, [x.axes for x in constants], fitted[lead], order)
    rest = iter(fitted)
    nodes = [e.constant(x, groups) if isinstance(x, Constant) else shaped(e, next(rest), groups) for x in op.inputs]
    if e.w.keeps_maps and op.target is aten.silu.default:
        # In fp16 torch.export writes SiLU in fp32, with casts to it and back.
        node = e.w.call(aten.mul.Tensor, nodes[0], e.w.call(aten.sigmoid.default, nodes[0]))
    else:
        node = e.w.call(op.target, *_numbers(e, op, filled(op.args, nodes), len(groups)), **op.kwargs)
    shape = tuple(size(leaves(g)) for g in groups)
    is_map = any(p.is_map and len(p.axes) == len(order) for p in fitted)
    return Phys(node, tuple(order), shape, is_map)


def _numbers(e: Emitter, op: Pointwise, args: Sequence[Any], rank: int) -> list[Any]:
    """On a whole map a number is one too: beside a number, the map would be moved to lie channels-first."""
    value = op.node.meta.get("val") if op.node is not None else None
    is_real = isinstance(value, torch.Tensor) and value.is_floating_point()
    if not e.w.keeps_maps or rank != 4 or op.target not in _ARITHMETIC or not is_real:
        return list(args)
    return [_number(e, x) if isinstance(x, int | float) else x for x in args]


def _number(e: Emitter, x: float) -> fx.Node:
    node: fx.Node = e.w.remembered(("number", float(x)), lambda: e.w.buffer(torch.full((1,) * 4, float(x)).double()))
    return node


def _common_order(op: Op, parts: list[Phys]) -> tuple[int, list[Axis]]:
    """The largest input, and an order of all axes: its own, with what it lacks put in as another has it."""
    lead = max(range(len(parts)), key=lambda k: (len(parts[k].axes), size(parts[k].axes), parts[k].is_map, -k))
    order = list(parts[lead].axes)
    for part in parts:
        order = put_in(order, part.axes)
    missing = [a for a in op.axes if a not in order]  # only constants have it
    return lead, [*order, *missing]


def common_groups(
    e: Emitter, parts: list[Phys], constants: list[Group], lead: Phys, order: list[Axis]
) -> tuple[list[Group], list[Phys]]:
    """Dimensions in which every input, and every constant along its axes, has all axes of a dimension, or none."""
    has = [set(p.axes) for p in parts]
    has += [set(axes) for axes in constants]

    def pure(groups: Sequence[Group]) -> bool:
        return all(not set(g) & h or set(g) <= h for g in groups for h in has)

    fit = [p for p in parts if set(p.axes) == set(order) and pure(p.groups)]
    if fit:
        # Of those that ask for as few reshapes, a map: the next convolution takes it as it is.
        best = min(fit, key=lambda x: (sum(not _fits(p, x.groups) for p in parts), not x.is_map, len(x.shape)))
        return best.groups, parts
    if set(lead.axes) == set(order) and not e.w.is_last and len(lead.shape) == 4:
        spread = [_spread(e, p, lead) for p in parts]
        if all(s is not None for s in spread):
            return lead.groups, [s for s in spread if s is not None]
    start = lead.groups if set(lead.axes) == set(order) else [(axis,) for axis in order]
    groups = []
    for group in start:
        if not group:
            groups.append(group)
        for axis in group:
            same = groups and groups[-1] and axis is not group[0] and all(
                (axis in h) == (groups[-1][-1] in h) for h in has
            )  # fmt: skip
            if same:
                groups[-1] = (*groups[-1], axis)
            else:
                groups.append((axis,))
    return short(groups, *has), parts


def _fits(part: Phys, groups: Sequence[Group]) -> bool:
    wanted = [size(leaves(g)) if set(leaves(g)) & set(part.axes) else 1 for g in groups]
    while len(wanted) > len(part.shape) and wanted[0] == 1:
        wanted.pop(0)
    return tuple(wanted) == part.shape


def shaped(e: Emitter, part: Phys, groups: Sequence[Group]) -> fx.Node:
    if _fits(part, groups):
        return part.node
    own = set(part.axes)
    return e.w.view(part, [g if set(leaves(g)) & own else () for g in groups]).node


def _spread(e: Emitter, part: Phys, lead: Phys) -> Phys | None:
    """A value for each offset in a patch, at every pixel of the map ``lead``, [B, C, H, W]."""
    batch, channels, *places = lead.groups
    rest = leaves(flat(places))
    kept = [a for a in part.axes if a in rest]
    if not kept or all(set(g) <= set(part.axes) or not set(g) & set(part.axes) for g in lead.groups):
        return part
    if (y := maps.tiled(e, part, lead)) is not None:
        return y
    if tuple(part.axes) != (*batch, *channels, *kept):
        return None
    pixels = one_hot(kept, rest).T.contiguous()
    cells = e.w.view(part, [batch, channels, tuple(kept)])
    node = e.w.module(forms.PatchSpread(pixels), cells.node)
    whole = Phys(node, lead.axes, (size(batch), size(channels), size(rest)))
    return e.w.view(whole, lead.groups)
