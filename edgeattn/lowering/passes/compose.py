"""Two linear maps with nothing between them are one: the product of their matrices.

MobileViTv2 is full of such pairs: a block ends in a 1x1 convolution without activation (its projection, or the
reduction of an inverted residual), and the next one begins with a 1x1 convolution. The mean over the map commutes
with a 1x1 convolution too, so that the last one goes into the classifier.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from edgeattn.lowering.axes import Group, leaves, size, sizes
from edgeattn.lowering.network import Network, wherever
from edgeattn.lowering.ops import Linear, Op, Opaque, Reduce, View
from edgeattn.lowering.passes.products import conv_of, conv_op

_DIRECT = "linear map composed with the one that alone reads it: one product, fewer multiply-adds"
_KERNEL = "1x1 convolution composed with the kernel that alone reads it: one convolution, fewer multiply-adds"
_POOLED = "linear map composed, through the mean over the map, with the one that alone reads it"


def compose(network: Network) -> bool:
    """Replace every pair by its product where that is cheaper."""
    return wherever(network, Linear, _composed)


def into_kernels(network: Network) -> bool:
    """Replace every matrix over the channels and the kernel that alone reads it by one kernel.

    Before a term in front of the matrix goes into its bias (:func:`edgeattn.lowering.passes.affine.into_readers`): with
    one it could not go into the kernel of a padded convolution.
    """
    return wherever(network, Opaque, _into_kernel)


def _into_kernel(network: Network, op: Opaque) -> bool:
    """A matrix over the channels goes into the kernel of the convolution that alone reads it, unless it has a bias and
    the convolution is padded: the zeros of its border have none."""
    conv = conv_of(op)
    inner = None if conv is None else conv.x.op
    if conv is None or not isinstance(inner, Linear) or conv.groups != 1 or network.only_user(inner) is not op:
        return False
    rows, columns = inner.weight.shape
    if leaves(conv.x.dims[1]) != leaves(inner.outside) or columns > rows or (inner.bias is not None and conv.is_padded):
        return False
    bias = conv.bias
    if inner.bias is not None:
        more = conv.weight.sum((2, 3)) @ inner.bias
        bias = more if bias is None else bias + more
    kernel = torch.einsum("oihw,ij->ojhw", conv.weight, inner.weight)
    shape = (conv.x.shape[0], columns, *conv.x.shape[2:])
    x = View(inner.inputs[0], (conv.x.dims[0], inner.inside, *conv.x.dims[2:]), shape)
    new = conv_op(replace(conv, x=x, weight=kernel, bias=bias), op.dims, op.shape, op)
    return network.swap(op, new, _KERNEL, path_of=op)


def _composed(network: Network, outer: Linear) -> bool:
    source = outer.inputs[0]
    mean = None
    if isinstance(source, Reduce) and source.target is torch.mean and network.only_user(source) is outer:
        mean, source = source, source.inputs[0]
    if network.only_user(source) is not (mean or outer):
        return False
    conv = conv_of(source)
    if isinstance(source, Linear):
        outside = leaves(source.outside)
    elif conv is not None and conv.groups == 1 and mean is None:
        outside = leaves(source.dims[1])
    else:
        return False
    inside = leaves(outer.inside)
    if set(inside) != set(outside) or (mean and set(leaves(mean.over)) & set(outside)):
        return False
    # The columns of the outer matrix in the order of the rows of the inner one.
    columns = outer.weight.reshape(-1, *sizes(inside))
    columns = columns.permute(0, *(1 + inside.index(axis) for axis in outside)).reshape(len(outer.weight), -1)
    inner = source.weight if isinstance(source, Linear) else conv.weight.flatten(1)  # type: ignore[union-attr]
    bias = source.bias if isinstance(source, Linear) else conv.bias  # type: ignore[union-attr]
    if _cost(outer, columns) + _cost(source, inner) <= _cost(outer, columns, inner.shape[1]):
        return False
    weight = columns @ inner
    term = outer.bias
    if bias is not None:
        term = columns @ bias if term is None else term + columns @ bias
    x: Op
    new: Op
    if isinstance(source, Linear):
        x = source.inputs[0]
        if mean is not None:
            x = Reduce(
                inputs=[x], target=mean.target, over=mean.over, keepdim=mean.keepdim,
                dims=_without(source.inputs[0], mean), node=mean.node,
            )  # fmt: skip
        new = Linear(
            inputs=[x], inside=source.inside, outside=outer.outside, weight=weight, bias=term, dims=outer.dims,
            node=outer.node,
        )  # fmt: skip
    else:
        assert conv is not None
        assert isinstance(source, Opaque)
        kernel = weight.reshape(-1, *conv.weight.shape[1:])
        dims = (source.dims[0], outer.outside, *source.dims[2:])
        shape = (source.shape[0], len(kernel), *source.shape[2:])
        new = conv_op(replace(conv, weight=kernel, bias=term), dims, shape, source)
        if set(leaves(a for g in dims for a in g)) != set(outer.axes):
            return False
        new.node = outer.node
    return network.swap(outer, new, _POOLED if mean else _DIRECT, path_of=source)


def _without(x: Op, mean: Reduce) -> tuple[Group, ...]:
    over = leaves(mean.over)
    dims = []
    for group in x.dims:
        rest = tuple(axis for axis in leaves(group) if axis not in over)
        if rest or mean.keepdim:
            dims.append(rest)
    return tuple(dims)


def _cost(op: Op, matrix: Tensor, inside: int | None = None) -> int:
    """Multiply-adds of a matrix at every place of the operator's result, if it had ``inside`` columns."""
    channels = len(matrix)
    places = prod(sizes(op.axes)) // max(1, size(leaves(op.outside)) if isinstance(op, Linear) else channels)
    return places * channels * (inside or matrix.shape[1])
