"""The order of channels in which a convolution reads them, and it or a matrix writes them: as they lie, and are wanted.

A shuffle of channels before or behind a convolution (nn.ChannelShuffle, or the part of nn.PixelShuffle that is one) is
then an order of the columns or the rows of its weight, and moves nothing.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from edgeattn.layout import Layout
from edgeattn.lowering.axes import Group, flat, leaves, sizes
from edgeattn.lowering.network import Network
from edgeattn.lowering.ops import Constant, Linear, Op, Opaque, Pointwise, View
from edgeattn.lowering.passes.products import conv_of, conv_op
from edgeattn.lowering.writing.physical import TO_LAST, Phys


def orders_of(network: Network, layout: Layout) -> dict[Op, Group]:
    """The output channels of matrices and convolutions in the order that all readers want, where it is another."""
    found: dict[Op, Group] = {}
    for op in network.ops:
        channels = _channels(op)
        if len(channels) < 2:
            continue
        orders = _wanted(network, op, channels, layout)
        if len(orders) == 1 and orders != {channels} and set(*orders) == set(channels):
            (found[op],) = orders
    return found


def arranged(op: Op, order: Group) -> Op:
    """The same operator, with the rows of its weight in another order."""
    channels = _channels(op)

    def rows(value: Tensor) -> Tensor:
        cut = value.reshape(*sizes(channels), -1)
        return cut.permute(*(channels.index(a) for a in order), -1).reshape(value.shape)

    if isinstance(op, Linear):
        return replace(op, outside=order, weight=rows(op.weight), bias=None if op.bias is None else rows(op.bias))
    conv = conv_of(op)
    assert conv is not None
    assert isinstance(op, Opaque)
    bias = None if conv.bias is None else rows(conv.bias)
    dims = (op.dims[0], order, *op.dims[2:])
    return conv_op(replace(conv, weight=rows(conv.weight), bias=bias), dims, op.shape, op)


def reading(op: Opaque, x: Phys) -> Opaque:
    """The same operator, with the columns of its kernel in the order in which the channels of its input ``x`` lie."""
    conv = conv_of(op)
    if conv is None or conv.groups != 1:
        return op
    channels = leaves(conv.x.dims[1])
    now = tuple(a for a in x.axes if a in channels)
    if now == channels:
        return op
    out, _, *kernel = conv.weight.shape
    order = (0, *(1 + channels.index(a) for a in now), -2, -1)
    weight = conv.weight.reshape(out, *sizes(channels), *kernel).permute(*order).reshape(conv.weight.shape)
    view = replace(conv.x, dims=(conv.x.dims[0], now, *conv.x.dims[2:]))
    return conv_op(replace(conv, x=view, weight=weight), op.dims, op.shape, op)


def _channels(op: Op) -> Group:
    """The output channels of a matrix or a convolution; none where their order is bound to that of the input."""
    if isinstance(op, Linear):
        return leaves(op.outside)
    if isinstance(op, Opaque) and op.is_map and len(leaves(op.dims[1])) > 1:
        conv = conv_of(op)
        return leaves(op.dims[1]) if conv is not None and conv.groups == 1 else ()
    return ()


def _wanted(network: Network, op: Op, channels: Group, layout: Layout) -> set[Group]:
    """The orders in which the channels of a value are read, through functions of each element."""
    found = {_of(channels, _lying(view, layout)) for view in network.outputs if view.op is op}
    for user in network.users(op):
        if isinstance(user, Pointwise):
            others = [x for x in user.inputs if x is not op and not isinstance(x, Constant)]
            if any(set(channels) & set(x.axes) for x in others):
                found.add(channels)  # they lie as they do
            else:
                found |= _wanted(network, user, channels, layout)
        elif isinstance(user, Opaque):
            found |= {_of(channels, _lying(view, layout)) for view in user.views if view.op is op}
        elif isinstance(user, Linear) and layout == "channels_last":
            inside = leaves(user.inside)
            found.add(tuple(sorted(channels, key=lambda axis: axis in inside)))
    return found


def _of(channels: Group, axes: Group) -> Group:
    return tuple(axis for axis in axes if axis in channels)


def _lying(view: View, layout: Layout) -> Group:
    is_last = layout == "channels_last" and len(view.shape) == 4
    return flat([view.dims[i] for i in TO_LAST] if is_last else view.dims)
