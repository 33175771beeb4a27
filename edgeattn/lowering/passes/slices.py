"""Slices of what was joined: a column of ones beside the values, whose product is a sum, needs no joining.

Linear attention computes its numerator and its denominator in one product so: [v, 1] summed with k, times q, then cut
(EfficientViT, arXiv 2205.14756, section 3.1). ``(A [B, C])[:, part of B] = A B``; ``A 1`` is a sum.
"""

from __future__ import annotations

import torch

from edgeattn.lowering.axes import Axis, leaves, pairs, size
from edgeattn.lowering.network import Network, each
from edgeattn.lowering.ops import Concat, Constant, Contract, Op, Reduce, Rename, Slice


def cut_before(network: Network) -> bool:
    """Products that are only read in slices, each of one part of what was joined, as a product of each part."""
    done = False
    for product in each(network, Contract):
        slices = network.users(product)
        if network.is_output(product) or not slices:
            continue
        new = [_cut(product, s) if isinstance(s, Slice) else None for s in slices]
        if all(op is not None for op in new):
            for part, op in zip(slices, new, strict=True):
                done |= op is not None and network.swap(part, op)
    return done


def _cut(op: Op, part: Slice) -> Op | None:
    """The slice ``part`` of a value, without a slice; None if it is not one of the parts of a concatenation."""
    inside = set(leaves(part.inside))
    if isinstance(op, Concat):
        return _part_of(op, part)
    if not isinstance(op, Contract):
        return None
    having = [x for x in op.inputs if inside <= set(x.axes)]
    others = [x for x in op.inputs if not inside & set(x.axes)]
    if len(having) != 1 or len(others) != 1:
        return None
    (value,), (other,) = having, others
    new = _cut(value, part)
    if new is None:
        return None
    dims = tuple(part.cut(group) for group in op.dims)
    keepdim = op.keepdim or not leaves(part.outside)  # what was cut to one is still a dimension
    if isinstance(new, Constant):
        if new.axes or float(new.value) != 1.0 or not set(leaves(op.over)) <= set(other.axes):
            return None
        return Reduce(inputs=[other], target=torch.sum, over=op.over, keepdim=keepdim, dims=dims, node=op.node)
    inputs = [new if x is value else x for x in op.inputs]
    return Contract(inputs=inputs, over=op.over, keepdim=keepdim, dims=dims, node=op.node)


def _part_of(op: Concat, part: Slice) -> Op | None:
    if leaves(op.outside) != leaves(part.inside) or part.step != 1:
        return None
    start = 0
    for value, group in zip(op.inputs, op.inside, strict=True):
        number = size(leaves(group))
        if (start, number) == (part.start, size(leaves(part.outside))):
            if isinstance(value, Constant):
                return value
            both = pairs(leaves(group), leaves(part.outside))
            return None if both is None else _renamed(value, both)
        start += number
    return None


def _renamed(value: Op, both: list[tuple[Axis, Axis]]) -> Op:
    if not both:
        return value
    new = Rename(inputs=[value], pairs=tuple(both), node=value.node)
    new.dims = tuple(new.renamed(group) for group in value.dims)
    return new
