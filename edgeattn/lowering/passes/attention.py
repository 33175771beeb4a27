"""Separable attention (arXiv 2206.02680, section 3.2) by its mathematics: two identities, neither an approximation.

* *Key folding.* The key weights do not depend on n and the scores sum to 1 over n, so
  ``sum_n a_n (Wk x_n + bk) = Wk (sum_n a_n x_n) + bk``: the key runs on one column instead of N.
* *No query bias.* A softmax does not change when a constant is added to all its inputs.
"""

from __future__ import annotations

import torch

from edgeattn.lowering.axes import Axis, Group, leaves, size, sizes, without
from edgeattn.lowering.network import Network, each
from edgeattn.lowering.ops import Contract, Expand, Linear, Op, Pointwise, Reduce, Rename, Slice, Slot, Softmax
from edgeattn.lowering.passes.spelling import kind
from edgeattn.lowering.proof import equal

_MOST_SLICES = 4
KEY_FOLDED = "key folded onto the context vector: it runs on one column instead of N"


def weighted(op: Contract) -> tuple[Op, Op] | None:
    """(values, weights) of a weighted sum: the weights have no axes but those of the sum and of the batch."""
    for values, weights in (op.inputs, op.inputs[::-1]):
        if set(weights.axes) <= set(values.axes):
            return values, weights
    return None


def is_separable(network: Network, op: Softmax) -> bool:
    """Whether a softmax gives the weights of a weighted sum."""
    return any(
        isinstance(user, Contract) and (both := weighted(user)) is not None and both[1] is op
        for user in network.users(op)
    )


def separate_projections(network: Network) -> bool:
    """A linear map that is only read in a few slices, as one linear map for each slice: nothing is copied then."""
    done = False
    for source in each(network, Linear):
        slices = network.users(source)
        if network.is_output(source) or not 0 < len(slices) <= _MOST_SLICES:
            continue
        new = [_rows(source, s) for s in slices]
        if all(linear is not None for linear in new):
            for part, linear in zip(slices, new, strict=True):
                done |= linear is not None and network.swap(part, linear)
    return done


def _rows(source: Linear, part: Op) -> Linear | None:
    """The linear map of one slice of the outputs of another."""
    outside = leaves(source.outside)
    if not isinstance(part, Slice) or set(leaves(part.inside)) - set(outside):
        return None
    index = torch.arange(size(outside)).reshape(sizes(outside))
    cut = leaves(part.inside)
    rest: Group = tuple(axis for axis in outside if axis not in cut)
    index = index.permute([outside.index(axis) for axis in (*rest, *cut)]).reshape(*sizes(rest), -1)
    number = size(leaves(part.outside))
    index = index[..., part.start : part.start + (number - 1) * part.step + 1 : part.step].reshape(-1)
    bias = None if source.bias is None else source.bias[index]
    return Linear(
        inputs=source.inputs, inside=source.inside, outside=(*rest, *leaves(part.outside)),
        weight=source.weight[index], bias=bias, dims=part.dims, node=part.node and source.node,
    )  # fmt: skip


def no_query_bias(network: Network) -> bool:
    """Drop the bias of a linear map that only a softmax over other axes reads."""
    done = False
    op: Softmax
    for op in each(network, Softmax):
        (source,) = op.inputs
        if not isinstance(source, Linear) or source.bias is None or network.only_user(source) is not op:
            continue
        if op.target is not torch.softmax or set(leaves(op.over)) & set(leaves(source.outside)):
            continue
        plain = Linear(
            inputs=source.inputs, inside=source.inside, outside=source.outside, weight=source.weight,
            dims=source.dims, node=source.node,
        )  # fmt: skip
        new = Softmax(inputs=[plain], over=op.over, target=op.target, dims=op.dims, node=op.node)
        done |= network.swap(op, new)
    return done


def fold_keys(network: Network) -> bool:
    """Take a linear map out of a weighted sum, to behind it."""
    done = False
    op: Contract
    for op in each(network, Contract):
        both = weighted(op)
        if both is None:
            continue
        key, weights = both
        if not isinstance(key, Linear):
            continue
        over = leaves(op.over)
        outside, inside = leaves(key.outside), leaves(key.inside)
        x = key.inputs[0]
        if {*over, *weights.axes} & {*outside, *inside} or set(over) - set(x.axes) or size(over) == 1:
            continue
        if network.only_user(key) is not op:
            continue
        if key.bias is not None and not _sums_to_one(network, weights, over):
            continue
        kept = without(x.dims, over)
        mean = Contract(inputs=[x, weights], over=op.over, keepdim=op.keepdim, dims=kept, node=op.node)
        new = Linear(
            inputs=[mean], inside=key.inside, outside=key.outside, weight=key.weight, bias=key.bias, dims=op.dims,
            node=key.node,
        )  # fmt: skip
        done |= network.swap(op, new, KEY_FOLDED, path_of=op)
    return done


def _sums_to_one(network: Network, weights: Op, over: Group) -> bool:
    """By what computes them, not only on the examples: a mask of ones may have zeros at another time."""
    if not _is_distribution(weights, frozenset(over)):
        return False
    kept = tuple((a,) for a in weights.axes if a not in over)
    total = Reduce(inputs=[weights], target=torch.sum, over=over, keepdim=False, dims=kept)
    values = network.values.compute(total)
    network.values.forget(total)
    return all(equal(torch.ones_like(value), value) for value in values)


def _is_distribution(op: Op, over: frozenset[Axis]) -> bool:
    """Whether it is a softmax over these axes, or divided by its own sum; cut, repeated or renamed along others."""
    if isinstance(op, Softmax):
        return op.target is torch.softmax and set(leaves(op.over)) == over
    if isinstance(op, Rename):
        return _is_distribution(op.inputs[0], frozenset(a for a in op.inputs[0].axes if op.renamed((a,))[0] in over))
    if isinstance(op, Slice):
        return not over & {*leaves(op.inside), *leaves(op.outside)} and _is_distribution(op.inputs[0], over)
    if isinstance(op, Expand):
        return over <= set(op.inputs[0].axes) and _is_distribution(op.inputs[0], over)
    if isinstance(op, Pointwise) and kind(op) == "div" and len(op.inputs) == 2 and not op.kwargs:
        part, total = op.inputs
        is_sum = isinstance(total, Reduce) and total.target is torch.sum and total.inputs[0] is part
        return is_sum and set(leaves(total.over)) == over and op.args == (Slot(0), Slot(1))  # type: ignore[attr-defined]
    return False
