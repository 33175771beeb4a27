"""From the exported graph to operators on named axes.

Every operator is computed as it is made, in float64 on the examples, and compared with the node that it stands for; a
node that comes out otherwise, or that no rule knows, is kept as an opaque function of tensors in their original order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgeattn.lowering import axes as names
from edgeattn.lowering.axes import Axis, Group, fresh, leaves, pairs
from edgeattn.lowering.capture import is_random
from edgeattn.lowering.movement import name
from edgeattn.lowering.ops import (
    Constant,
    Expand,
    Input,
    Op,
    Opaque,
    Pointwise,
    Rename,
    Slot,
    View,
    viewed,
)
from edgeattn.lowering.proof import Values, equal

aten = torch.ops.aten


class UnknownSpellingError(Exception):
    """No rule knows this spelling of an operator: it stays opaque."""


Rule = Callable[["Builder", fx.Node], Any]


class Builder:
    """Builds the operators of one graph; ``outputs`` are views of them."""

    def __init__(
        self,
        graph: fx.GraphModule,
        values: Values,
        rules: Mapping[str, Rule],
        *,
        batch: bool = False,
        opaque: frozenset[fx.Node] = frozenset(),
    ) -> None:
        """``values``: the graph's own, of every node. ``batch``: the first axis of all inputs is one and the same.
        ``opaque``: nodes that are not looked into."""
        self.graph, self.values, self.rules, self.kept = graph, values, rules, opaque
        self.batch = Axis(2) if batch else None
        self.ops: list[Op] = []
        self.views: dict[fx.Node, Any] = {}
        self.outputs: list[View] = []
        inputs = 0
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                self.views[node] = self._input(node, inputs)
                inputs += 1
            elif node.op == "get_attr":
                self.views[node] = self.constant(getattr(graph, str(node.target)), node)
            elif node.op == "output":
                self.outputs = [self.views[n] for n in node.args[0]]
            elif node.op == "call_function":
                self.views[node] = self._checked(node)

    def _input(self, node: fx.Node, number: int) -> View:
        shape = tuple(node.meta["val"].shape)
        dims = fresh(shape)
        if self.batch is not None:
            self.batch.size = shape[0]
            dims = ((self.batch,), *dims[1:])
        op = Input(number=number, dims=dims, node=node)
        self.ops.append(op)
        self.values.set(op, self.values.of(node))
        return View(op, dims, shape)

    def constant(self, value: Tensor, node: fx.Node | None = None) -> View:
        """A constant with axes of its own."""
        op = Constant(value=value.detach(), dims=fresh(value.shape), node=node)
        self.ops.append(op)
        self.values.set(op, [op.value] * self.values.number)
        return View(op, op.dims, tuple(value.shape))

    def _checked(self, node: fx.Node) -> Any:
        before = len(self.ops)
        try:
            if node in self.kept:
                raise UnknownSpellingError("set aside")
            view = self._rule(node)
            for op in self.ops[before:]:
                if op not in self.values:
                    self.values.compute(op)
            expected = self.values.of(node)
            for i, value in enumerate(expected):
                parts = zip(view, value, strict=True) if isinstance(view, list) else [(view, value)]
                for part, tensor in parts:
                    if not isinstance(part, View) or not isinstance(tensor, Tensor):
                        continue
                    if not equal(tensor, viewed(self.values.of(part.op)[i], part)):
                        raise UnknownSpellingError(f"{node} is computed otherwise")
            return view
        except Exception:  # noqa: BLE001  # whatever a rule cannot do, the operator itself can
            for op in self.ops[before:]:
                self.values.forget(op)
            del self.ops[before:]
        view = self._opaque(node)
        for op in self.ops[before:]:
            self.values.compute(op)
        return view

    # What the rules below use.

    def add(self, op: Op, node: fx.Node | None, shape: Sequence[int]) -> View:
        """A new operator as a view."""
        op.node = node
        self.ops.append(op)
        return View(op, op.dims, tuple(shape))

    def view(self, argument: Any) -> View:
        """An argument of a node as a view; a number is a constant."""
        if isinstance(argument, fx.Node):
            found = self.views[argument]
            if isinstance(found, View):
                return found
        raise UnknownSpellingError(f"{argument} is no tensor")

    def fixed(self, argument: Any) -> Tensor | None:
        """The tensor of an argument that does not depend on the inputs; None for None."""
        if argument is None:
            return None
        view = self.view(argument)
        if not isinstance(view.op, Constant):
            raise UnknownSpellingError(f"{argument} depends on the inputs")
        value: Tensor = viewed(view.op.evaluate(), view)
        return value

    def is_fixed(self, argument: Any) -> bool:
        """Whether an argument is a constant tensor."""
        view = self.views[argument] if isinstance(argument, fx.Node) else None
        return isinstance(view, View) and isinstance(view.op, Constant)

    def solid(self, view: View) -> View:
        """The view without dimensions that it is only broadcast over."""
        wanted = [not group and n > 1 for group, n in zip(view.dims, view.shape, strict=True)]
        if not any(wanted):
            return view
        dims = tuple((Axis(n),) if new else group for group, n, new in zip(view.dims, view.shape, wanted, strict=True))
        return self.add(Expand(inputs=[view.op], dims=dims), view.op.node, view.shape)

    def join(self, first: Group, second: Group) -> bool:
        """Make two groups of axes one and the same, if no value has an axis of both."""
        if names.size(first) != names.size(second):
            return False
        both = pairs(first, second)
        if both is None:
            raise UnknownSpellingError("the groups of two dimensions cannot be cut to fit")
        for a, b in both:
            if a is b:
                continue
            if any(a in op.axes and b in op.axes for op in self.ops):
                return False
            b.parts = (a,)
        return True

    def renamed(self, view: View, dim: int) -> View:
        """The view with new axes for one dimension."""
        old = leaves(view.dims[dim])
        new = tuple(Axis(axis.size) for axis in old)
        op = Rename(inputs=[view.op], pairs=tuple(zip(old, new, strict=True)))
        of = dict(op.pairs)
        op.dims = tuple(tuple(of.get(axis, axis) for axis in leaves(group)) for group in view.op.dims)
        self.ops.append(op)
        op.node = view.op.node
        dims = tuple(tuple(of.get(axis, axis) for axis in leaves(group)) for group in view.dims)
        return View(op, dims, view.shape)

    def broadcast(self, views: list[View]) -> tuple[list[View], tuple[Group, ...], tuple[int, ...]]:
        """The views with common axes for common dimensions; the dimensions and shape of what is made of them."""
        shape = _broadcast(*(v.shape for v in views))
        rank = len(shape)
        views = [
            View(v.op, ((),) * (rank - len(v.shape)) + v.dims, (1,) * (rank - len(v.shape)) + v.shape) for v in views
        ]
        dims: list[Group] = []
        for j in range(rank):
            lead = next((k for k, v in enumerate(views) if leaves(v.dims[j])), None)
            if lead is None:
                dims.append(())
                continue
            # An axis that another dimension has already is another one here.
            if set(leaves(views[lead].dims[j])) & set(names.flat(dims)):
                views[lead] = self.renamed(views[lead], j)
            for k, v in enumerate(views):
                if k != lead and leaves(v.dims[j]) and not self.join(views[lead].dims[j], v.dims[j]):
                    views[k] = self.renamed(v, j)
                    if not self.join(views[lead].dims[j], views[k].dims[j]):
                        raise UnknownSpellingError("two dimensions cannot be made one")
            dims.append(views[lead].dims[j])
        return views, tuple(dims), shape

    # The rules.

    def _rule(self, node: fx.Node) -> Any:
        kind = name(node)
        if all(self.is_fixed(n) for n in node.all_input_nodes) and not is_random(node):
            value = self.values.of(node)[0]
            if not isinstance(value, Tensor):
                raise UnknownSpellingError("it has several outputs")
            return self.constant(value)
        if kind in self.rules:
            return self.rules[kind](self, node)
        if torch.Tag.pointwise in getattr(node.target, "tags", ()) or kind in _POINTWISE:
            return self.elementwise(node)
        raise UnknownSpellingError(kind)

    def _opaque(self, node: fx.Node) -> Any:
        args, kwargs, nodes = _slots(node)
        value = node.meta["val"] if "val" in node.meta else self.values.of(node)[0]
        views = [self.views[n] for n in nodes]
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        op = Opaque(
            inputs=[v.op for v in views], target=node.target, args=args, kwargs=kwargs, views=tuple(views),  # type: ignore[arg-type]
            dims=fresh(shape), shape=shape,
        )  # fmt: skip
        if views and len(shape) == len(views[0].shape) == 4:
            rest = views[1:]
            op.is_map = name(node) in _MAPS and all(isinstance(v.op, Constant) for v in rest)
        if views and len(shape) == len(views[0].shape) and len(shape) >= 3:
            # Dimensions that keep their length keep their axes; that is only a name.
            kept = [
                group if n == old and i != 1 and leaves(group) else dim
                for i, (dim, group, n, old) in enumerate(
                    zip(op.dims, views[0].dims, shape, views[0].shape, strict=True)
                )
            ]
            if len(set(names.flat(kept))) == len(names.flat(kept)):
                op.dims = tuple(kept)
        return self.add(op, node, shape)

    def elementwise(self, node: fx.Node) -> View:
        """A function of each element, as the node has it."""
        args, kwargs, nodes = _slots(node)
        if any(isinstance(v, Slot) for v in kwargs.values()):
            raise UnknownSpellingError("a tensor by keyword")
        views = [self.view(n) for n in nodes]
        if len(views) == 1:
            views = [self.promoted(views[0], node)]
        return self.pointwise(node.target, args, kwargs, views, node)

    def promoted(self, view: View, node: fx.Node) -> View:
        """An input of integers or booleans as floats, where the result of ``node`` is: coremltools refuses it, or
        computes with integers."""
        before, after = self.values.of(view.op)[0], self.values.of(node)[0]
        if not isinstance(after, Tensor) or before.is_floating_point() or not after.is_floating_point():
            return view
        return self.pointwise(torch.ops.aten._to_copy.default, (Slot(0),), {"dtype": after.dtype}, [view], node)

    def pointwise(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], views: list[View], node: fx.Node | None
    ) -> View:
        """A function of each element of ``views``, which are broadcast."""
        if target is aten.mul.Tensor and len(views) == 2:
            for one, other in (views, views[::-1]):
                is_one = isinstance(one.op, Constant) and bool((one.op.value == 1).all())
                if is_one and _broadcast(one.shape, other.shape) == other.shape:
                    return other
        views, dims, shape = self.broadcast(views)
        op = Pointwise(inputs=[v.op for v in views], target=target, args=args, kwargs=dict(kwargs), dims=dims)
        return self.add(op, node, shape)


def arguments(node: fx.Node) -> dict[str, Any]:
    """What an operator is called with, by the names that the schema of its overload has; no defaults."""
    schema: Any = getattr(node.target, "_schema")  # noqa: B009  # operators have it, other functions do not
    return dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)


def _slots(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any], list[fx.Node]]:
    """The arguments of a node with slots for the tensors, and the nodes that these come from."""
    nodes: list[fx.Node] = []

    def slot(n: fx.Node) -> Any:
        nodes.append(n)
        return Slot(len(nodes) - 1)

    args: Any = fx.node.map_arg(node.args, slot)
    kwargs: Any = fx.node.map_arg(node.kwargs, slot)
    return args, dict(kwargs), nodes


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    of: Any = torch.broadcast_shapes  # it has no types
    return tuple(of(*shapes))


# Functions of each element that PyTorch does not tag so.
_POINTWISE = {
    "hardswish", "dropout", "rsub", "gelu", "clamp_min", "clamp_max", "square", "softplus", "relu6", "elu", "where",
}  # fmt: skip
# Functions of one map, [B, C, H, W], that the converters take channels-last.
_MAPS = {
    "conv2d", "convolution", "conv_transpose2d", "max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "lp_pool2d",
    "adaptive_avg_pool2d", "upsample_bilinear2d", "upsample_nearest2d", "upsample_bicubic2d", "constant_pad_nd", "pad",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_nearest_exact2d", "reflection_pad2d",
    "replication_pad2d",
}  # fmt: skip
