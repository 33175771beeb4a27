"""From operators on named axes to a graph in one layout, without moving what need not be moved.

Every value keeps the order in which it was made, as long as what reads it does not care: elementwise functions,
reductions, norms, 1x1 convolutions at any number of places. Where an operator asks for another order, a permutation
is written, and counted.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeattn.layout import Layout
from edgeattn.lowering import forms
from edgeattn.lowering.axes import Axis, Group, flat, leaves, size, sizes
from edgeattn.lowering.movement import name
from edgeattn.lowering.network import Network
from edgeattn.lowering.ops import (
    Concat,
    Constant,
    Contract,
    Expand,
    Input,
    Linear,
    Norm,
    Op,
    Opaque,
    Pointwise,
    Reduce,
    Rename,
    Slice,
    Softmax,
    View,
    aligned,
    filled,
    viewed,
)
from edgeattn.lowering.passes.attention import weighted
from edgeattn.lowering.passes.products import conv_of
from edgeattn.lowering.physical import TO_FIRST, TO_LAST, Phys, Writer
from edgeattn.lowering.projections import conv, linear
from edgeattn.lowering.regions import split_regions

aten = torch.ops.aten
# Core ML has five axes at most.
MOST_AXES = 5


def emit(network: Network, layout: Layout, *, batch: Axis | None = None) -> tuple[fx.GraphModule, int]:
    """The network as a graph module in float64, with channels-first edges, and the permutations in it.

    ``batch``: the axis whose length is free.
    """
    emitter = _Emitter(network, layout, batch)
    for op in network.ops:
        try:
            emitter.write(op)
        except (NotImplementedError, RuntimeError, ValueError, IndexError, AssertionError, StopIteration) as error:
            raise CannotWrite(op.node, f"{type(op).__name__}: {error}") from error
    results = []
    for view in network.outputs:
        emitter.w.op = view.op
        results.append(emitter.logical(view))
    emitter.w.graph.output(tuple(results) if len(results) > 1 else results[0])
    module = fx.GraphModule(emitter.w.root, emitter.w.graph).eval()
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module, emitter.w.permutations


class CannotWrite(Exception):
    """An operator cannot be written in this layout; ``node`` is what it comes from."""

    def __init__(self, node: fx.Node | None, why: str) -> None:
        super().__init__(why)
        self.node, self.why = node, why


class _Emitter:
    def __init__(self, network: Network, layout: Layout, batch: Axis | None) -> None:
        self.w = Writer(layout, batch)
        self.network = network
        self.values: dict[Op, Any] = {}
        # Regions that are written with one axis for each part of the map, in channels-last.
        self.split = split_regions(network) if self.w.is_last else {}

    def write(self, op: Op) -> None:
        self.w.op = op
        rule = getattr(self, f"_{type(op).__name__.lower()}")
        self.values[op] = rule(op)

    def of(self, op: Op, reader: Op | None = None) -> Phys:
        """A value, in the form of the reader's region."""
        x: Phys = self.values[op]
        if reader is not None and (axes := self.split.get(reader)):
            return self._cut(x, axes)
        return x

    def _cut(self, x: Phys, parts: frozenset[Axis]) -> Phys:
        """The value with a dimension for each of ``parts`` that it has; the other axes stay together."""
        groups: list[Group] = []
        parts = frozenset(leaves(parts))
        for axis in x.axes:
            if groups and axis not in parts and groups[-1][-1] not in parts and axis is not self.w.batch:
                groups[-1] = (*groups[-1], axis)
            else:
                groups.append((axis,))
        # Dimensions of length 1, which a sum has left, do no harm.
        is_cut = groups == [g for g in x.groups if g]
        return x if is_cut or not set(x.axes) & parts else self.w.view(x, groups)

    # Constants are put into any order and shape where they are read.

    def constant(self, op: Constant, groups: Sequence[Group]) -> fx.Node:
        """A constant as a tensor with such dimensions; 1 for those that it lacks."""
        axes = op.axes
        present = [tuple(a for a in leaves(g) if a in axes) for g in groups]
        shape = [size(g) if set(leaves(g)) == set(p) else -1 for g, p in zip(groups, present, strict=True)]
        order = flat(present)
        if len(order) != len(axes):
            raise NotImplementedError("a constant along other axes")

        def make() -> fx.Node:
            value = aligned(op.evaluate(), axes, order)
            if any(n == -1 for n in shape):  # it has part of a dimension's axes: it is written out over the others
                full = [
                    a
                    for g, n in zip(groups, shape, strict=True)
                    for a in (
                        leaves(g)
                        if n == -1 and any(x in axes for x in leaves(g))
                        else [x for x in leaves(g) if x in axes]
                    )
                ]
                value = aligned(op.evaluate(), axes, full).expand(sizes(full))
                dims = [size(leaves(g)) if any(x in axes for x in leaves(g)) else 1 for g in groups]
            else:
                dims = [size(p) for p in present]
            while dims and dims[0] == 1:
                dims = dims[1:]
            return self.w.buffer(value.reshape(dims))

        return self.w.remembered((op, tuple(tuple(map(id, leaves(g))) for g in groups)), make)

    # The rules.

    def _input(self, op: Input) -> Phys:
        assert op.node is not None
        node = self.w.graph.placeholder(str(op.node.target))
        node.meta = {"val": op.node.meta["val"]}
        shape = tuple(op.node.meta["val"].shape)
        if self.w.is_last and len(shape) == 4:
            node = self.w.permute(node, TO_LAST, free=True)
            order = [op.dims[i] for i in TO_LAST]
            return Phys(node, flat(order), tuple(shape[i] for i in TO_LAST))
        return Phys(node, op.axes, shape)

    def _constant(self, op: Constant) -> Any:
        return None

    def _rename(self, op: Rename) -> Any:
        if isinstance(op.inputs[0], Constant):
            raise NotImplementedError("a constant with other names")
        x = self.of(op.inputs[0])
        return replace(x, order=op.renamed(x.axes))

    def _pointwise(self, op: Pointwise) -> Phys:
        tensors = [x for x in op.inputs if not isinstance(x, Constant)]
        parts = [self.of(x, op) for x in tensors]
        lead, order = self._common_order(op, parts)
        fitted = [self.w.reorder(p, [a for a in order if a in p.axes]) for p in parts]
        groups, fitted = self._common_groups(op, fitted, fitted[lead], order)
        nodes: dict[int, fx.Node] = {}
        at = dict(zip([i for i, x in enumerate(op.inputs) if not isinstance(x, Constant)], fitted, strict=True))
        for i, x in enumerate(op.inputs):
            if isinstance(x, Constant):
                nodes[i] = self.constant(x, groups)
            else:
                nodes[i] = self._shaped(at[i], groups)
        node = self.w.call(op.target, *filled(op.args, nodes), **op.kwargs)
        shape = tuple(size(leaves(g)) for g in groups)
        is_map = any(p.is_map and len(p.axes) == len(order) for p in fitted)
        return Phys(node, tuple(order), shape, is_map)

    def _common_order(self, op: Op, parts: list[Phys]) -> tuple[int, list[Axis]]:
        """The largest input, and an order of all axes: its own, with what it lacks put in as another has it."""
        lead = max(range(len(parts)), key=lambda k: (len(parts[k].axes), size(parts[k].axes), parts[k].is_map, -k))
        order = list(parts[lead].axes)
        for part in parts:
            for k, axis in enumerate(part.axes):
                if axis not in order:
                    before = part.axes[k - 1] if k else None
                    order.insert(order.index(before) + 1 if before in order else 0, axis)
        missing = [a for a in op.axes if a not in order]  # only constants have it
        return lead, [*order, *missing]

    def _common_groups(
        self, op: Op, parts: list[Phys], lead: Phys, order: list[Axis]
    ) -> tuple[list[Group], list[Phys]]:
        """Dimensions in which every input has all axes of a dimension, or none."""
        has = [set(p.axes) for p in parts]
        has += [set(x.axes) for x in op.inputs if isinstance(x, Constant)]

        def pure(groups: Sequence[Group]) -> bool:
            return all(not set(g) & h or set(g) <= h for g in groups for h in has)

        candidates = [p.groups for p in parts if set(p.axes) == set(order)]
        fit = [groups for groups in candidates if pure(groups)]
        if fit:
            best = min(fit, key=lambda groups: sum(not self._fits(p, groups) for p in parts))
            return best, parts
        if set(lead.axes) == set(order) and not self.w.is_last and len(lead.shape) == 4:
            spread = [self._spread(p, lead) for p in parts]
            if all(s is not None for s in spread):
                return lead.groups, [s for s in spread if s is not None]
        start = lead.groups if set(lead.axes) == set(order) else [(axis,) for axis in order]
        groups = []
        for group in start:
            if not group:
                groups.append(group)
            for axis in group:
                same = groups and groups[-1] and axis is not group[0] and all(
                    (axis in h) == (groups[-1][-1] in h) for h in has
                )  # fmt: skip
                if same:
                    groups[-1] = (*groups[-1], axis)
                else:
                    groups.append((axis,))
        return _short(groups), parts

    def _fits(self, part: Phys, groups: Sequence[Group]) -> bool:
        wanted = [size(leaves(g)) if set(leaves(g)) & set(part.axes) else 1 for g in groups]
        while len(wanted) > len(part.shape) and wanted[0] == 1:
            wanted.pop(0)
        return tuple(wanted) == part.shape

    def _shaped(self, part: Phys, groups: Sequence[Group]) -> fx.Node:
        if self._fits(part, groups):
            return part.node
        own = set(part.axes)
        return self.w.view(part, [g if set(leaves(g)) & own else () for g in groups]).node

    def _spread(self, part: Phys, lead: Phys) -> Phys | None:
        """A value for each offset in a patch, at every pixel of the map ``lead``, [B, C, H, W]."""
        batch, channels, *places = lead.groups
        rest = leaves(flat(places))
        kept = [a for a in part.axes if a in rest]
        if not kept or all(set(g) <= set(part.axes) or not set(g) & set(part.axes) for g in lead.groups):
            return part
        if tuple(part.axes) != (*batch, *channels, *kept):
            return None
        one_hot = _one_hot(kept, rest).T.contiguous()
        cells = self.w.view(part, [batch, channels, tuple(kept)])
        node = self.w.module(forms.PatchSpread(one_hot), cells.node)
        whole = Phys(node, lead.axes, (size(batch), size(channels), size(rest)))
        return self.w.view(whole, lead.groups)

    def _linear(self, op: Linear) -> Phys:
        x = self.of(op.inputs[0], op)
        inside, outside = leaves(op.inside), leaves(op.outside)
        order = x.axes
        at = sorted(order.index(a) for a in inside)
        together = at == list(range(at[0], at[0] + len(at))) if at else False
        last = together and at[-1] == len(order) - 1
        lead = [a for a in order if a not in inside]
        batch = set(leaves(op.dims[0])) if op.dims else set()
        second = together and set(order[: at[0]]) <= batch
        wants_last = last and (self.w.is_last or not second or len(op.dims) == 2)
        if not at and not self.w.is_last and len(x.shape) == 4 and x.shape[1] == 1:
            wants_last = False
        elif not at:
            x = x if x.shape[-1:] == (1,) else self.w.view(x, [*x.groups, ()])
            wants_last, lead = True, list(order)
        elif self.w.is_last and not last:
            x, wants_last = self.w.reorder(x, [*lead, *(order[i] for i in at)]), True
        elif not (last or second):
            front = [a for a in lead if a in batch]
            x = self.w.reorder(x, [*front, *(order[i] for i in at), *(a for a in lead if a not in front)])
        # The columns in the order in which the channels lie in memory.
        now = tuple(a for a in x.axes if a in inside)
        weight = op.weight.reshape(-1, *sizes(inside))
        weight = weight.permute(0, *(1 + inside.index(a) for a in now)).reshape(len(op.weight), -1)
        if wants_last:
            return self._linear_last(op, x, now, weight)
        return self._linear_first(op, x, now, weight)

    def _linear_last(self, op: Linear, x: Phys, inside: Group, weight: Tensor) -> Phys:
        outside = leaves(op.outside)
        groups = _ending(x, inside)
        if len(op.dims) == 2 and len(groups) > 2:
            groups = [flat(groups[:-1]), inside]
        x = self.w.view(x, groups)
        order = (*x.axes[: len(x.axes) - len(inside)], *outside)
        shape = (*x.shape[:-1], len(weight))
        if self.w.is_last and x.is_map and len(shape) == 4:
            node = self.w.module(conv(weight, op.bias), self.w.permute(x.node, TO_FIRST, free=True))
            return Phys(self.w.permute(node, TO_LAST, free=True), order, shape, is_map=True)
        if self.w.is_last and len(weight) == 1 and op.bias is None:
            keep = op in self.split or x.is_map
            node = self.w.module(forms.ScoreLast(weight, keepdim=keep), x.node)
            return Phys(node, order, shape if keep else shape[:-1], x.is_map)
        if self.w.is_last and len(shape) > 2 and shape[-2] == 1 and op not in self.split and not _is_key(op):
            # litert-torch cannot do a linear layer on [B, P, 1, C].
            rows = self.w.view(x, [tuple(x.axes[: len(x.axes) - len(inside)]), inside])
            node = self.w.module(linear(weight, op.bias), rows.node)
            flat_rows = Phys(node, order, (rows.shape[0], len(weight)), x.is_map)
            return self.w.view(flat_rows, [*groups[:-1], outside])
        return Phys(self.w.module(linear(weight, op.bias), x.node), order, shape, x.is_map)

    def _linear_first(self, op: Linear, x: Phys, inside: Group, weight: Tensor) -> Phys:
        """[B, C, ...]: a convolution; a matrix product where the result is one channel, or on a few columns."""
        outside = leaves(op.outside)
        start = x.axes.index(inside[0]) if inside else len(x.groups[0])
        batch, rest = x.axes[:start], x.axes[start + len(inside) :]
        order = (*batch, *outside, *rest)
        if len(weight) == 1 and op.bias is None and rest:
            cells = self.w.view(x, [batch, inside, rest])
            node = self.w.module(forms.Score(weight), cells.node)
            return Phys(node, order, (size(batch), 1, size(rest)))
        if len(x.shape) == 3 and x.groups[1] == inside:
            node = self.w.module(forms.Columns(weight, op.bias), x.node)
            return Phys(node, order, (x.shape[0], len(weight), x.shape[2]))
        if len(x.shape) != 4 or x.groups[0] != batch or x.groups[1] != inside:
            tail = [g for g in _regrouped(x, rest)]
            if len(tail) > 2:
                tail = [tail[0], flat(tail[1:])]
            x = self.w.view(x, [batch, inside, *(tail + [(), ()])[:2]])
        node = self.w.module(conv(weight, op.bias), x.node)
        return Phys(node, order, (x.shape[0], len(weight), *x.shape[2:]), x.is_map)

    def _reduce(self, op: Reduce) -> Phys:
        x = self.of(op.inputs[0], op)
        return self._reduced(op, x, leaves(op.over), op.target, keepdim=op.keepdim or op in self.split)

    def _reduced(self, op: Op, x: Phys, over: Group, target: Any, *, keepdim: bool) -> Phys:
        groups = _separated(x, set(over))
        x = self.w.view(x, groups)
        dims = [i for i, g in enumerate(groups) if g and set(g) <= set(over)]
        kept = tuple(a for a in x.axes if a not in over)
        shape = [1 if i in dims else n for i, n in enumerate(x.shape) if keepdim or i not in dims]
        functions = {
            torch.sum: aten.sum.dim_IntList, torch.mean: aten.mean.dim, torch.amax: aten.amax.default,
            torch.amin: aten.amin.default,
        }  # fmt: skip
        if target in functions:
            node = self.w.call(functions[target], x.node, dims, keepdim)
        else:
            node = self.w.call(target, x.node, dims, keepdim)
        return Phys(node, kept, tuple(shape), x.is_map and keepdim and len(shape) == 4)

    def _softmax(self, op: Softmax) -> Phys:
        x = self.of(op.inputs[0], op)
        over = leaves(op.over)
        order = x.axes
        at = [order.index(a) for a in over]
        together = at == list(range(at[0], at[0] + len(at)))
        at_end = at[-1] == len(order) - 1
        if op.target is not torch.softmax and not (together and (at_end or not self.w.is_last)):
            x = self.w.reorder(x, [*(a for a in order if a not in over), *over])
            together, order = True, x.axes
            at = [order.index(a) for a in over]
            at_end = True
        if together and (at_end or not self.w.is_last):
            groups = _separated(x, set(over), whole=True)
            x = self.w.view(x, groups)
            dim = next(i for i, g in enumerate(x.groups) if g == over)
            function = aten.softmax.int if op.target is torch.softmax else aten.log_softmax.int
            if self.w.is_last and dim != len(x.shape) - 1:
                x = self.w.view(x, [g for g in x.groups if g])
                dim = len(x.shape) - 1
            return replace(x, node=self.w.call(function, x.node, dim - len(x.shape)))
        x = self.w.view(x, _separated(x, set(over)))
        dims = [i - len(x.shape) for i, g in enumerate(x.groups) if g and set(g) <= set(over)]
        return replace(x, node=self.w.module(forms.SplitSoftmax(dims), x.node))

    def _contract(self, op: Contract) -> Phys:
        both = weighted(op)
        over = leaves(op.over)
        if both is not None:
            values, weights = (self.of(x, op) for x in both)
            patches = self._patch_sum(values, weights, over)
            if patches is not None:
                return patches
            product = self._product(op, values, weights)
            return self._reduced(op, product, over, torch.sum, keepdim=op.keepdim or op in self.split)
        return self._matrix_product(op, *(self.of(x, op) for x in op.inputs), over)

    def _product(self, op: Op, values: Phys, weights: Phys) -> Phys:
        """Elementwise, the weights broadcast over the channels."""
        order = values.axes
        weights = self.w.reorder(weights, [a for a in order if a in weights.axes])
        pair = Pointwise(inputs=[op.inputs[0]], target=operator.mul, args=(), dims=op.dims)
        pair.inputs = [x for x in op.inputs if isinstance(x, Constant)]
        groups, (values, weights) = self._common_groups(pair, [values, weights], values, list(order))
        node = self.w.call(aten.mul.Tensor, self._shaped(values, groups), self._shaped(weights, groups))
        return Phys(node, order, tuple(size(leaves(g)) for g in groups), values.is_map)

    def _patch_sum(self, values: Phys, weights: Phys, over: Group) -> Phys | None:
        """A sum over some parts of a map, [B, C, H, W], that do not lie side by side, in channels-first."""
        if self.w.is_last or len(values.shape) != 4:
            return None
        batch, channels, *places = values.groups
        rest = leaves(flat(places))
        kept = tuple(a for a in rest if a not in over)
        if not kept or not set(over) <= set(rest) or set(weights.axes) != {*batch, *rest}:
            return None
        at = [rest.index(a) for a in over]
        if (
            sorted(at) == list(range(at[0], at[0] + len(at)))
            and len(over) + len(kept) == len(rest)
            and rest[-len(over) :] == over
        ):
            return None
        weights = self.w.reorder(weights, [*batch, *rest])
        cells = self.w.view(values, [batch, channels, rest])
        scores = self.w.view(weights, [batch, rest, ()])
        node = self.w.module(forms.PatchSum(_one_hot(kept, rest)), cells.node, scores.node)
        return Phys(node, (*batch, *channels, *kept), (size(batch), size(channels), size(kept)))

    def _matrix_product(self, op: Contract, a: Phys, b: Phys, over: Group) -> Phys:
        shared = [x for x in a.axes if x in b.axes and x not in over]
        rows = [x for x in a.axes if x not in b.axes]
        columns = [x for x in b.axes if x not in a.axes]

        def form(x: Phys, own: list[Axis]) -> str:
            """Whether it lies as [batch, own, over], or as [batch, over, own]; "" if as neither."""
            for text, order in (("own", [*shared, *own, *over]), ("over", [*shared, *over, *own])):
                if list(x.axes) == order:
                    return text
            return ""

        over_a = [x for x in a.axes if x in over]
        over = tuple(over_a)
        if not form(a, rows):
            a = self.w.reorder(a, [*shared, *rows, *over])
        if not form(b, columns):
            b = self.w.reorder(b, [*shared, *over, *columns])
        straight = (form(a, rows) == "over") + (form(b, columns) == "own")
        crossed = (form(a, rows) == "own") + (form(b, columns) == "over")
        canonical = [x for x in op.axes if x in rows or x in columns] == [*rows, *columns]
        if crossed < straight or (crossed == straight and not canonical):
            a, b, rows, columns = b, a, columns, rows
        lead = tuple(shared)
        heads = [lead] if lead else []
        left, right = (self.w.view(x, [*heads, *_two(x, lead, own)]) for x, own in ((a, rows), (b, columns)))
        first = left.node if form(a, rows) == "own" or not rows else self._turned(left)
        second = right.node if form(b, columns) == "over" or not columns else self._turned(right)
        node = self.w.call(aten.matmul.default, first, second)
        shape = (*(size(g) for g in heads), size(rows), size(columns))
        return Phys(node, (*shared, *rows, *columns), shape)

    def _turned(self, x: Phys) -> fx.Node:
        rank = len(x.shape)
        return self.w.permute(x.node, [*range(rank - 2), rank - 1, rank - 2])

    def _norm(self, op: Norm) -> Phys:
        x = self.of(op.inputs[0], op)
        over = leaves(op.over)
        order = x.axes
        kind = name(op.node) if op.node is not None else ""
        at_end = set(order[len(order) - len(over) :]) == set(over)
        if not over:
            raise NotImplementedError("a norm of one value")
        if kind == "layer_norm" and at_end:
            axes = order[len(order) - len(over) :]
            x = self.w.view(x, _ending(x, axes))
            return replace(x, node=self._native(op, x, axes, "layer_norm", 1))
        if kind == "group_norm" and not self.w.is_last and tuple(order) == tuple(op.axes) and op.affine:
            if len(x.shape) < 3 or x.groups[1] != leaves(op.affine):
                x = self.w.view(x, [*(op.dims[:2]), flat(op.dims[2:])])
            groups = size(leaves(op.affine)) // max(1, size([a for a in over if a in leaves(op.affine)]))
            return replace(x, node=self._native(op, x, leaves(op.affine), "group_norm", groups))
        x = self.w.view(x, _separated(x, set(over)))
        dims = [i for i, g in enumerate(x.groups) if g and set(g) <= set(over)]
        if not self.w.is_last and len(dims) > 1 and dims[0] == 1:
            normal: nn.Module = forms.NormaliseFirst(op.epsilon, dims[1:])
        else:
            normal = forms.Normalise(op.epsilon, [i - len(x.shape) for i in dims])
        y = replace(x, node=self.w.module(normal, x.node))
        for parameter, function in ((op.weight, aten.mul.Tensor), (op.bias, aten.add.Tensor)):
            if parameter is not None:
                along = Constant(value=parameter, dims=tuple((a,) for a in leaves(op.affine)))
                y = replace(y, node=self.w.call(function, y.node, self.constant(along, y.groups)))
        return y

    def _native(self, op: Norm, x: Phys, axes: Group, kind: str, groups: int) -> fx.Node:
        parameters = [
            None if p is None else aligned(p, op.affine, axes).expand(sizes(axes)).reshape(-1)
            for p in (op.weight, op.bias)
        ]
        if kind == "layer_norm":
            module: nn.Module = nn.LayerNorm(size(axes), eps=op.epsilon, elementwise_affine=parameters[0] is not None)
        else:
            module = nn.GroupNorm(groups, size(axes), eps=op.epsilon, affine=parameters[0] is not None)
        if parameters[0] is None and parameters[1] is not None:
            parameters[0] = torch.ones_like(parameters[1])
            return self._native(
                Norm(inputs=op.inputs, over=op.over, epsilon=op.epsilon, affine=axes, weight=parameters[0], bias=parameters[1], dims=op.dims, node=op.node),
                x, axes, kind, groups,
            )  # fmt: skip
        if parameters[0] is not None:
            module.weight = forms.constant(parameters[0])
            zero = torch.zeros_like(parameters[0])
            module.bias = forms.constant(zero if parameters[1] is None else parameters[1])
        return self.w.module(module.double(), x.node)

    def _slice(self, op: Slice) -> Phys:
        x = self.of(op.inputs[0], op)
        inside, outside = leaves(op.inside), leaves(op.outside)
        at = [x.axes.index(a) for a in inside]
        if at != list(range(at[0], at[0] + len(at))):
            x = self.w.reorder(x, [*(a for a in x.axes if a not in inside), *inside])
        x = self.w.view(x, _separated(x, set(inside), whole=True))
        dim = next(i for i, g in enumerate(x.groups) if g == inside)
        number = size(outside)
        end = op.start + (number - 1) * op.step + 1
        node = self.w.call(aten.slice.Tensor, x.node, dim, op.start, end, op.step)
        order = tuple(b for a in x.axes for b in (outside if a is inside[0] else () if a in inside else (a,)))
        return Phys(node, order, (*x.shape[:dim], number, *x.shape[dim + 1 :]), x.is_map)

    def _concat(self, op: Concat) -> Phys:
        outside = leaves(op.outside)
        if any(isinstance(x, Constant) for x in op.inputs):
            raise NotImplementedError("a constant in a concatenation")
        parts = [self.of(x, op) for x in op.inputs]
        kept_axes = [a for a in op.axes if a not in outside]
        lead = max(range(len(parts)), key=lambda k: (parts[k].is_map, size(parts[k].axes)))
        own = leaves(op.inside[lead])
        if set(parts[lead].axes) != {*kept_axes, *own}:
            raise NotImplementedError("an input that is broadcast")
        order = list(parts[lead].axes)
        if own:
            at = order.index(own[0])
            if order[at : at + len(own)] != list(own):
                parts[lead] = self.w.reorder(parts[lead], [*(a for a in order if a not in own), *own])
                order = list(parts[lead].axes)
                at = order.index(own[0])
        else:
            at = len(order)
            home = next((i for i, g in enumerate(op.dims) if leaves(g) == outside), len(op.dims))
            before = flat(op.dims[:home])
            places = [i + 1 for i, a in enumerate(order) if a in before]
            at = max(places, default=0) if not self.w.is_last else (max(places, default=0))
        front = [a for a in order[:at] if a not in own]
        back = [a for a in order[at:] if a not in own]
        groups = parts[lead].groups
        shape_front = _runs([g for g in groups], front)
        shape_back = _runs([g for g in groups], back)
        nodes = []
        for part, group in zip(parts, op.inside, strict=True):
            mine = leaves(group)
            part = self.w.reorder(part, [*front, *mine, *back])
            nodes.append(self.w.view(part, [*shape_front, mine, *shape_back]).node)
        node = self.w.call(aten.cat.default, nodes, len(shape_front))
        shape = (*(size(g) for g in shape_front), size(outside), *(size(g) for g in shape_back))
        return Phys(node, (*front, *outside, *back), shape, any(p.is_map for p in parts))

    def _expand(self, op: Expand) -> Phys:
        if isinstance(op.inputs[0], Constant):
            raise NotImplementedError("a constant that is written out")
        x = self.of(op.inputs[0], op)
        new = [a for a in op.axes if a not in x.axes]
        order = list(x.axes)
        for i, axis in enumerate(op.axes):
            if axis in new:
                before = op.axes[i - 1] if i else None
                order.insert(order.index(before) + 1 if before in order else 0, axis)
        groups = [(a,) for a in order]
        y = self.w.view(x, [() if a in new else (a,) for a in order])
        shape = [-1 if a not in new else a.size for a in order]
        node = self.w.call(aten.expand.default, y.node, shape)
        return Phys(node, tuple(order), tuple(size(g) for g in groups))

    def logical(self, view: View) -> fx.Node:
        """A value as a tensor in the order and shape of a view."""
        if isinstance(view.op, Constant):
            return self.w.buffer(viewed(view.op.evaluate(), view))
        x = self.of(view.op)
        if not isinstance(x, Phys):
            node: fx.Node = x
            return node
        if len(view.shape) == 4 and self.w.is_last and flat([view.dims[i] for i in TO_LAST]) == x.axes:
            x = self.w.view(x, [view.dims[i] for i in TO_LAST])
            node = self.w.permute(x.node, TO_FIRST, free=True)
        else:
            node = self.w.view(self.w.reorder(x, flat(view.dims)), list(view.dims)).node
        if any(n > 1 and not leaves(g) for g, n in zip(view.dims, view.shape, strict=True)):
            keep = [-1 if leaves(g) else n for g, n in zip(view.dims, view.shape, strict=True)]
            node = self.w.call(aten.expand.default, node, keep)
        return node

    def _opaque(self, op: Opaque) -> Any:
        if op.is_map and self.w.is_last:
            return self._map_last(op)
        nodes = [self.logical(v) for v in op.views]
        convolution = conv_of(op)
        if convolution is not None:
            node = self.w.module(_conv_module(convolution), nodes[0])
        else:
            node = self.w.call(op.target, *filled(op.args, nodes), **filled(op.kwargs, nodes))
        if not op.shape and not op.axes and not _is_tensor(op):
            return node
        return Phys(node, op.axes, op.shape, op.is_map)

    def _map_last(self, op: Opaque) -> Phys:
        view = op.views[0]
        x = self.of(view.op)
        order = flat([view.dims[i] for i in TO_LAST])
        x = self.w.view(self.w.reorder(x, order), [view.dims[i] for i in TO_LAST])
        first = self.w.permute(x.node, TO_FIRST, free=True)
        convolution = conv_of(op)
        if convolution is not None:
            node = self.w.module(_conv_module(convolution), first)
        else:
            nodes = [first, *(self.logical(v) for v in op.views[1:])]
            node = self.w.call(op.target, *filled(op.args, nodes), **filled(op.kwargs, nodes))
        node = self.w.permute(node, TO_LAST, free=True)
        return Phys(node, flat([op.dims[i] for i in TO_LAST]), tuple(op.shape[i] for i in TO_LAST), is_map=True)


