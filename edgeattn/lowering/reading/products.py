"""Reading products: with a constant matrix, and of two values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from edgeattn.lowering.axes import fresh, leaves
from edgeattn.lowering.ops import Contract, Linear, Slot, Softmax, View
from edgeattn.lowering.reading.builder import Builder, Rule, UnknownSpellingError, arguments

aten = torch.ops.aten


def linear_of(b: Builder, x: View, dim: int, weight: Tensor, bias: Tensor | None, node: fx.Node) -> View:
    """A matrix [out, in] over one dimension."""
    x = b.solid(x)
    outside = fresh([len(weight)])[0]
    dims = (*x.dims[:dim], outside, *x.dims[dim + 1 :])
    op = Linear(inputs=[x.op], inside=x.dims[dim], outside=outside, weight=weight, bias=bias, dims=dims)
    return b.add(op, node, (*x.shape[:dim], len(weight), *x.shape[dim + 1 :]))


def linear(b: Builder, node: fx.Node) -> View:
    x, weight, bias = (*node.args, None)[:3]
    matrix = b.fixed(weight)
    assert matrix is not None
    return linear_of(b, b.view(x), len(b.view(x).shape) - 1, matrix, b.fixed(bias), node)


def addmm(b: Builder, node: fx.Node) -> View:
    bias, x, matrix = node.args[:3]
    weight, term = b.fixed(matrix), b.fixed(bias)
    if node.kwargs or weight is None or term is None or term.dim() != 1:
        raise UnknownSpellingError("a sum of matrices")
    return linear_of(b, b.view(x), 1, weight.T, term.expand(weight.shape[1]), node)


def conv2d(b: Builder, node: fx.Node) -> View:
    return _pointwise_conv(b, node, (*node.args, *(None, 1, 0, 1, 1)[len(node.args) - 2 :])[:7])


def _pointwise_conv(b: Builder, node: fx.Node, args: tuple[Any, ...]) -> View:
    """A 1x1 convolution, by the arguments of conv2d."""
    x, weight, bias, stride, padding, _, groups = args
    kernel = b.fixed(weight)
    if kernel is None or groups != 1 or any(n != 1 for n in kernel.shape[2:]):
        raise UnknownSpellingError("no 1x1 convolution")

    def ones(v: Any, n: int) -> bool:
        return bool(v == n) or (isinstance(v, list | tuple) and all(i == n for i in v))

    if not (ones(stride, 1) and (ones(padding, 0) or padding == "valid")):
        raise UnknownSpellingError("a stride or padding")
    view = b.view(x)
    if len(view.shape) != kernel.dim():
        raise UnknownSpellingError("no batch")
    return linear_of(b, view, 1, kernel.flatten(1), b.fixed(bias), node)


def convolution(b: Builder, node: fx.Node) -> View:
    if node.args[6]:
        raise UnknownSpellingError("transposed")
    return _pointwise_conv(b, node, (*node.args[:6], node.args[8]))


def matmul(b: Builder, node: fx.Node) -> View:
    first, second = (b.view(n) for n in node.args[:2])
    if (matrix := _one_matrix(b, node.args[1], len(first.shape))) is not None:
        return linear_of(b, first, len(first.shape) - 1, matrix.T, None, node)
    if (matrix := _one_matrix(b, node.args[0], len(second.shape))) is not None:
        return linear_of(b, second, len(second.shape) - 2, matrix, None, node)
    if min(len(first.shape), len(second.shape)) < 2:
        raise UnknownSpellingError("a product with a vector")
    return product(b, node, first, second)


def _one_matrix(b: Builder, argument: Any, rank: int) -> Tensor | None:
    """The constant matrix, the same for all samples, by which a value of ``rank`` dimensions is multiplied."""
    value = b.fixed(argument) if b.is_fixed(argument) else None
    if value is None or not 2 <= value.dim() <= rank:
        return None
    matrices = value.reshape(-1, *value.shape[-2:])
    return matrices[0] if bool((matrices == matrices[:1]).all()) else None


def product(b: Builder, node: fx.Node, first: View, second: View) -> View:
    first, second = b.solid(first), b.solid(second)
    # [..., M, 1, K] times [..., 1, N, K], summed over K: the batch and K get common axes, M and N different ones.
    rows = View(first.op, (*first.dims[:-1], (), first.dims[-1]), (*first.shape[:-1], 1, first.shape[-1]))
    columns = View(
        second.op, (*second.dims[:-2], (), second.dims[-1], second.dims[-2]),
        (*second.shape[:-2], 1, second.shape[-1], second.shape[-2]),
    )  # fmt: skip
    (rows, columns), dims, shape = b.broadcast([rows, columns])
    over = dims[-1]
    if not leaves(over):
        raise UnknownSpellingError("an outer product")
    op = Contract(inputs=[rows.op, columns.op], over=over, dims=dims[:-1])
    return b.add(op, node, shape[:-1])


def attention(b: Builder, node: fx.Node) -> View:
    """scaled_dot_product_attention: softmax(q k^T * scale + mask) v."""
    args = arguments(node)
    if args.get("dropout_p") or args.get("is_causal") or args.get("enable_gqa"):
        raise UnknownSpellingError("attention that drops or is causal")
    query, key, value = (b.view(args[k]) for k in ("query", "key", "value"))
    turned = View(key.op, (*key.dims[:-2], key.dims[-1], key.dims[-2]), (*key.shape[:-2], key.shape[-1], key.shape[-2]))
    scores = product(b, node, query, turned)
    scale = b.constant(torch.tensor(args.get("scale") or query.shape[-1] ** -0.5, dtype=torch.float64))
    scores = b.pointwise(aten.mul.Tensor, (Slot(0), Slot(1)), {}, [scores, scale], node)
    if args.get("attn_mask") is not None:
        mask = b.view(args["attn_mask"])
        if b.values.of(mask.op)[0].dtype == torch.bool:
            raise UnknownSpellingError("a mask of truth values")
        scores = b.pointwise(aten.add.Tensor, (Slot(0), Slot(1)), {}, [scores, mask], node)
    if not leaves(scores.dims[-1]):
        raise UnknownSpellingError("attention to one value")
    weights = b.add(
        Softmax(inputs=[scores.op], over=scores.dims[-1], target=torch.softmax, dims=scores.dims), node, scores.shape
    )
    return product(b, node, weights, value)


RULES: dict[str, Rule] = {
    "scaled_dot_product_attention": attention,
    "linear": linear,
    "addmm": addmm,
    **dict.fromkeys(("conv1d", "conv2d"), conv2d),
    "convolution": convolution,
    **dict.fromkeys(("matmul", "bmm", "mm"), matmul),
}
