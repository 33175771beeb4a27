"""Pure movement, recognised by running it on indices.

unfold and fold, pixel shuffles, gathers, slices that are put together again, convolutions with one-hot kernels: what
such a chain does is the permutation that comes out, not the operators that spelled it. Where that permutation is one of
axes, the chain becomes a reshape, a permutation of the axes and a reshape, which the passes understand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten

# What only moves values, if all its inputs are parts of one tensor. Those with a weight depend on its values.
_PLAIN = {
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "flatten", "unflatten",
    "clone", "contiguous", "alias", "numpy_T", "movedim", "swapaxes",
}  # fmt: skip
_MOVING = _PLAIN | {
    "im2col", "col2im", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "index", "index_select", "gather",
    "slice", "select", "narrow", "cat", "stack", "split", "split_with_sizes", "chunk", "unbind", "flip", "roll",
    "expand", "repeat", "conv2d", "convolution", "conv_transpose2d", "unfold", "hstack", "vstack", "take_along_dim",
    "index_put", "slice_scatter", "select_scatter",
}  # fmt: skip
# Longer index tensors are not looked at: a permutation of axes is recognised on small maps as well as on large ones.
_MOST = 1 << 24


@dataclass(frozen=True)
class _Moved:
    """A value that holds parts of ``source``: ``where`` each element comes from, counted from 1; 0 is a zero.

    ``probe``: the same of random numbers, which tell a place from a sum of places or a constant that looks like one.
    """

    source: fx.Node
    where: Any
    probe: Any
    plain: bool


def simplify_movement(graph: fx.GraphModule) -> list[fx.Node]:
    """Replace every chain that permutes axes by reshape, permute, reshape; returns the nodes that were replaced."""
    moved: dict[fx.Node, _Moved] = {}
    replaced = []
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or name(node) not in (*_MOVING, "getitem"):
            continue
        found = _follow(graph, node, moved)
        if found is None:
            continue
        moved[node] = found
        if found.plain or not isinstance(found.where, Tensor) or not _leaves_chain(node):
            continue
        axes = permutation(found.where, found.source.meta["val"].numel())
        if axes is not None and torch.equal(found.probe, _random(found.where.numel())[found.where.long() - 1]):
            with graph.graph.inserting_before(node):
                x = found.source
                steps = [("reshape", axes[0]), ("permute", axes[1]), ("reshape", list(node.meta["val"].shape))]
                for target, argument in steps[2:] if axes[1] == sorted(axes[1]) else steps:
                    x = _call(graph, getattr(aten, target).default, (x, argument), node)
            node.replace_all_uses_with(x)
            moved[x] = _Moved(found.source, found.where, found.probe, plain=True)
            replaced.append(node)
    if replaced:
        graph.graph.eliminate_dead_code()
    return replaced


def name(node: fx.Node) -> str:
    """The name of an operator, without its overload."""
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]


def _call(graph: fx.GraphModule, target: Any, arguments: tuple[Any, ...], like: fx.Node) -> fx.Node:
    new = graph.graph.call_function(target, arguments)
    new.meta = {key: value for key, value in like.meta.items() if key in ("nn_module_stack", "stack_trace")}
    inputs = fx.node.map_arg(arguments, lambda n: n.meta["val"])
    new.meta["val"] = target(*inputs)
    return new


def _leaves_chain(node: fx.Node) -> bool:
    """Whether something reads the value that is not itself a movement."""
    return any(name(user) not in (*_MOVING, "getitem") or _has_weight(user) for user in node.users)


def _has_weight(node: fx.Node) -> bool:
    return name(node) in ("conv2d", "convolution", "conv_transpose2d")


def _follow(graph: fx.GraphModule, node: fx.Node, moved: dict[fx.Node, _Moved]) -> _Moved | None:
    """Run one operator on indices; None if it does not only move parts of one tensor."""
    if _has_weight(node):
        weight = node.args[1]
        if (len(node.args) > 2 and node.args[2] is not None) or not isinstance(weight, fx.Node):
            return None
        if weight.op != "get_attr" or not _is_one_hot(getattr(graph, str(weight.target))):
            return None
    tensors = [n for n in node.all_input_nodes if n.op != "get_attr"]
    sources = {moved[n].source if n in moved else n for n in tensors}
    if len(sources) != 1:
        return None
    (source,) = sources
    value = source.meta.get("val")
    if not isinstance(value, Tensor) or not value.is_floating_point() or not 1 < value.numel() <= _MOST:
        return None

    def run(of: Callable[[_Moved], Any], start: Tensor) -> Any:
        def index(n: fx.Node) -> Any:
            if n.op == "get_attr":
                return getattr(graph, str(n.target))
            return of(moved[n]) if n in moved else start.reshape(value.shape)

        return node.target(*fx.node.map_arg(node.args, index), **fx.node.map_arg(node.kwargs, index))  # type: ignore[operator]

    number = value.numel()
    try:
        # From 1 on, so that a padding's zero is no index; exact in float64.
        where = run(lambda m: m.where, torch.arange(1, number + 1, dtype=torch.float64))
        probe = run(lambda m: m.probe, _random(number))
    except (RuntimeError, TypeError, ValueError, IndexError):  # an operator that does not run on float64 indices
        return None
    plain = name(node) in _PLAIN and all(n not in moved or moved[n].plain for n in tensors)
    return _Moved(source, where, probe, plain)


def _random(number: int) -> Tensor:
    return torch.rand(number, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _is_one_hot(weight: Tensor) -> bool:
    """Whether each output of a convolution is one value of its input."""
    rows = weight.reshape(len(weight), -1)
    return bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(1) == 1).all())


def permutation(where: Tensor, number: int) -> tuple[list[int], list[int]] | None:
    """The (lengths, order of axes) of a permutation of axes, as view and permute take them; None if it is none.

    ``where`` holds 1 + the flat index in the source, of ``number`` values, of each value of the result.
    """
    index = where.reshape(-1).long() - 1
    if len(index) != number or int(index.min()) < 0 or int(index.max()) >= number:
        return None
    loops: list[tuple[int, int]] = []  # (length, stride in the source), the fastest first
    while len(index) > 1:
        stride = int(index[1] - index[0])
        runs = (index[1:] - index[:-1]) != stride
        length = int(runs.int().argmax()) + 1 if bool(runs.any()) else len(index)
        if stride <= 0 or len(index) % length:
            return None
        rows = index.reshape(-1, length)
        if not torch.equal(rows, rows[:, :1] + stride * torch.arange(length)):
            return None
        loops.append((length, stride))
        index = rows[:, 0]
    if index.tolist() != [0]:
        return None
    loops.reverse()
    by_stride = sorted(range(len(loops)), key=lambda i: -loops[i][1])
    expected = number
    for i in by_stride:
        length, stride = loops[i]
        if expected != length * stride:
            return None
        expected = stride
    return [loops[i][0] for i in by_stride], [by_stride.index(i) for i in range(len(loops))]
