"""What is written out is read as what it computes: a softmax, and a sum of products."""

from __future__ import annotations

import torch

from edgeattn.lowering.axes import leaves
from edgeattn.lowering.network import Network, wherever
from edgeattn.lowering.ops import Constant, Contract, Op, Pointwise, Reduce, Softmax


def one_spelling(network: Network) -> bool:
    """Rewrite exp(s) / sum(exp(s)) as a softmax, and the sum of a product of two values as a contraction."""
    return wherever(network, Pointwise, _softmax) | wherever(network, Reduce, _contraction)


def kind(op: Op) -> str:
    """The name of an elementwise function; empty for other operators."""
    return str(getattr(op.target, "__name__", "")).split(".")[0] if isinstance(op, Pointwise) else ""


def _softmax(network: Network, op: Pointwise) -> bool:
    if kind(op) == "exp":
        return _of_logarithm(network, op)
    if kind(op) != "div" or len(op.inputs) != 2:
        return False
    powers, total = op.inputs
    if kind(powers) != "exp" or not isinstance(total, Reduce) or total.target is not torch.sum:
        return False
    if total.inputs[0] is not powers:
        return False
    scores = powers.inputs[0]
    # A softmax does not change when something that is constant along it is taken off.
    if kind(scores) == "sub" and len(scores.inputs) == 2:
        high = scores.inputs[1]
        if not set(leaves(total.over)) & set(high.axes):
            scores = scores.inputs[0]
    new = Softmax(inputs=[scores], over=total.over, target=torch.softmax, dims=op.dims, node=op.node)
    if set(scores.axes) != set(op.axes):
        return False
    return network.swap(op, new, "softmax that was written out")


def _of_logarithm(network: Network, op: Pointwise) -> bool:
    """exp(log_softmax(s)), and exp(s - logsumexp(s))."""
    (source,) = op.inputs
    if isinstance(source, Softmax) and source.target is torch.log_softmax:
        scores, over = source.inputs[0], source.over
    elif kind(source) == "sub" and len(source.inputs) == 2:
        scores, total = source.inputs
        if not isinstance(total, Reduce) or total.target is not torch.logsumexp or total.inputs[0] is not scores:
            return False
        over = total.over
    else:
        return False
    new = Softmax(inputs=[scores], over=over, target=torch.softmax, dims=op.dims, node=op.node)
    return set(scores.axes) == set(op.axes) and network.swap(op, new, "softmax that was written out")


def _contraction(network: Network, op: Reduce) -> bool:
    (product,) = op.inputs
    if op.target is not torch.sum or kind(product) != "mul" or len(product.inputs) != 2:
        return False
    if network.only_user(product) is not op or any(isinstance(x, Constant) for x in product.inputs):
        return False
    first, second = product.inputs
    over = set(leaves(op.over))
    if network.type_of(first) != network.type_of(second):  # a mask of bools or integers
        return False
    if first is second or not over <= set(first.axes) & set(second.axes):
        return False
    new = Contract(inputs=[first, second], over=op.over, keepdim=op.keepdim, dims=op.dims, node=op.node)
    return network.swap(op, new)