def _is_tensor(op: Opaque) -> bool:
    value = op.node.meta.get("val") if op.node is not None else None
    return isinstance(value, Tensor)


def _is_key(op: Linear) -> bool:
    return isinstance(op.inputs[0], Contract)


def _conv_module(parts: Any) -> nn.Conv2d:
    out, width, *kernel = parts.weight.shape
    module = nn.Conv2d(
        width * parts.groups, out, tuple(kernel), parts.stride, parts.padding, parts.dilation, parts.groups,
        bias=parts.bias is not None,
    )  # fmt: skip
    module.weight = forms.constant(parts.weight)
    if parts.bias is not None:
        module.bias = forms.constant(parts.bias)
    return module


def _one_hot(kept: Sequence[Axis], rest: Sequence[Axis]) -> Tensor:
    """[L, P]: which place on the axes ``kept`` each place on the axes ``rest`` has."""
    number = torch.arange(size(kept)).reshape(sizes(kept))
    places = aligned(number, kept, rest).expand(sizes(rest)).reshape(-1)
    return torch.nn.functional.one_hot(places, size(kept)).double()


def _two(x: Phys, lead: Group, own: list[Axis]) -> list[Group]:
    """The two groups behind the batch, in the order in which they lie."""
    rest = x.axes[len(lead) :]
    other = tuple(a for a in rest if a not in own)
    mine = tuple(a for a in rest if a in own)
    return [mine, other] if not mine or rest[0] in mine else [other, mine]


