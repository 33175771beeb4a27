"""From operators on named axes to a graph in one layout, without moving what need not be moved.

Every value keeps the order in which it was made, as long as what reads it does not care: elementwise functions,
reductions, norms, 1x1 convolutions at any number of places. Where an operator asks for another order, a permutation
is written, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import fx

from edgeattn.layout import Layout
from edgeattn.lowering.axes import Axis, Group, flat, leaves, size, sizes
from edgeattn.lowering.network import Network
from edgeattn.lowering.ops import (
    Constant,
    Contract,
    Linear,
    Norm,
    Op,
    Softmax,
    View,
    aligned,
    viewed,
)
from edgeattn.lowering.passes.attention import is_separable
from edgeattn.lowering.writing.heads import Cut, heads_of
from edgeattn.lowering.writing.orders import arranged, orders_of
from edgeattn.lowering.writing.physical import TO_FIRST, TO_LAST, Phys, Writer

aten = torch.ops.aten


class CannotWriteError(Exception):
    """An operator cannot be written in this layout; ``node`` is what it comes from."""

    def __init__(self, node: fx.Node | None, why: str) -> None:
        super().__init__(why)
        self.node, self.why = node, why


Rule = Callable[["Emitter", Any], Any]


@dataclass(frozen=True)
class Manner:
    """Where a network can be written in two ways, the one that is taken.

    ``crosses``: a matrix product whose two orders cost the same is written in the other one. ``settles``: a map whose
    parts lie apart is put into the user's own order, once, where tokens are first made of it. ``by_head``: the
    weights of a projection are cut by head, [heads, C, d], so that its result is not moved.
    """

    crosses: bool = False
    settles: bool = False
    by_head: bool = False


@dataclass(frozen=True)
class Known:
    """What is found in a network once, for all manners of writing it in one layout: see the functions."""

    is_separable: bool
    heads: Mapping[Op, Group]
    cuts: Mapping[Op, Cut]
    orders: Mapping[Op, Group]

    @classmethod
    def of(cls, network: Network, layout: Layout) -> Self:
        """Look through ``network``."""
        separable = any(isinstance(op, Softmax) and is_separable(network, op) for op in network.ops)
        return cls(separable, *heads_of(network), orders_of(network, layout))


class Emitter:
    """Writes the operators of one network, in order; ``values`` are what is written so far."""

    def __init__(
        self,
        network: Network,
        layout: Layout,
        rules: Mapping[type[Any], Rule],
        batch: Axis | None,
        manner: Manner,
        known: Known,
        lacks: frozenset[str] = frozenset(),
    ) -> None:
        self.manner, self.lacks = manner, lacks
        self.w = Writer(layout, batch)
        self.rules = rules
        self.network = network
        self.values: dict[Op, Any] = {}
        # The norms of such networks are over whole maps: PyTorch's own is one op less exact (forms.NormaliseFirst).
        self.is_separable = known.is_separable
        self.heads, self.cuts = known.heads if manner.by_head else {}, known.cuts
        self.orders = {op: order for op, order in known.orders.items() if op not in self.heads}

    def write(self, op: Op) -> None:
        """Write one operator."""
        self.w.op = op
        what = arranged(op, self.orders[op]) if op in self.orders else op
        self.values[op] = self.rules[type(op)](self, what)

    def cannot(self, why: str) -> CannotWriteError:
        """The error for what is being written."""
        return CannotWriteError(None if self.w.op is None else self.w.op.node, why)

    def of(self, op: Op, reader: Op | None = None) -> Phys:
        """A value, as ``reader`` gets it."""
        x: Phys = self.values[op]
        if self.manner.settles and isinstance(reader, Norm | Linear) and not isinstance(op, Contract):
            x = self.values[op] = self._settled(x, reader)
        return x

    def _settled(self, x: Phys, reader: Norm | Linear) -> Phys:
        """The value in the order in which the user's code has it, but for its channels: these lie as the layout has."""
        channels = leaves(reader.over if isinstance(reader, Norm) else reader.inside)
        dims = reader.dims if isinstance(reader, Norm) else reader.inputs[0].dims
        first, *rest = [tuple(a for a in leaves(g) if a not in channels) for g in dims] or [()]
        order = flat([first, *rest, channels] if self.w.is_last else [first, channels, *rest])
        return self.w.reorder(x, order) if set(order) == set(x.axes) else x

    # Constants are put into any order and shape where they are read.

    def constant(self, op: Constant, groups: Sequence[Group]) -> fx.Node:
        """A constant as a tensor with such dimensions, of length 1 where it has no axis."""
        axes = op.axes
        has = [g if set(leaves(g)) & set(axes) else () for g in groups]
        if set(axes) - set(flat(has)):
            raise self.cannot("a constant along other axes")

        def make() -> fx.Node:
            value = aligned(op.evaluate(), axes, flat(has)).expand(sizes(flat(has)))
            dims = [size(leaves(g)) for g in has]
            # On a whole map it is one, too: it lies channels-last with it.
            while dims and dims[0] == 1 and not (self.w.keeps_maps and len(dims) == 4):
                dims = dims[1:]
            return self.w.buffer(value.reshape(dims), is_map=True)

        node: fx.Node = self.w.remembered((op, tuple(tuple(map(id, leaves(g))) for g in groups)), make)
        return node

    def logical(self, view: View, *, is_output: bool = False) -> fx.Node:
        """A value as a tensor in the order and shape of a view. Of an output that has to be moved, channels-last is a
        layout that a file can have."""
        if isinstance(view.op, Constant):
            return self.w.buffer(viewed(view.op.evaluate(), view))
        x = self.of(view.op)
        if not isinstance(x, Phys):
            node: fx.Node = x
            return node
        last = flat([view.dims[i] for i in TO_LAST]) if len(view.shape) == 4 and self.w.is_last else None
        is_repeated = any(n > 1 and not leaves(g) for g, n in zip(view.dims, view.shape, strict=True))
        # litert-torch turns a repeated output, and not what it is repeated to: so it lies as the file has it.
        if is_output and last and (is_repeated or x.axes != flat(view.dims)):
            x = self.w.reorder(x, last)
        is_last = last == x.axes
        places = TO_LAST if is_last else range(len(view.shape))
        dims, shape = [view.dims[i] for i in places], [view.shape[i] for i in places]
        node = self.w.view(x if is_last else self.w.reorder(x, flat(dims)), dims).node
        if is_repeated:
            node = self.w.call(
                aten.expand.default, node, [-1 if leaves(g) else n for g, n in zip(dims, shape, strict=True)]
            )
        if is_last:
            node = self.w.permute(node, TO_FIRST, free=True)
        return node
