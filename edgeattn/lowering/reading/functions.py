"""Reading reductions, softmax and norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgeattn.lowering.axes import Group, flat, leaves, regroup, size
from edgeattn.lowering.forms import euclidean, largest_at
from edgeattn.lowering.movement import name
from edgeattn.lowering.ops import Norm, Reduce, Slot, Softmax, View
from edgeattn.lowering.reading.builder import Builder, Rule, UnknownSpellingError, arguments

aten = torch.ops.aten


def reduced(b: Builder, node: fx.Node, target: Any, dims: Sequence[int] | None, keepdim: bool) -> View:
    x = b.promoted(b.solid(b.view(node.args[0])), node)
    return reduced_view(b, node, x, target, dims, keepdim=keepdim)


def reduced_view(b: Builder, node: fx.Node, x: View, target: Any, dims: Sequence[int] | None, *, keepdim: bool) -> View:
    """A reduction of some dimensions, of all without ``dims``."""
    rank = len(x.shape)
    over = set(range(rank)) if not dims else {d % rank for d in dims}
    group = flat(x.dims[d] for d in sorted(over))
    kept = tuple(() if d in over else g for d, g in enumerate(x.dims) if keepdim or d not in over)
    shape = tuple(1 if d in over else n for d, n in enumerate(x.shape) if keepdim or d not in over)
    if not group:
        one = View(x.op, kept, shape)
        return b.pointwise(aten.abs.default, (Slot(0),), {}, [one], node) if target is euclidean else one
    return b.add(Reduce(inputs=[x.op], target=target, over=group, keepdim=keepdim, dims=kept), node, shape)


def reduce_(b: Builder, node: fx.Node) -> View:
    args = arguments(node)
    dims = args.get("dim")
    if args.get("dtype") not in (None, torch.float64):
        raise UnknownSpellingError("another type")
    target = {"sum": torch.sum, "mean": torch.mean, "amax": torch.amax, "amin": torch.amin}[name(node)]
    return reduced(b, node, target, [dims] if isinstance(dims, int) else dims, bool(args.get("keepdim")))


def linalg_vector_norm(b: Builder, node: fx.Node) -> View:
    args = arguments(node)
    if args.get("ord", 2) != 2:
        raise UnknownSpellingError("another norm")
    dims = args.get("dim")
    return reduced(b, node, euclidean, [dims] if isinstance(dims, int) else dims, bool(args.get("keepdim")))


def variance(b: Builder, node: fx.Node) -> Any:
    """var, std and var_mean, written out."""
    args = arguments(node)
    x, keepdim = b.solid(b.view(args["self"])), bool(args.get("keepdim"))
    rank = len(x.shape)
    dims = args.get("dim")
    over = list(range(rank)) if not dims else [d % rank for d in ([dims] if isinstance(dims, int) else dims)]
    correction = args.get("correction", int(args.get("unbiased", True)))
    correction = 1 if correction is None else correction
    number = size(flat(x.dims[d] for d in over))
    mean = reduced_view(b, node, x, torch.mean, over, keepdim=True)
    off = b.pointwise(aten.sub.Tensor, (Slot(0), Slot(1)), {}, [x, mean], node)
    square = b.pointwise(aten.mul.Tensor, (Slot(0), Slot(0)), {}, [off], node)
    spread = reduced_view(b, node, square, torch.mean, over, keepdim=keepdim)
    if correction:
        factor = b.constant(torch.tensor(number / (number - correction), dtype=torch.float64))
        spread = b.pointwise(aten.mul.Tensor, (Slot(0), Slot(1)), {}, [spread, factor], node)
    if name(node) == "std":
        return b.pointwise(aten.sqrt.default, (Slot(0),), {}, [spread], node)
    if name(node) == "var":
        return spread
    return [spread, mean if keepdim else reduced_view(b, node, x, torch.mean, over, keepdim=False)]


def argmax(b: Builder, node: fx.Node) -> View:
    """Where the largest value is along one dimension of one axis."""
    args = arguments(node)
    x = b.solid(b.view(args["self"]))
    dim = args.get("dim")
    if dim is None or len(leaves(x.dims[int(dim) % len(x.shape)])) != 1:
        raise UnknownSpellingError("the place in several axes")
    return reduced_view(b, node, x, largest_at, [int(dim)], keepdim=bool(args.get("keepdim")))


def logsumexp(b: Builder, node: fx.Node) -> View:
    args = arguments(node)
    return reduced(b, node, torch.logsumexp, list(args["dim"]), bool(args.get("keepdim")))


def filled_like(b: Builder, node: fx.Node) -> View:
    """zeros_like and its kin: one number, broadcast."""
    value = b.values.of(node)[0]
    one = b.constant(value.reshape(-1)[0].clone())
    return View(one.op, ((),) * value.dim(), tuple(value.shape))


def adaptive_avg_pool2d(b: Builder, node: fx.Node) -> View:
    if list(node.args[1]) != [1, 1]:  # type: ignore[arg-type]
        raise UnknownSpellingError("pooling to several cells")
    return reduced(b, node, torch.mean, [-2, -1], True)


def softmax(b: Builder, node: fx.Node) -> View:
    x = b.solid(b.view(node.args[0]))
    if node.kwargs.get("dtype") not in (None, torch.float64):
        raise UnknownSpellingError("another type")
    dim = int(node.args[1]) % len(x.shape)  # type: ignore[arg-type]
    target = torch.log_softmax if "log" in name(node) else torch.softmax
    if not leaves(x.dims[dim]):  # of one score, which has all the weight
        one = b.constant(torch.full((), 0.0 if "log" in name(node) else 1.0, dtype=torch.float64))
        return View(one.op, ((),) * len(x.shape), x.shape)
    return b.add(Softmax(inputs=[x.op], over=x.dims[dim], target=target, dims=x.dims), node, x.shape)


def group_norm(b: Builder, node: fx.Node) -> View:
    args: tuple[Any, ...] = (*node.args, None, None, 1e-5)[:5] if len(node.args) < 5 else node.args
    x, groups, weight, bias, epsilon, *_ = args
    view = b.solid(b.view(x))
    shape = view.shape
    cut = regroup(view.dims[1], [int(groups), shape[1] // int(groups)])
    if cut is None:
        raise UnknownSpellingError("groups across axes")
    over = (*cut[1], *flat(view.dims[2:]))
    return norm(b, node, view, over, float(epsilon), view.dims[1], weight, bias)


def layer_norm(b: Builder, node: fx.Node) -> View:
    x, normalized, weight, bias, epsilon = (*node.args[:5], *(None, None, 1e-5)[len(node.args) - 2 :])[:5]
    view = b.solid(b.view(x))
    over = flat(view.dims[-len(normalized) :])  # type: ignore[arg-type]
    return norm(b, node, view, over, float(epsilon), over, weight, bias)  # type: ignore[arg-type]


def norm(
    b: Builder, node: fx.Node, view: View, over: Group, epsilon: float, affine: Group, weight: Any, bias: Any
) -> View:
    factor, term = ((None if p is None else _solid(p, affine)) for p in (b.fixed(weight), b.fixed(bias)))
    op = Norm(inputs=[view.op], over=over, epsilon=epsilon, affine=affine, weight=factor, bias=term, dims=view.dims)
    return b.add(op, node, view.shape)


def batch_norm(b: Builder, node: fx.Node) -> View:
    x, weight, bias, mean, variance = node.args[:5]
    if node.args[5] is not False or mean is None:
        raise UnknownSpellingError("statistics of the batch")
    return affine(b, node, x, weight, bias, mean, variance, float(node.args[7]))  # type: ignore[arg-type]


def native_batch_norm(b: Builder, node: fx.Node) -> list[Any]:
    x, weight, bias, mean, variance, _, epsilon = node.args
    return [affine(b, node, x, weight, bias, mean, variance, float(epsilon)), None, None]  # type: ignore[arg-type]


def affine(b: Builder, node: fx.Node, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, epsilon: float) -> View:
    view = b.view(x)
    center, spread = b.fixed(mean), b.fixed(variance)
    assert center is not None
    assert spread is not None
    factor = torch.rsqrt(spread + epsilon)
    scale = b.fixed(weight)
    if scale is not None:
        factor = factor * scale
    term = -center * factor
    shift = b.fixed(bias)
    if shift is not None:
        term = term + shift
    for target, parameter in ((aten.mul.Tensor, factor), (aten.add.Tensor, term)):
        along = b.constant(parameter.reshape(-1, *[1] * (len(view.shape) - 2)))
        view = b.pointwise(target, (Slot(0), Slot(1)), {}, [view, along], node)
    return view


def _solid(parameter: Tensor, group: Group) -> Tensor:
    return parameter.reshape([axis.size for axis in leaves(group)])


def power(b: Builder, node: fx.Node) -> View:
    """Powers that are a product or a root are written so: litert-torch has powers of four axes at most."""
    x, exponent = node.args
    if exponent == 1:
        return b.view(x)
    if exponent in (2, 3):
        square = b.pointwise(aten.mul.Tensor, (Slot(0), Slot(0)), {}, [b.view(x)], node)
        if exponent == 2:
            return square
        return b.pointwise(aten.mul.Tensor, (Slot(0), Slot(1)), {}, [square, b.view(x)], node)
    root = {0.5: aten.sqrt.default, -0.5: aten.rsqrt.default}.get(exponent) if isinstance(exponent, float) else None
    return b.elementwise(node) if root is None else b.pointwise(root, (Slot(0),), {}, [b.view(x)], node)


RULES: dict[str, Rule] = {
    "pow": power,
    **dict.fromkeys(("sum", "mean", "amax", "amin"), reduce_),
    **dict.fromkeys(("var", "std", "var_mean"), variance),
    "logsumexp": logsumexp,
    "argmax": argmax,
    **dict.fromkeys(("zeros_like", "ones_like", "full_like"), filled_like),
    "linalg_vector_norm": linalg_vector_norm,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), softmax),
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "batch_norm": batch_norm,
    "_native_batch_norm_legit_no_training": native_batch_norm,
}
