"""A value that is repeated and joined to others for a matrix over what was joined: ``W [x, r] = W_x x + W_r r``.

The part of what is repeated runs once and is added by broadcasting: nothing is written out. (The pooled branch of
DeepLabv3, arXiv 1706.05587, section 3.3: one pixel in the place of a map.)
"""

from __future__ import annotations

import torch

from edgeattn.lowering.axes import Axis, Group, leaves, size, without
from edgeattn.lowering.network import Network, each
from edgeattn.lowering.ops import Concat, Expand, Linear, Op, Pointwise, Slot

REPEATED = "the part of its input that is repeated runs once, and is added"


def apart(network: Network) -> bool:
    """Take what is repeated out of a concatenation that a matrix alone reads."""
    done = False
    op: Linear
    for op in each(network, Linear):
        (joined,) = op.inputs
        if not isinstance(joined, Concat) or leaves(op.inside) != leaves(joined.outside):
            continue
        if [*network.users(joined)] != [op] or network.is_output(joined):
            continue
        if (new := _split(op, joined)) is not None:
            done |= network.swap(op, new, REPEATED)
    return done


def _split(op: Linear, joined: Concat) -> Op | None:
    """The sum of the matrices; None if nothing of what is joined is repeated, or all of it."""
    columns = torch.split(op.weight, [size(leaves(group)) for group in joined.inside], dim=1)
    parts = list(zip(joined.inputs, joined.inside, columns, strict=True))
    repeated = [part for part in parts if isinstance(part[0], Expand)]
    others = [part for part in parts if not isinstance(part[0], Expand)]
    if not repeated or not others:
        return None
    new: Op = _others(op, joined, others)
    for source, group, weight in repeated:
        once = source.inputs[0]
        if not set(leaves(group)) <= set(once.axes):
            return None
        added = Linear(
            inputs=[once], inside=group, outside=op.outside, weight=weight,
            dims=without(op.dims, {*source.axes} - {*once.axes}), node=op.node,
        )  # fmt: skip
        new = Pointwise(
            inputs=[new, added], target=torch.add, args=(Slot(0), Slot(1)), kwargs={}, dims=op.dims, node=op.node
        )
    return new


def _others(op: Linear, joined: Concat, parts: list[tuple[Op, Group, torch.Tensor]]) -> Linear:
    weight = torch.cat([weight for *_, weight in parts], dim=1)
    value, inside = parts[0][0], parts[0][1]
    if len(parts) > 1:
        inside = (Axis(weight.shape[1]),)
        own = set(leaves(joined.outside))
        dims = tuple(inside if own & set(leaves(group)) else group for group in joined.dims)
        groups = tuple(group for _, group, _ in parts)
        inputs = [source for source, *_ in parts]
        value = Concat(inputs=inputs, inside=groups, outside=inside, dims=dims, node=joined.node)
    return Linear(
        inputs=[value], inside=inside, outside=op.outside, weight=weight, bias=op.bias, dims=op.dims, node=op.node
    )