def _ending(x: Phys, axes: Group) -> list[Group]:
    """The dimensions of a tensor, with ``axes``, the last ones, as the last dimension."""
    if not axes:
        return x.groups
    front = x.axes[: len(x.axes) - len(axes)]
    if not front:
        return [*[()] * (len(x.shape) > 1), tuple(axes)]
    return [*_runs(x.groups, front), tuple(axes)]


def _regrouped(x: Phys, axes: Sequence[Axis]) -> list[Group]:
    return [g for g in _runs(x.groups, axes) if g]


def _runs(groups: Sequence[Group], axes: Sequence[Axis]) -> list[Group]:
    """``axes``, in the dimensions that they have in ``groups``; dimensions of length 1 stay, at the front or between."""
    wanted, result = set(axes), []
    for group in groups:
        cut = tuple(a for a in group if a in wanted)
        if cut:
            result.append(cut)
        elif not group and len(result) < len(axes):
            result.append(())
    # An order that differs from the groups' own falls back to single axes.
    return result if list(flat(result)) == list(axes) else [(a,) for a in axes]


def _separated(x: Phys, over: set[Axis], *, whole: bool = False) -> list[Group]:
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
    return _short(groups)


def _short(groups: list[Group]) -> list[Group]:
    """Without dimensions of length 1, as far as there are more dimensions than Core ML takes."""
    for group in list(groups):
        if len(groups) > MOST_AXES and not group:
            groups.remove(group)
    return groups
