"""Writing products of two values: weighted sums and matrix products."""

from __future__ import annotations

import torch
from torch import fx

from edgeattn.lowering import forms
from edgeattn.lowering.axes import Axis, Group, flat, leaves, size
from edgeattn.lowering.ops import (
    Contract,
)
from edgeattn.lowering.passes.attention import weighted
from edgeattn.lowering.writing import maps
from edgeattn.lowering.writing.dimensions import one_hot
from edgeattn.lowering.writing.elementwise import common_groups, shaped
from edgeattn.lowering.writing.emitter import Emitter
from edgeattn.lowering.writing.physical import Phys
from edgeattn.lowering.writing.reductions import keeps, reduced

aten = torch.ops.aten


def contract(e: Emitter, op: Contract) -> Phys:
    both = weighted(op)
    over = leaves(op.over)
    if both is not None:
        values, weights = (e.of(x, op) for x in both)
        if (y := maps.weighted_sum(e, values, weights, over)) is not None:
            return y
        patches = _patch_sum(e, values, weights, over)
        if patches is not None:
            return patches
        product = _product(e, values, weights)
        return reduced(e, product, over, torch.sum, keepdim=keeps(e, op))
    first, second = (e.of(x, op) for x in op.inputs)
    return _matrix_product(e, op, first, second, over)


def _product(e: Emitter, values: Phys, weights: Phys) -> Phys:
    """Elementwise, the weights broadcast over the channels."""
    order = values.axes
    weights = e.w.reorder(weights, [a for a in order if a in weights.axes])
    groups, (values, weights) = common_groups(e, [values, weights], [], values, list(order))
    node = e.w.call(aten.mul.Tensor, shaped(e, values, groups), shaped(e, weights, groups))
    return Phys(node, order, tuple(size(leaves(g)) for g in groups), values.is_map)


def _patch_sum(e: Emitter, values: Phys, weights: Phys, over: Group) -> Phys | None:
    """A sum over some parts of a map, [B, C, H, W], that do not lie side by side, in channels-first."""
    if e.w.is_last or len(values.shape) != 4:
        return None
    batch, channels, *places = values.groups
    rest = leaves(flat(places))
    kept = tuple(a for a in rest if a not in over)
    if not kept or not set(over) <= set(rest) or set(weights.axes) != {*batch, *rest}:
        return None
    if rest[-len(over) :] == over:
        return None
    weights = e.w.reorder(weights, [*batch, *rest])
    cells = e.w.view(values, [batch, channels, rest])
    scores = e.w.view(weights, [batch, rest, ()])
    node = e.w.module(forms.PatchSum(one_hot(kept, rest)), cells.node, scores.node)
    return Phys(node, (*batch, *channels, *kept), (size(batch), size(channels), size(kept)))


def _matrix_product(e: Emitter, op: Contract, a: Phys, b: Phys, over: Group) -> Phys:
    shared = [x for x in a.axes if x in b.axes and x not in over]
    rows = [x for x in a.axes if x not in b.axes]
    columns = [x for x in b.axes if x not in a.axes]

    def form(x: Phys, own: list[Axis]) -> str:
        """Whether it lies as [batch, own, over], or as [batch, over, own]; "" if as neither."""
        for text, order in (("own", [*shared, *own, *over]), ("over", [*shared, *over, *own])):
            if list(x.axes) == order:
                return text
        return ""

    over = tuple(x for x in a.axes if x in over)
    if not form(a, rows):
        a = e.w.reorder(a, [*shared, *rows, *over])
    if not form(b, columns):
        b = e.w.reorder(b, [*shared, *over, *columns])
    straight = (form(a, rows) == "over") + (form(b, columns) == "own")
    crossed = (form(a, rows) == "own") + (form(b, columns) == "over")
    canonical = [x for x in op.axes if x in rows or x in columns] == [*rows, *columns]
    if crossed < straight or (crossed == straight and canonical == e.manner.crosses):
        a, b, rows, columns = b, a, columns, rows
    lead = tuple(shared)
    heads = [lead] if lead else []
    left, right = (e.w.view(x, [*heads, *_two(x, lead, own)]) for x, own in ((a, rows), (b, columns)))
    first = left.node if form(a, rows) == "own" or not rows else _turned(e, left)
    second = right.node if form(b, columns) == "over" or not columns else _turned(e, right)
    # Of matmul torch.export makes bmm, and expansions to the same shape, which ExecuTorch does not take.
    rank = len(heads) + 2
    product = aten.matmul if not e.w.keeps_maps else aten.bmm if rank == 3 else aten.mm
    node = e.w.call(product.default, first, second)
    shape = (*(size(g) for g in heads), size(rows), size(columns))
    return Phys(node, (*shared, *rows, *columns), shape)


def _turned(e: Emitter, x: Phys) -> fx.Node:
    rank = len(x.shape)
    return e.w.permute(x.node, [*range(rank - 2), rank - 1, rank - 2])


def _two(x: Phys, lead: Group, own: list[Axis]) -> list[Group]:
    """The two groups behind the batch, in the order in which they lie."""
    rest = x.axes[len(lead) :]
    other = tuple(a for a in rest if a not in own)
    mine = tuple(a for a in rest if a in own)
    return [mine, other] if not mine or rest[0] in mine else [other, mine]
