"""Writing on whole maps, [B, C, H, W], where any other shape of a map would have to be moved.

Each function returns None for what it cannot write so; the rule goes on as for channels-first.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgeattn.lowering import forms
from edgeattn.lowering.axes import Axis, Group, leaves, size
from edgeattn.lowering.map_forms import (
    Cells,
    MapLargest,
    MapMean,
    MapSoftmax,
    MapSum,
    MapTile,
    MapWeightedSum,
    NormaliseMap,
)
from edgeattn.lowering.ops import Norm
from edgeattn.lowering.projections import conv
from edgeattn.lowering.writing.emitter import Emitter
from edgeattn.lowering.writing.physical import Phys

aten = torch.ops.aten


def is_map(e: Emitter, x: Phys) -> bool:
    """Whether a value is written as a whole map."""
    return e.w.keeps_maps and len(x.shape) == 4


def reduced(e: Emitter, x: Phys, over: Group, target: Any) -> Phys | None:
    """A sum, mean, norm or largest value over places, or a sum or mean over channels, with its dimensions kept."""
    if target is forms.euclidean and is_map(e, x):
        squares = Phys(e.w.call(aten.mul.Tensor, x.node, x.node), x.order, x.shape, x.is_map)
        total = reduced(e, squares, over, torch.sum)
        return None if total is None else replace(total, node=e.w.call(aten.sqrt.default, total.node))
    module: torch.nn.Module
    if is_map(e, x) and over == x.groups[1] and target in (torch.sum, torch.mean):
        count = 1.0 if target is torch.sum else 1 / size(over)
        module = conv(torch.full((1, size(over)), count, dtype=torch.float64), None)
        kept = tuple(a for a in x.axes if a not in over)
        return Phys(e.w.module(module, x.node), kept, (x.shape[0], 1, *x.shape[2:]), x.is_map)
    if (cells := _cells(e, x, over)) is None:
        return None
    if target is torch.amax:
        module = MapLargest(cells)
    elif cells.is_interleaved or target not in (torch.sum, torch.mean):
        return None
    else:
        module = MapMean(cells) if target is torch.mean else MapSum(cells, x.shape[1])
    return _kept(x, over, cells, e.w.module(module, x.node))


def softmax(e: Emitter, x: Phys, over: Group) -> Phys | None:
    """A softmax over places of a map with one channel."""
    cells = _cells(e, x, over)
    if cells is None or x.shape[1] != 1:
        return None
    return Phys(e.w.module(MapSoftmax(cells), x.node), x.order, x.shape, x.is_map)


def weighted_sum(e: Emitter, values: Phys, weights: Phys, over: Group) -> Phys | None:
    """A sum over places of a map times one with one channel."""
    cells = _cells(e, values, over)
    if cells is None or not is_map(e, weights) or weights.shape != (values.shape[0], 1, *values.shape[2:]):
        return None
    places = [g for k, g in enumerate(values.groups) if k != 1]
    if [g for k, g in enumerate(weights.groups) if k != 1] != places:
        return None
    return _kept(values, over, cells, e.w.module(MapWeightedSum(cells), values.node, weights.node))


def tiled(e: Emitter, part: Phys, lead: Phys) -> Phys | None:
    """A value for each offset in a patch, at every pixel of the map ``lead``."""
    places = leaves(a for g in lead.groups[2:] for a in g)
    over = tuple(a for a in places if a not in part.axes)
    cells = _cells(e, lead, over)
    if cells is None or not is_map(e, part) or part.shape != (*lead.shape[:2], *cells.kept):
        return None
    return Phys(e.w.module(MapTile(cells), part.node), lead.order, lead.shape, lead.is_map)


def norm(e: Emitter, op: Norm, x: Phys) -> Phys | None:
    """A norm over channels, or groups of them, and over all places or none."""
    over = leaves(op.over)
    if not is_map(e, x):
        return None
    batch, channels, *places = x.groups
    here = {a for g in places for a in g}
    if set(over) & set(batch) or set(over) & here not in (set(), here):
        return None
    average = _average(channels, over)
    module = NormaliseMap(op.epsilon, average, places=bool(here and here <= set(over)) or x.shape[2:] == (1, 1))
    return Phys(e.w.module(module, x.node), x.order, x.shape, x.is_map)


def _average(channels: Group, over: Collection[Axis]) -> Tensor:
    """[1, C], or [C, C] where only some axes of the channels are averaged over."""
    count = size(channels)
    gone = [a in over for a in channels]
    if all(gone):
        return torch.full((1, count), 1 / count, dtype=torch.float64)
    number = torch.arange(count).reshape([a.size for a in channels])
    for dim, is_gone in enumerate(gone):
        if is_gone:
            number = number.narrow(dim, 0, 1).expand_as(number)
    group = number.reshape(-1)
    same = (group[:, None] == group[None]).double()
    return same / same.sum(dim=1, keepdim=True)


def _cells(e: Emitter, x: Phys, over: Group) -> Cells | None:
    """How a reduction over ``over`` runs on a map; None if it is no map, or they do not lie as :class:`Cells` says."""
    if not is_map(e, x):
        return None
    sides = x.groups[2:]
    if not over or set(over) - {a for side in sides for a in side}:
        return None
    numbers, kept = [], []
    for side in sides:
        summed = [a in over for a in side]
        if summed != sorted(summed, reverse=True):  # what is kept varies fastest
            return None
        numbers.append(size(a for a in side if a in over))
        kept.append(size(a for a in side if a not in over))
    return Cells((numbers[0], numbers[1]), (kept[0], kept[1]))


def _kept(x: Phys, over: Group, cells: Cells, node: Any) -> Phys:
    return Phys(node, tuple(a for a in x.axes if a not in over), (*x.shape[:2], *cells.kept), x.is_map)
