"""Writing what cuts, joins, repeats and renames, and functions of tensors in their original order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeattn.lowering import projections
from edgeattn.lowering.axes import flat, leaves, size, sizes
from edgeattn.lowering.ops import (
    Concat,
    Constant,
    Expand,
    Input,
    Opaque,
    Rename,
    Slice,
    aligned,
    filled,
)
from edgeattn.lowering.passes.products import Conv, conv_of
from edgeattn.lowering.writing.dimensions import around, is_run, put_in, separated
from edgeattn.lowering.writing.emitter import Emitter
from edgeattn.lowering.writing.heads import for_products
from edgeattn.lowering.writing.orders import reading
from edgeattn.lowering.writing.physical import TO_FIRST, TO_LAST, Phys
from edgeattn.lowering.writing.resizing import is_lacking, resize
from edgeattn.lowering.writing.transposed import cropped, folded, is_overlapping, is_padded

aten = torch.ops.aten

# LiteRT's GPU accelerator takes tensors of so many axes, and XNNPACK so many inputs of a concatenation.
_MOST_AXES, _MOST_JOINED = 4, 4


def input_(e: Emitter, op: Input) -> Phys:
    assert op.node is not None
    node = e.w.graph.placeholder(str(op.node.target))
    node.meta = {"val": op.node.meta["val"]}
    shape = tuple(op.node.meta["val"].shape)
    if e.w.is_last and len(shape) == 4:
        node = e.w.permute(node, TO_LAST, free=True)
        order = [op.dims[i] for i in TO_LAST]
        return Phys(node, flat(order), tuple(shape[i] for i in TO_LAST))
    return Phys(node, op.axes, shape)


def constant(e: Emitter, op: Constant) -> Any:
    return None


def rename(e: Emitter, op: Rename) -> Any:
    if isinstance(op.inputs[0], Constant):
        raise e.cannot("a constant with other names")
    x = e.of(op.inputs[0])
    return replace(x, order=op.renamed(x.axes))


def slice_(e: Emitter, op: Slice) -> Phys:
    x = e.of(op.inputs[0], op)
    inside, outside = leaves(op.inside), leaves(op.outside)
    if cut := e.cuts.get(op.inputs[0]):
        x = for_products(e.w, x, cut, inside, by_head=e.manner.by_head)
    if not is_run(inside, x.axes):
        x = e.w.reorder(x, [*(a for a in x.axes if a not in inside), *inside])
    x = e.w.view(x, separated(x, set(inside), whole=True))
    dim = next(i for i, g in enumerate(x.groups) if g == inside)
    number = size(outside)
    end = op.start + (number - 1) * op.step + 1
    node = e.w.call(aten.slice.Tensor, x.node, dim, op.start, end, op.step)
    return Phys(node, op.cut(x.axes), (*x.shape[:dim], number, *x.shape[dim + 1 :]), x.is_map)


def concat(e: Emitter, op: Concat) -> Phys:
    outside = leaves(op.outside)
    parts = {k: e.of(x, op) for k, x in enumerate(op.inputs) if not isinstance(x, Constant)}
    if not parts or (len(parts) < len(op.inputs) and e.w.batch in op.axes):
        raise e.cannot("a constant in a concatenation")
    kept_axes = [a for a in op.axes if a not in outside]
    lead = max(parts, key=lambda k: (parts[k].is_map, size(parts[k].axes), -k))
    own = leaves(op.inside[lead])
    if set(parts[lead].axes) != {*kept_axes, *own}:
        raise e.cannot("an input that is broadcast")
    order = list(parts[lead].axes)
    if own:
        if not is_run(own, order):
            parts[lead] = e.w.reorder(parts[lead], [*(a for a in order if a not in own), *own])
            order = list(parts[lead].axes)
        at = order.index(own[0])
    else:
        home = next((i for i, g in enumerate(op.dims) if leaves(g) == outside), len(op.dims))
        before = flat(op.dims[:home])
        places = [i + 1 for i, a in enumerate(order) if a in before]
        at = max(places, default=0)
    front = [a for a in order[:at] if a not in own]
    back = [a for a in order[at:] if a not in own]
    shape_front, shape_back = around(parts[lead].groups, front, back)
    if e.w.is_last and len(shape_front) + len(shape_back) >= _MOST_AXES:
        shape_front, shape_back = [tuple(front)], [tuple(back)]
    nodes = []
    for k, (source, group) in enumerate(zip(op.inputs, op.inside, strict=True)):
        mine = leaves(group)
        dims = [*shape_front, mine, *shape_back]
        if isinstance(source, Constant):
            value = aligned(source.evaluate(), source.axes, flat(dims)).expand(sizes(flat(dims)))
            nodes.append(e.w.buffer(value.reshape([size(g) for g in dims]), is_map=True))
        else:
            part = e.w.reorder(parts[k], [*front, *mine, *back])
            nodes.append(e.w.view(part, dims).node)
    if e.w.is_last and len(nodes) > _MOST_JOINED:
        nodes = _fewer(e, nodes, [size(leaves(g)) for g in op.inside], size(front), size(back))
        shape_front, shape_back = [tuple(front)], [tuple(back), ()]
    node = e.w.call(aten.cat.default, nodes, len(shape_front))
    shape = (*(size(g) for g in shape_front), size(outside), *(size(g) for g in shape_back))
    return Phys(node, (*front, *outside, *back), shape, any(p.is_map for p in parts.values()))


def _fewer(e: Emitter, nodes: list[fx.Node], lengths: list[int], front: int, back: int) -> list[fx.Node]:
    """At most :data:`_MOST_JOINED` tensors [front, length, back, 1], to be joined. Three axes are joined before, as
    litert-torch would make one concatenation of two with the same."""
    per = -(-len(nodes) // _MOST_JOINED)
    fewer = []
    for i in range(0, len(nodes), per):
        some, own = nodes[i : i + per], lengths[i : i + per]
        rows = [e.w.call(aten.reshape.default, x, [front, n, back]) for x, n in zip(some, own, strict=True)]
        node = e.w.call(aten.cat.default, rows, 1)
        fewer.append(e.w.call(aten.reshape.default, node, [front, sum(own), back, 1]))
    return fewer


def expand(e: Emitter, op: Expand) -> Phys:
    if isinstance(op.inputs[0], Constant):
        raise e.cannot("a constant that is written out")
    x = e.of(op.inputs[0], op)
    new = [a for a in op.axes if a not in x.axes]
    if e.w.is_last and len(op.dims) == 4 and e.network.is_output(op):
        # As Emitter.logical has it: what is repeated lies as the file has it, before it is repeated.
        last = flat([op.dims[i] for i in TO_LAST])
        x = e.w.reorder(x, [a for a in last if a not in new])
        order = list(last)
    else:
        order = put_in(x.axes, op.axes)
    groups = [(a,) for a in order]
    y = e.w.view(x, [() if a in new else (a,) for a in order])
    shape = [-1 if a not in new else a.size for a in order]
    node = e.w.call(aten.expand.default, y.node, shape)
    return Phys(node, tuple(order), tuple(size(g) for g in groups))


def opaque(e: Emitter, op: Opaque) -> Any:
    if is_lacking(e, op):
        return resize(e, op)
    if is_overlapping(e, op):
        return folded(e, op)
    if op.is_map:
        op = reading(op, e.of(op.views[0].op))
    if op.is_map and e.w.is_last:
        return _map_last(e, op)
    node = _called(e, op, [e.logical(v) for v in op.views[:1]])
    if not op.shape and not op.axes and not _is_tensor(op):
        return node
    return Phys(node, op.axes, op.shape, op.is_map)


def _map_last(e: Emitter, op: Opaque) -> Phys:
    view = op.views[0]
    x = e.of(view.op)
    order = flat([view.dims[i] for i in TO_LAST])
    x = e.w.view(e.w.reorder(x, order), [view.dims[i] for i in TO_LAST])
    first = e.w.permute(x.node, TO_FIRST, free=True)
    node = e.w.permute(_called(e, op, [first]), TO_LAST, free=True)
    return Phys(node, flat([op.dims[i] for i in TO_LAST]), tuple(op.shape[i] for i in TO_LAST), is_map=True)


def _called(e: Emitter, op: Opaque, first: list[fx.Node]) -> fx.Node:
    """The function of ``first``, its first tensor if it has one, and of the others in their original order."""
    convolution = conv_of(op)
    if convolution is not None:
        return e.w.module(_conv_module(convolution), *first)
    nodes = [*first, *(e.logical(v) for v in op.views[1:])]
    if is_padded(e, op):
        return cropped(e, op, nodes)
    return e.w.call(op.target, *filled(op.args, nodes), **filled(op.kwargs, nodes))


def _is_tensor(op: Opaque) -> bool:
    value = op.node.meta.get("val") if op.node is not None else None
    return isinstance(value, Tensor)


def _conv_module(parts: Conv) -> nn.Conv2d:
    out, width, height, breadth = parts.weight.shape
    module = nn.Conv2d(
        width * parts.groups, out, (height, breadth), parts.stride, parts.padding, parts.dilation, parts.groups,
        bias=parts.bias is not None,
    )  # fmt: skip
    module.weight = projections.constant(parts.weight)
    if parts.bias is not None:
        module.bias = projections.constant(parts.bias)
    return module
