"""Reading what only names, orders, cuts or joins dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgeattn.lowering.axes import Axis, Group, flat, leaves, regroup, size
from edgeattn.lowering.movement import name
from edgeattn.lowering.ops import Concat, Constant, Expand, Slice, Slot, View
from edgeattn.lowering.reading.builder import Builder, Rule, UnknownSpellingError, arguments

aten = torch.ops.aten


def identity(b: Builder, node: fx.Node) -> View:
    return b.view(node.args[0])


def dropout(b: Builder, node: fx.Node) -> View:
    if node.args[2]:
        raise UnknownSpellingError("dropout that drops")
    return b.view(node.args[0])


def to_copy(b: Builder, node: fx.Node) -> View:
    value = b.values.of(node)[0]
    x = b.view(node.args[0])
    if value.dtype == b.values.of(x.op)[0].dtype:
        return x
    if value.is_floating_point() and not b.values.of(x.op)[0].is_floating_point():
        # Of each element, so that pixels in bytes need not be moved into another order for it.
        return b.pointwise(aten._to_copy.default, (Slot(0),), {"dtype": value.dtype}, [x], node)
    raise UnknownSpellingError("another type")


def viewed(b: Builder, node: fx.Node) -> View:
    x = b.view(node.args[0])
    shape = tuple(b.values.of(node)[0].shape)
    if any(not leaves(g) and n > 1 for g, n in zip(x.dims, x.shape, strict=True)):
        x = b.solid(x)
    dims = regroup(flat(x.dims), shape)
    if dims is None:
        raise UnknownSpellingError("a reshape that cuts across its axes")
    return View(x.op, dims, shape)


def permute(b: Builder, node: fx.Node) -> View:
    return ordered(b, node, [int(d) for d in node.args[1]])  # type: ignore[union-attr, arg-type]


def transpose(b: Builder, node: fx.Node) -> View:
    rank = len(b.view(node.args[0]).shape)
    order = list(range(rank))
    first, second = (int(d) % rank for d in node.args[1:3])  # type: ignore[arg-type]
    order[first], order[second] = second, first
    return ordered(b, node, order)


def turned(b: Builder, node: fx.Node) -> View:
    return ordered(b, node, list(range(len(b.view(node.args[0]).shape)))[::-1])


def movedim(b: Builder, node: fx.Node) -> View:
    rank = len(b.view(node.args[0]).shape)
    return ordered(b, node, torch.empty(range(rank)).movedim(*node.args[1:]).shape)  # type: ignore[arg-type]


def ordered(b: Builder, node: fx.Node, order: Sequence[int]) -> View:
    x = b.view(node.args[0])
    return View(x.op, tuple(x.dims[d] for d in order), tuple(x.shape[d] for d in order))


def expand(b: Builder, node: fx.Node) -> View:
    x = b.view(node.args[0])
    shape = tuple(b.values.of(node)[0].shape)
    return View(x.op, ((),) * (len(shape) - len(x.shape)) + x.dims, shape)


def repeat(b: Builder, node: fx.Node) -> View:
    """The whole again and again: a dimension is (times, what it was)."""
    x = b.view(node.args[0])
    times: Any = node.args[1]
    front = len(times) - len(x.shape)
    dims, shape = ((),) * front + x.dims, (1,) * front + x.shape
    return _repeated(b, node, View(x.op, dims, shape), times, inner=False)


def repeat_interleave(b: Builder, node: fx.Node) -> View:
    """Each value again and again along one dimension: it is (what it was, times)."""
    x = b.view(node.args[0])
    args = arguments(node)
    dim, number = args.get("dim"), args["repeats"]
    if dim is None or not isinstance(number, int):
        raise UnknownSpellingError("other numbers for each value")
    times = [number if d == dim % len(x.shape) else 1 for d in range(len(x.shape))]
    return _repeated(b, node, x, times, inner=True)


def _repeated(b: Builder, node: fx.Node, x: View, times: Sequence[int], *, inner: bool) -> View:
    x = b.solid(x)
    dims, shape = [], []
    for group, n, number in zip(x.dims, x.shape, times, strict=True):
        new: Group = (Axis(number),) if number > 1 else ()
        dims.append((*group, *new) if inner else (*new, *group))
        shape.append(n * number)
    if not all(shape):
        raise UnknownSpellingError("nothing is left")
    if tuple(dims) == x.dims:
        return x
    return b.add(Expand(inputs=[x.op], dims=tuple(dims)), node, shape)


def which(b: Builder, node: fx.Node, default: int, at: int = 1) -> int:
    value: Any = node.args[at] if len(node.args) > at else node.kwargs.get("dim", default)
    rank = len(b.view(node.args[0]).shape)
    return int(value) % rank


def slice_of(b: Builder, x: View, dim: int, start: int, number: int, step: int, node: fx.Node) -> View:
    """``number`` values of one dimension."""
    shape = tuple(number if d == dim else n for d, n in enumerate(x.shape))
    if x.shape[dim] == number:
        return x
    if not leaves(x.dims[dim]):  # it is broadcast over the dimension
        return View(x.op, x.dims, shape)
    inside = x.dims[dim]
    outside: Group = (Axis(number),) if number > 1 else ()
    # A part of whole blocks of one axis: heads, or query, key and value in front of the channels.
    cut = leaves(inside)
    block = size(cut[1:])
    if len(cut) > 1 and step == 1 and start % block == 0 and number % block == 0:
        inside, start, number = (cut[0],), start // block, number // block
        outside = (Axis(number),) if number > 1 else ()
        dims = tuple((*outside, *cut[1:]) if d == dim else group for d, group in enumerate(x.dims))
    else:
        dims = tuple(outside if d == dim else group for d, group in enumerate(x.dims))
    return b.add(Slice(inputs=[x.op], inside=inside, outside=outside, start=start, step=step, dims=dims), node, shape)


def sliced(b: Builder, node: fx.Node) -> View:
    x = b.view(node.args[0])
    dim = which(b, node, 0)
    bounds: tuple[Any, ...] = (*node.args[2:5], None, None, None)
    start, end, step = bounds[:3]
    first, last, by = slice(start, end, step or 1).indices(x.shape[dim])
    return slice_of(b, x, dim, first, len(range(first, last, by)), by, node)


def narrow(b: Builder, node: fx.Node) -> View:
    x, dim = b.view(node.args[0]), which(b, node, 0)
    return slice_of(b, x, dim, int(node.args[2]) % x.shape[dim], int(node.args[3]), 1, node)  # type: ignore[arg-type]


def chosen(b: Builder, node: fx.Node) -> View:
    """index_select, and an index on one dimension, where they take every n-th value."""
    x = b.view(node.args[0])
    if name(node) == "index":
        indices = list(node.args[1])  # type: ignore[arg-type]
        (dim,) = (i for i, n in enumerate(indices) if n is not None)
        index = b.fixed(indices[dim])
    else:
        dim, index = which(b, node, 0), b.fixed(node.args[2])
    assert index is not None
    places = index.tolist()
    steps = {after - before for before, after in itertools.pairwise(places)} or {1}
    if index.dim() != 1 or len(steps) != 1 or min(steps) < 1 or not places:
        raise UnknownSpellingError("an index that is no slice")
    return slice_of(b, x, dim, places[0] % x.shape[dim], len(places), min(steps), node)


def select(b: Builder, node: fx.Node) -> View:
    x = b.view(node.args[0])
    dim = which(b, node, 0)
    one = slice_of(b, x, dim, int(node.args[2]) % x.shape[dim], 1, 1, node)  # type: ignore[arg-type]
    return View(one.op, one.dims[:dim] + one.dims[dim + 1 :], one.shape[:dim] + one.shape[dim + 1 :])


def split(b: Builder, node: fx.Node) -> list[View]:
    x = b.view(node.args[0])
    dim = which(b, node, 0, 2) if name(node) != "unbind" else which(b, node, 0)
    start, result = 0, []
    for part in b.values.of(node)[0]:
        number = 1 if name(node) == "unbind" else part.shape[dim]
        piece = slice_of(b, x, dim, start, number, 1, node)
        start += number
        if name(node) == "unbind":
            piece = View(piece.op, piece.dims[:dim] + piece.dims[dim + 1 :], piece.shape[:dim] + piece.shape[dim + 1 :])
        result.append(piece)
    return result


def getitem(b: Builder, node: fx.Node) -> Any:
    of = b.views[node.args[0]]  # type: ignore[index]
    if isinstance(of, list):
        number: Any = node.args[1]
        return of[number]
    raise UnknownSpellingError("an output of an opaque function")


def cat(b: Builder, node: fx.Node) -> View:
    views = [b.view(n) for n in node.args[0]]  # type: ignore[union-attr]
    dim = dim_of(b, node, views[0], 1, 0)
    return joined(b, node, [_short(b, v, dim) or b.solid(v) for v in views], dim)


def _short(b: Builder, view: View, dim: int) -> View | None:
    """A constant that is one number, as long as it is along ``dim`` alone."""
    if not isinstance(view.op, Constant) or not view.op.value.numel():
        return None
    number = view.op.value.reshape(-1)[0]
    if not bool((view.op.value == number).all()):
        return None
    return _filled(b, number, view.shape[dim], dim, len(view.shape))


def _filled(b: Builder, value: Tensor, number: int, dim: int, rank: int) -> View:
    """``value``, ``number`` times along one of ``rank`` dimensions."""
    op = b.constant(value.expand(number)).op
    dims: list[Group] = [()] * rank
    dims[dim] = op.dims[0]
    return View(op, tuple(dims), tuple(number if d == dim else 1 for d in range(rank)))


def dim_of(b: Builder, node: fx.Node, x: View, at: int, default: int) -> int:
    value: Any = node.args[at] if len(node.args) > at else node.kwargs.get("dim", default)
    return int(value) % len(x.shape)


def stack(b: Builder, node: fx.Node) -> View:
    views = [b.solid(b.view(n)) for n in node.args[0]]  # type: ignore[union-attr]
    rank = len(views[0].shape) + 1
    value: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    dim = int(value) % rank
    views = [View(v.op, (*v.dims[:dim], (), *v.dims[dim:]), (*v.shape[:dim], 1, *v.shape[dim:])) for v in views]
    return joined(b, node, views, dim)


def pad(b: Builder, node: fx.Node) -> View:
    """One dimension with a number other than zero before or behind it, as a concatenation; others pad maps."""
    args = arguments(node)
    value: Any = args.get("value")
    x = b.view(node.args[0])
    widths: Any = node.args[1]
    sides = {len(x.shape) - 1 - i // 2: (widths[i], widths[i + 1]) for i in range(0, len(widths), 2)}
    padded = [dim for dim, both in sides.items() if any(both)]
    is_number = args.get("mode", "constant") == "constant" and isinstance(value, int | float) and value != 0
    if not is_number or len(padded) != 1 or min(sides[padded[0]]) < 0:
        raise UnknownSpellingError("a padding of a map")
    (dim,) = padded

    number = torch.tensor(float(value), dtype=b.values.of(node)[0].dtype)
    before, behind = ([_filled(b, number, n, dim, len(x.shape))] if n else [] for n in sides[dim])
    return joined(b, node, [*before, b.solid(x), *behind], dim)


def joined(b: Builder, node: fx.Node, views: list[View], dim: int) -> View:
    total = sum(v.shape[dim] for v in views)
    # Common axes for all the other dimensions.
    flat = [
        View(v.op, (*v.dims[:dim], (), *v.dims[dim + 1 :]), (*v.shape[:dim], 1, *v.shape[dim + 1 :])) for v in views
    ]
    common, dims, shape = b.broadcast(flat)
    for v, c in zip(views, common, strict=True):
        if v.op is not c.op:  # a renamed axis; the group is not renamed with it
            raise UnknownSpellingError("inputs of one concatenation share axes in different dimensions")
    outside: Group = (Axis(total),)
    op = Concat(
        inputs=[v.op for v in views], inside=tuple(v.dims[dim] for v in views), outside=outside,
        dims=(*dims[:dim], outside, *dims[dim + 1 :]),
    )  # fmt: skip
    return b.add(op, node, (*shape[:dim], total, *shape[dim + 1 :]))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("clone", "contiguous", "alias", "detach", "lift_fresh_copy"), identity),
    "dropout": dropout,
    **dict.fromkeys(("_to_copy", "to", "type_as"), to_copy),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), viewed),
    "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes"), transpose),
    **dict.fromkeys(("t", "numpy_T"), turned),
    "movedim": movedim,
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
    **dict.fromkeys(("repeat", "tile"), repeat),
    "repeat_interleave": repeat_interleave,
    "slice": sliced,
    "narrow": narrow,
    **dict.fromkeys(("index_select", "index"), chosen),
    "select": select,
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unbind"), split),
    "getitem": getitem,
    "cat": cat,
    "stack": stack,
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
}
