"""Dimensions of tensors: cut and joined as an operator wants them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from edgeattn.lowering.axes import Axis, Group, flat, size, sizes
from edgeattn.lowering.ops import aligned
from edgeattn.lowering.writing.physical import Phys

# A phone's GPU and Neural Engine take four axes at most; Core ML has five.
MOST_AXES = 4


def short(groups: list[Group], *apart: Collection[Axis]) -> list[Group]:
    """As far as there are more dimensions than a phone's GPU takes: without those of length 1, and then with
    neighbours as one that all of ``apart`` have, or have not."""
    for group in list(groups):
        if len(groups) > MOST_AXES and not group:
            groups.remove(group)
    for k in range(len(groups) - 1, 0, -1):
        if len(groups) > MOST_AXES and all((groups[k][0] in a) == (groups[k - 1][0] in a) for a in apart):
            groups[k - 1 : k + 1] = [(*groups[k - 1], *groups[k])]
    return groups


def separated(x: Phys, over: set[Axis], *, whole: bool = False) -> list[Group]:
    """The dimensions of a tensor, cut where one has axes of ``over`` and others. ``whole``: these are one dimension."""
    groups: list[Group] = []
    for group in x.groups:
        start = len(groups)
        if not group:
            groups.append(group)
        for axis in group:
            if len(groups) > start and (axis in over) == (groups[-1][-1] in over):
                groups[-1] = (*groups[-1], axis)
            else:
                groups.append((axis,))
    if whole:
        joined: list[Group] = []
        for group in groups:
            if joined and group and joined[-1] and set(group) <= over and set(joined[-1]) <= over:
                joined[-1] = (*joined[-1], *group)
            else:
                joined.append(group)
        groups = joined
    return short(groups, over)


def runs(groups: Sequence[Group], axes: Sequence[Axis]) -> list[Group]:
    """``axes``, in the dimensions that they have in ``groups``; those of length 1 stay, at the front or between."""
    wanted, result = set(axes), []
    for group in groups:
        cut = tuple(a for a in group if a in wanted)
        if cut:
            result.append(cut)
        elif not group and len(result) < len(axes):
            result.append(())
    # An order that differs from the groups' own falls back to single axes.
    return result if list(flat(result)) == list(axes) else [(a,) for a in axes]


def around(groups: Sequence[Group], front: Sequence[Axis], back: Sequence[Axis]) -> tuple[list[Group], list[Group]]:
    """The dimensions that ``front`` and ``back`` have in ``groups``, where one more lies between; of a map [1, C, H, W]
    the first stays."""
    before, after = runs(groups, front), runs(groups, back)
    if len(groups) == 4 and not front and not groups[0]:
        before = [()]
    if after and not after[0] and len(before) + 1 + len(after) > len(groups):
        after = after[1:]
    return before, after


def ending(x: Phys, axes: Group) -> list[Group]:
    """The dimensions of a tensor, with ``axes``, the last ones, as the last dimension."""
    if not axes:
        return x.groups
    front = x.axes[: len(x.axes) - len(axes)]
    if not front:
        return [*[()] * (len(x.shape) > 1), tuple(axes)]
    return [*runs(x.groups, front), tuple(axes)]


def is_run(axes: Sequence[Axis], order: Sequence[Axis]) -> bool:
    """Whether ``axes`` lie side by side in ``order``, as they stand."""
    at = [order.index(axis) for axis in axes]
    return at == list(range(at[0], at[0] + len(at)))


def put_in(order: Sequence[Axis], axes: Sequence[Axis]) -> list[Axis]:
    """``order`` with what it lacks of ``axes``, each behind what it follows there."""
    result = list(order)
    for k, axis in enumerate(axes):
        if axis not in result:
            before = axes[k - 1] if k else None
            result.insert(result.index(before) + 1 if before in result else 0, axis)
    return result


def one_hot(kept: Sequence[Axis], rest: Sequence[Axis]) -> Tensor:
    """[L, P]: which place on the axes ``kept`` each place on the axes ``rest`` has."""
    number = torch.arange(size(kept)).reshape(sizes(kept))
    places = aligned(number, kept, rest).expand(sizes(rest)).reshape(-1)
    return torch.nn.functional.one_hot(places, size(kept)).double()
