"""From the exported graph to operators on named axes.

Every operator is computed as it is made, in float64 on the examples, and compared with the node that it stands for; a
node that comes out otherwise, or that no rule knows, is kept as an opaque function of tensors in their original order.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgeattn.lowering import axes as names
from edgeattn.lowering.axes import Axis, Group, fresh, leaves, pairs, regroup
from edgeattn.lowering.movement import name
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
    Slot,
    Softmax,
    View,
    viewed,
)
from edgeattn.lowering.proof import Values, equal

aten = torch.ops.aten


class Unknown(Exception):
    """No rule knows this spelling of an operator: it stays opaque."""


class Builder:
    """Builds the operators of one graph; ``outputs`` are views of them."""

    def __init__(
        self, graph: fx.GraphModule, values: Values, *, batch: bool = False, opaque: frozenset[fx.Node] = frozenset()
    ) -> None:
        """``values``: the graph's own, of every node. ``batch``: the first axis of all inputs is one and the same.
        ``opaque``: nodes that are not looked into."""
        self.graph, self.values, self.kept = graph, values, opaque
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
        if node is not None:
            op.name = str(node.meta.get("weight", ""))
        self.ops.append(op)
        self.values.set(op, [op.value] * self.values.number)
        return View(op, op.dims, tuple(value.shape))

    def _checked(self, node: fx.Node) -> Any:
        before = len(self.ops)
        try:
            if node in self.kept:
                raise Unknown("set aside")
            view = self._rule(node)
            for op in self.ops[before:]:
                if op not in self.values:
                    self.values.compute(op)
            expected = self.values.of(node)
            if isinstance(view, View) and isinstance(expected[0], Tensor):
                for i, value in enumerate(expected):
                    if not equal(value, viewed(self.values.of(view.op)[i], view)):
                        raise Unknown(f"{node} is computed otherwise")
            return view
        except (Unknown, RuntimeError, KeyError, ValueError, TypeError, IndexError, AssertionError):
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
        raise Unknown(f"{argument} is no tensor")

    def fixed(self, argument: Any) -> Tensor | None:
        """The tensor of an argument that does not depend on the inputs; None for None."""
        if argument is None:
            return None
        view = self.view(argument)
        if not isinstance(view.op, Constant):
            raise Unknown(f"{argument} depends on the inputs")
        value: Tensor = viewed(view.op.evaluate(), view)
        return value

    def is_fixed(self, argument: Any) -> bool:
        """Whether an argument is a constant tensor."""
        return isinstance(argument, fx.Node) and isinstance(getattr(self.views[argument], "op", None), Constant)

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
            raise Unknown("the groups of two dimensions cannot be cut to fit")
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
        shape = tuple(torch.broadcast_shapes(*(v.shape for v in views)))
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
                        raise Unknown("two dimensions cannot be made one")
            dims.append(views[lead].dims[j])
        return views, tuple(dims), shape

    # The rules.

    def _rule(self, node: fx.Node) -> Any:
        kind = name(node)
        if all(self.is_fixed(n) for n in node.all_input_nodes):
            value = self.values.of(node)[0]
            if not isinstance(value, Tensor):
                raise Unknown("it has several outputs")
            return self.constant(value)
        rule: Callable[[fx.Node], Any] | None = getattr(self, f"_{kind.strip('_')}", None)
        if rule is not None:
            return rule(node)
        if torch.Tag.pointwise in getattr(node.target, "tags", ()) or kind in _POINTWISE:
            return self._pointwise(node)
        raise Unknown(kind)

    def _opaque(self, node: fx.Node) -> Any:
        nodes: list[fx.Node] = []

        def slot(n: fx.Node) -> Slot:
            nodes.append(n)
            return Slot(len(nodes) - 1)

        args = fx.node.map_arg(node.args, slot)
        kwargs = fx.node.map_arg(node.kwargs, slot)
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

    def _pointwise(self, node: fx.Node) -> View:
        nodes: list[fx.Node] = []

        def slot(n: fx.Node) -> Slot:
            nodes.append(n)
            return Slot(len(nodes) - 1)

        args = fx.node.map_arg(node.args, slot)
        kwargs = fx.node.map_arg(node.kwargs, lambda n: n)
        if any(isinstance(v, fx.Node) for v in kwargs.values()):
            raise Unknown("a tensor by keyword")
        return self.pointwise(node.target, args, kwargs, [self.view(n) for n in nodes], node)

    def pointwise(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], views: list[View], node: fx.Node | None
    ) -> View:
        """A function of each element of ``views``, which are broadcast."""
        kind = str(getattr(target, "__name__", "")).split(".")[0]
        if kind == "mul" and len(views) == 2:
            for one, other in (views, views[::-1]):
                if isinstance(one.op, Constant) and bool((one.op.value == 1).all()) and one.op.value.numel() == 1:
                    shape = torch.broadcast_shapes(one.shape, other.shape)
                    if tuple(shape) == other.shape:
                        return other
        views, dims, shape = self.broadcast(views)
        op = Pointwise(inputs=[v.op for v in views], target=target, args=args, kwargs=dict(kwargs), dims=dims)
        return self.add(op, node, shape)

    def _identity(self, node: fx.Node) -> View:
        return self.view(node.args[0])

    _clone = _contiguous = _alias = _detach = _lift_fresh_copy = _identity

    def _dropout(self, node: fx.Node) -> View:
        if node.args[2]:
            raise Unknown("dropout that drops")
        return self.view(node.args[0])

    def _to_copy(self, node: fx.Node) -> View:
        value = self.values.of(node)[0]
        x = self.view(node.args[0])
        if value.dtype != self.values.of(x.op)[0].dtype:
            raise Unknown("another type")
        return x

    _to = _type_as = _to_copy

    def _view(self, node: fx.Node) -> View:
        x = self.view(node.args[0])
        shape = tuple(self.values.of(node)[0].shape)
        if any(not leaves(g) and n > 1 for g, n in zip(x.dims, x.shape, strict=True)):
            x = self.solid(x)
        dims = regroup(names.flat(x.dims), shape)
        if dims is None:
            raise Unknown("a reshape that cuts across its axes")
        return View(x.op, dims, shape)

    _unsafe_view = _reshape = _flatten = _unflatten = _squeeze = _unsqueeze = _view

    def _permute(self, node: fx.Node) -> View:
        return self._ordered(node, [int(d) for d in node.args[1]])  # type: ignore[union-attr, arg-type]

    def _transpose(self, node: fx.Node) -> View:
        rank = len(self.view(node.args[0]).shape)
        order = list(range(rank))
        a, b = (int(d) % rank for d in node.args[1:3])  # type: ignore[arg-type]
        order[a], order[b] = b, a
        return self._ordered(node, order)

    _swapaxes = _transpose

    def _t(self, node: fx.Node) -> View:
        return self._ordered(node, list(range(len(self.view(node.args[0]).shape)))[::-1])

    _numpy_T = _t  # noqa: N815  # the operator's own name

    def _movedim(self, node: fx.Node) -> View:
        rank = len(self.view(node.args[0]).shape)
        return self._ordered(node, torch.empty(range(rank)).movedim(*node.args[1:]).shape)  # type: ignore[arg-type, call-overload]

    def _ordered(self, node: fx.Node, order: Sequence[int]) -> View:
        x = self.view(node.args[0])
        return View(x.op, tuple(x.dims[d] for d in order), tuple(x.shape[d] for d in order))

    def _expand(self, node: fx.Node) -> View:
        x = self.view(node.args[0])
        shape = tuple(self.values.of(node)[0].shape)
        return View(x.op, ((),) * (len(shape) - len(x.shape)) + x.dims, shape)

    _expand_as = _broadcast_to = _expand

    def _dim(self, node: fx.Node, default: int, at: int = 1) -> int:
        value = node.args[at] if len(node.args) > at else node.kwargs.get("dim", default)
        rank = len(self.view(node.args[0]).shape)
        return int(value) % rank  # type: ignore[call-overload, no-any-return]

    def slice_of(self, x: View, dim: int, start: int, number: int, step: int, node: fx.Node) -> View:
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
        block = names.size(cut[1:])
        if len(cut) > 1 and step == 1 and start % block == 0 and number % block == 0:
            inside, start, number = (cut[0],), start // block, number // block
            outside = (Axis(number),) if number > 1 else ()
            dims = tuple((*outside, *cut[1:]) if d == dim else group for d, group in enumerate(x.dims))
        else:
            dims = tuple(outside if d == dim else group for d, group in enumerate(x.dims))
        return self.add(
            Slice(inputs=[x.op], inside=inside, outside=outside, start=start, step=step, dims=dims), node, shape
        )

    def _slice(self, node: fx.Node) -> View:
        x = self.view(node.args[0])
        dim = self._dim(node, 0)
        start, end, step = (*node.args[2:5], None, None, None)[:3]
        first, last, by = slice(start, end, step or 1).indices(x.shape[dim])  # type: ignore[arg-type]
        return self.slice_of(x, dim, first, len(range(first, last, by)), by, node)

    def _narrow(self, node: fx.Node) -> View:
        x, dim = self.view(node.args[0]), self._dim(node, 0)
        return self.slice_of(x, dim, int(node.args[2]) % x.shape[dim], int(node.args[3]), 1, node)  # type: ignore[arg-type]

    def _select(self, node: fx.Node) -> View:
        x = self.view(node.args[0])
        dim = self._dim(node, 0)
        one = self.slice_of(x, dim, int(node.args[2]) % x.shape[dim], 1, 1, node)  # type: ignore[arg-type]
        return View(one.op, one.dims[:dim] + one.dims[dim + 1 :], one.shape[:dim] + one.shape[dim + 1 :])

    def _split(self, node: fx.Node) -> list[View]:
        x = self.view(node.args[0])
        dim = self._dim(node, 0, 2) if name(node) != "unbind" else self._dim(node, 0)
        start, result = 0, []
        for part in self.values.of(node)[0]:
            number = x.shape[dim] if name(node) == "x" else (1 if name(node) == "unbind" else part.shape[dim])
            piece = self.slice_of(x, dim, start, number, 1, node)
            start += number
            if name(node) == "unbind":
                piece = View(
                    piece.op, piece.dims[:dim] + piece.dims[dim + 1 :], piece.shape[:dim] + piece.shape[dim + 1 :]
                )
            result.append(piece)
        return result

    _split_with_sizes = _chunk = _unbind = _split

    def _getitem(self, node: fx.Node) -> Any:
        of = self.views[node.args[0]]  # type: ignore[index]
        if isinstance(of, list):
            return of[node.args[1]]  # type: ignore[call-overload]
        raise Unknown("an output of an opaque function")

    def _cat(self, node: fx.Node) -> View:
        views = [self.solid(self.view(n)) for n in node.args[0]]  # type: ignore[union-attr]
        dim = self._dim_of(node, views[0], 1, 0)
        return self._joined(node, views, dim)

    def _dim_of(self, node: fx.Node, x: View, at: int, default: int) -> int:
        value = node.args[at] if len(node.args) > at else node.kwargs.get("dim", default)
        return int(value) % len(x.shape)  # type: ignore[call-overload, no-any-return]

    def _stack(self, node: fx.Node) -> View:
        views = [self.solid(self.view(n)) for n in node.args[0]]  # type: ignore[union-attr]
        rank = len(views[0].shape) + 1
        dim = (int(node.args[1]) if len(node.args) > 1 else int(node.kwargs.get("dim", 0))) % rank  # type: ignore[arg-type, call-overload]
        views = [View(v.op, (*v.dims[:dim], (), *v.dims[dim:]), (*v.shape[:dim], 1, *v.shape[dim:])) for v in views]
        return self._joined(node, views, dim)

    def _joined(self, node: fx.Node, views: list[View], dim: int) -> View:
        total = sum(v.shape[dim] for v in views)
        # Common axes for all the other dimensions.
        flat = [
            View(v.op, (*v.dims[:dim], (), *v.dims[dim + 1 :]), (*v.shape[:dim], 1, *v.shape[dim + 1 :])) for v in views
        ]
        common, dims, shape = self.broadcast(flat)
        for v, c in zip(views, common, strict=True):
            if v.op is not c.op:  # a renamed axis; the group is not renamed with it
                raise Unknown("inputs of one concatenation share axes in different dimensions")
        outside: Group = (Axis(total),)
        op = Concat(
            inputs=[v.op for v in views], inside=tuple(v.dims[dim] for v in views), outside=outside,
            dims=(*dims[:dim], outside, *dims[dim + 1 :]),
        )  # fmt: skip
        return self.add(op, node, (*shape[:dim], total, *shape[dim + 1 :]))

    def _reduced(self, node: fx.Node, target: Any, dims: Sequence[int] | None, keepdim: bool) -> View:
        x = self.solid(self.view(node.args[0]))
        rank = len(x.shape)
        over = set(range(rank)) if not dims else {d % rank for d in dims}
        group = names.flat(x.dims[d] for d in sorted(over))
        kept = tuple(() if d in over else g for d, g in enumerate(x.dims) if keepdim or d not in over)
        shape = tuple(1 if d in over else n for d, n in enumerate(x.shape) if keepdim or d not in over)
        if not group:
            return View(x.op, kept, shape)
        return self.add(Reduce(inputs=[x.op], target=target, over=group, keepdim=keepdim, dims=kept), node, shape)

    def _reduce(self, node: fx.Node) -> View:
        args = dict(zip(("self", "dim", "keepdim"), node.args, strict=False)) | dict(node.kwargs)
        dims = args.get("dim")
        if args.get("dtype") not in (None, torch.float64):
            raise Unknown("another type")
        target = {"sum": torch.sum, "mean": torch.mean, "amax": torch.amax, "amin": torch.amin}[name(node)]
        return self._reduced(node, target, [dims] if isinstance(dims, int) else dims, bool(args.get("keepdim")))  # type: ignore[arg-type]

    _sum = _mean = _amax = _amin = _reduce

    def _linalg_vector_norm(self, node: fx.Node) -> View:
        args = dict(zip(("self", "ord", "dim", "keepdim"), node.args, strict=False)) | dict(node.kwargs)
        if args.get("ord", 2) != 2:
            raise Unknown("another norm")
        dims = args.get("dim")
        return self._reduced(node, euclidean, [dims] if isinstance(dims, int) else dims, bool(args.get("keepdim")))  # type: ignore[arg-type]

    def _adaptive_avg_pool2d(self, node: fx.Node) -> View:
        if list(node.args[1]) != [1, 1]:  # type: ignore[arg-type]
            raise Unknown("pooling to several cells")
        return self._reduced(node, torch.mean, [-2, -1], True)

    def _softmax(self, node: fx.Node) -> View:
        x = self.solid(self.view(node.args[0]))
        if node.kwargs.get("dtype") not in (None, torch.float64):
            raise Unknown("another type")
        dim = int(node.args[1]) % len(x.shape)  # type: ignore[arg-type]
        target = torch.log_softmax if "log" in name(node) else torch.softmax
        if not leaves(x.dims[dim]):  # of one score, which has all the weight
            one = self.constant(torch.full((), 0.0 if "log" in name(node) else 1.0, dtype=torch.float64))
            return View(one.op, ((),) * len(x.shape), x.shape)
        return self.add(Softmax(inputs=[x.op], over=x.dims[dim], target=target, dims=x.dims), node, x.shape)

    _log_softmax = _softmax

    def linear_of(self, x: View, dim: int, weight: Tensor, bias: Tensor | None, node: fx.Node) -> View:
        """A matrix [out, in] over one dimension."""
        x = self.solid(x)
        outside = fresh([len(weight)])[0]
        dims = (*x.dims[:dim], outside, *x.dims[dim + 1 :])
        op = Linear(inputs=[x.op], inside=x.dims[dim], outside=outside, weight=weight, bias=bias, dims=dims)
        return self.add(op, node, (*x.shape[:dim], len(weight), *x.shape[dim + 1 :]))

    def _linear(self, node: fx.Node) -> View:
        x, weight, bias = (*node.args, None)[:3]
        matrix = self.fixed(weight)
        assert matrix is not None
        return self.linear_of(self.view(x), len(self.view(x).shape) - 1, matrix, self.fixed(bias), node)

    def _addmm(self, node: fx.Node) -> View:
        bias, x, matrix = node.args[:3]
        weight, term = self.fixed(matrix), self.fixed(bias)
        if node.kwargs or weight is None or term is None or term.dim() != 1:
            raise Unknown("a sum of matrices")
        return self.linear_of(self.view(x), 1, weight.T, term.expand(weight.shape[1]), node)

    def _conv2d(self, node: fx.Node) -> View:
        x, weight, bias, stride, padding, dilation, groups = (*node.args, *(None, 1, 0, 1, 1)[len(node.args) - 2 :])[:7]
        kernel = self.fixed(weight)
        if kernel is None or groups != 1 or any(n != 1 for n in kernel.shape[2:]):
            raise Unknown("no 1x1 convolution")
        ones = lambda v, n: v == n or (isinstance(v, list | tuple) and all(i == n for i in v))  # noqa: E731
        if not (ones(stride, 1) and (ones(padding, 0) or padding == "valid")):
            raise Unknown("a stride or padding")
        view = self.view(x)
        if len(view.shape) != kernel.dim():
            raise Unknown("no batch")
        return self.linear_of(view, 1, kernel.flatten(1), self.fixed(bias), node)

    _conv1d = _conv2d

    def _convolution(self, node: fx.Node) -> View:
        if node.args[6]:
            raise Unknown("transposed")
        return self._conv2d_of(node, (*node.args[:6], node.args[8]))

    def _conv2d_of(self, node: fx.Node, args: tuple[Any, ...]) -> View:
        kept, node.args = node.args, args
        try:
            return self._conv2d(node)
        finally:
            node.args = kept

    def _matmul(self, node: fx.Node) -> View:
        first, second = (self.view(n) for n in node.args[:2])
        if len(second.shape) == 2 and self.is_fixed(node.args[1]) and len(first.shape) >= 2:
            matrix = self.fixed(node.args[1])
            assert matrix is not None
            return self.linear_of(first, len(first.shape) - 1, matrix.T, None, node)
        if self.is_fixed(node.args[0]) and len(second.shape) >= 2:
            matrix = self.fixed(node.args[0])
            assert matrix is not None
            same = matrix.reshape(-1, *matrix.shape[-2:])
            if bool((same == same[:1]).all()) and len(second.shape) >= matrix.dim():
                return self.linear_of(second, len(second.shape) - 2, same[0], None, node)
        if self.is_fixed(node.args[1]) and len(first.shape) >= len(second.shape):
            matrix = self.fixed(node.args[1])
            assert matrix is not None
            same = matrix.reshape(-1, *matrix.shape[-2:])
            if len(second.shape) > 2 and bool((same == same[:1]).all()):
                return self.linear_of(first, len(first.shape) - 1, same[0].T, None, node)
        if min(len(first.shape), len(second.shape)) < 2:
            raise Unknown("a product with a vector")
        return self._product(node, first, second)

    _bmm = _mm = _matmul

    def _product(self, node: fx.Node, first: View, second: View) -> View:
        first, second = self.solid(first), self.solid(second)
        # [..., M, 1, K] times [..., 1, N, K], summed over K: the batch and K get common axes, M and N different ones.
        a = View(first.op, (*first.dims[:-1], (), first.dims[-1]), (*first.shape[:-1], 1, first.shape[-1]))
        b = View(
            second.op, (*second.dims[:-2], (), second.dims[-1], second.dims[-2]),
            (*second.shape[:-2], 1, second.shape[-1], second.shape[-2]),
        )  # fmt: skip
        (a, b), dims, shape = self.broadcast([a, b])
        over = dims[-1]
        if not leaves(over):
            raise Unknown("an outer product")
        op = Contract(inputs=[a.op, b.op], over=over, dims=dims[:-1])
        return self.add(op, node, shape[:-1])

    def _group_norm(self, node: fx.Node) -> View:
        x, groups, weight, bias, epsilon, *_ = (*node.args, None, None, 1e-5)[:5] if len(node.args) < 5 else node.args
        view = self.solid(self.view(x))
        shape = view.shape
        cut = regroup(view.dims[1], [int(groups), shape[1] // int(groups)])  # type: ignore[call-overload]
        if cut is None:
            raise Unknown("groups across axes")
        over = (*cut[1], *names.flat(view.dims[2:]))
        return self._norm(node, view, over, float(epsilon), view.dims[1], weight, bias)  # type: ignore[arg-type]

    def _native_group_norm(self, node: fx.Node) -> View:
        raise Unknown("several outputs")

    def _layer_norm(self, node: fx.Node) -> View:
        x, normalized, weight, bias, epsilon = (*node.args[:5], *(None, None, 1e-5)[len(node.args) - 2 :])[:5]
        view = self.solid(self.view(x))
        over = names.flat(view.dims[-len(normalized) :])  # type: ignore[arg-type]
        return self._norm(node, view, over, float(epsilon), over, weight, bias)  # type: ignore[arg-type]

    def _norm(
        self, node: fx.Node, view: View, over: Group, epsilon: float, affine: Group, weight: Any, bias: Any
    ) -> View:
        factor, term = ((None if p is None else _solid(p, affine)) for p in (self.fixed(weight), self.fixed(bias)))
        op = Norm(inputs=[view.op], over=over, epsilon=epsilon, affine=affine, weight=factor, bias=term, dims=view.dims)
        return self.add(op, node, view.shape)

    def _batch_norm(self, node: fx.Node) -> View:
        x, weight, bias, mean, variance = node.args[:5]
        if node.args[5] is not False or mean is None:
            raise Unknown("statistics of the batch")
        return self._affine(node, x, weight, bias, mean, variance, float(node.args[7]))  # type: ignore[arg-type]

    def _native_batch_norm_legit_no_training(self, node: fx.Node) -> list[Any]:
        x, weight, bias, mean, variance, _, epsilon = node.args
        return [self._affine(node, x, weight, bias, mean, variance, float(epsilon)), None, None]  # type: ignore[arg-type]

    def _affine(self, node: fx.Node, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, epsilon: float) -> View:
        view = self.view(x)
        center, spread = self.fixed(mean), self.fixed(variance)
        assert center is not None
        assert spread is not None
        factor = torch.rsqrt(spread + epsilon)
        scale = self.fixed(weight)
        if scale is not None:
            factor = factor * scale
        term = -center * factor
        shift = self.fixed(bias)
        if shift is not None:
            term = term + shift
        for target, parameter in ((aten.mul.Tensor, factor), (aten.add.Tensor, term)):
            along = self.constant(parameter.reshape(-1, *[1] * (len(view.shape) - 2)))
            view = self.pointwise(target, (Slot(0), Slot(1)), {}, [view, along], node)
        return view


def euclidean(x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    """The Euclidean norm over some axes."""
    result: Tensor = torch.sqrt((x * x).sum(dim, keepdim=keepdim))
    return result


def _solid(parameter: Tensor, group: Group) -> Tensor:
    return parameter.reshape([axis.size for axis in leaves(group)])


# Functions of each element that PyTorch does not tag so.
_POINTWISE = {"hardswish", "dropout", "rsub", "gelu", "clamp_min", "clamp_max", "square", "softplus", "relu6", "elu"}
# Functions of one map, [B, C, H, W], that the converters take channels-last.
_MAPS = {
    "conv2d", "convolution", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "max_pool2d_with_indices",
    "upsample_bilinear2d", "upsample_nearest2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "constant_pad_nd", "pad",
    "_upsample_nearest_exact2d", "lp_pool2d", "reflection_pad2d", "replication_pad2d",
}  # fmt: skip
__all__ = ["Builder", "operator"]
