"""Parallel branches that are linear and are added are one: their kernels are added (RepVGG, arXiv 2101.03697).

A 1x1 kernel stands in the middle of a larger one, and the input itself is a kernel with a one in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgeattn.lowering.axes import Group, leaves, size
from edgeattn.lowering.network import Network, wherever
from edgeattn.lowering.ops import Linear, Op, Opaque, Pointwise, View
from edgeattn.lowering.passes.affine import affine_of, along
from edgeattn.lowering.passes.products import Conv, conv_of, conv_op
from edgeattn.lowering.passes.spelling import kind

_WHY = "parallel linear branches merged into one"


def merge_branches(network: Network) -> bool:
    """Merge the two branches of every sum of linear maps of one value."""
    return wherever(network, Pointwise, _merged)


def _merged(network: Network, op: Pointwise) -> bool:
    if kind(op) != "add" or len(op.inputs) != 2 or len(op.args) != 2 or op.kwargs:
        return False
    first, second = op.inputs
    if set(first.axes) != set(op.axes) or set(second.axes) != set(op.axes):
        return False
    return _matrices(network, op, first, second) or any(
        _kernels(network, op, a, b) or _diagonal(network, op, a, b) for a, b in ((first, second), (second, first))
    )


@dataclass(frozen=True)
class _Matrix:
    x: Op
    inside: tuple[object, ...]
    weight: Tensor
    bias: Tensor | None


def _matrix(network: Network, op: Op, user: Op) -> _Matrix | None:
    """A chain of linear maps, each read by the next alone, as one matrix."""
    if not isinstance(op, Linear) or network.only_user(op) is not user:
        return None
    x = op.inputs[0]
    deeper = _matrix(network, x, op)
    if deeper is not None and isinstance(x, Linear) and leaves(x.outside) == leaves(op.inside):
        bias = op.bias
        if deeper.bias is not None:
            bias = op.weight @ deeper.bias if bias is None else bias + op.weight @ deeper.bias
        return _Matrix(deeper.x, deeper.inside, op.weight @ deeper.weight, bias)
    return _Matrix(x, leaves(op.inside), op.weight, op.bias)


def _matrices(network: Network, op: Pointwise, first: Op, second: Op) -> bool:
    """Two linear maps of one value: W x + V x, and W x + B (A x), which a low-rank adaptation adds."""
    a, b = _matrix(network, first, op), _matrix(network, second, op)
    if a is None or b is None or a.x is not b.x or a.inside != b.inside:
        return False
    assert isinstance(first, Linear)
    assert isinstance(second, Linear)
    if leaves(first.outside) != leaves(second.outside):
        return False
    biases = [bias for bias in (a.bias, b.bias) if bias is not None]
    new = Linear(
        inputs=[a.x], inside=a.inside, outside=first.outside, weight=a.weight + b.weight,  # type: ignore[arg-type]
        bias=sum(biases[1:], biases[0]) if biases else None, dims=op.dims, node=first.node,
    )  # fmt: skip
    return network.swap(op, new, _WHY, path_of=first)


def _diagonal(network: Network, op: Pointwise, main: Op, other: Op) -> bool:
    """A matrix of a value, and the value itself with a factor and a term."""
    if not isinstance(main, Linear) or network.only_user(main) is not op:
        return False
    channels = leaves(main.inside)
    if channels != leaves(main.outside):
        return False
    found = _scaled_input(network, other, main.inputs[0], channels)
    if found is None or other is main.inputs[0]:
        return False  # a plain residual costs no more than an addition
    factor, term = found
    ones = torch.ones(size(channels), dtype=main.weight.dtype)
    biases = [b for b in (main.bias, term) if b is not None]
    new = Linear(
        inputs=main.inputs, inside=main.inside, outside=main.outside,
        weight=main.weight + torch.diag(ones if factor is None else factor),
        bias=sum(biases[1:], biases[0]) if biases else None, dims=main.dims, node=main.node,
    )  # fmt: skip
    return network.swap(op, new, _WHY, path_of=main)


def _scaled_input(network: Network, other: Op, x: Op, channels: Group) -> tuple[Tensor | None, Tensor | None] | None:
    """(factor, term) along the channels that make ``other`` of ``x``; None if it is made otherwise."""
    factor: Tensor | None = None
    term: Tensor | None = None
    while other is not x:
        affine = affine_of(other)
        if affine is None or network.only_user(other) is None or set(affine.axes) - set(channels):
            return None
        more, shift = along(affine.factor, affine.axes, channels), along(affine.term, affine.axes, channels)
        if shift is not None:
            shift = shift if factor is None else shift * factor
            term = shift if term is None else term + shift
        if more is not None:
            factor = more if factor is None else factor * more
        other = affine.x
    return factor, term


def _kernels(network: Network, op: Pointwise, main: Op, other: Op) -> bool:
    """A convolution, and a smaller one, a 1x1 one or the input itself with a factor and a term."""
    conv = conv_of(main)
    if conv is None or network.only_user(main) is not op or conv.dilation != (1, 1):
        return False
    assert isinstance(main, Opaque)
    added = _as_kernel(network, op, other, conv)
    if added is None or leaves(main.dims[1]) != added[2]:
        return False
    weight, bias, _ = added
    biases = [b for b in (conv.bias, bias) if b is not None]
    merged = replace(conv, weight=conv.weight + weight, bias=sum(biases[1:], biases[0]) if biases else None)
    return network.swap(op, conv_op(merged, main.dims, main.shape, main), _WHY, path_of=main)


def _as_kernel(network: Network, op: Op, other: Op, conv: Conv) -> tuple[Tensor, Tensor | None, object] | None:
    """(kernel, bias, channels) of another branch of the same input, in the geometry of ``conv``."""
    small = conv_of(other)
    out, width = conv.weight.shape[:2]
    if small is not None:
        if network.only_user(other) is not op or not _same(small.x, conv.x) or small.stride != conv.stride:
            return None
        if small.groups != conv.groups or small.dilation != (1, 1) or len(small.weight) != out:
            return None
        kernel = _placed(small.weight, small.padding, conv)
        return None if kernel is None else (kernel, small.bias, leaves(other.dims[1]))
    if isinstance(other, Linear) and network.only_user(other) is op:
        if other.inputs[0] is not conv.x.op or leaves(other.inside) != leaves(conv.x.dims[1]) or conv.groups != 1:
            return None
        if conv.stride != (1, 1):
            return None
        kernel = _placed(other.weight[:, :, None, None], (0, 0), conv)
        return None if kernel is None else (kernel, other.bias, leaves(other.outside))
    # The input itself, or a BatchNorm of it.
    channels = leaves(conv.x.dims[1])
    found = _scaled_input(network, other, conv.x.op, channels)
    if found is None:
        return None
    factor, term = found
    if conv.stride != (1, 1) or out != size(channels):
        return None
    diagonal = torch.zeros(out, width, 1, 1, dtype=conv.weight.dtype)
    diagonal[torch.arange(out), torch.arange(out) % width if conv.groups > 1 else torch.arange(out)] = (
        torch.ones(out, dtype=conv.weight.dtype) if factor is None else factor
    )[:, None, None]
    kernel = _placed(diagonal, (0, 0), conv)
    return None if kernel is None else (kernel, term, channels)


def _same(a: View, b: View) -> bool:
    return a.op is b.op and [leaves(g) for g in a.dims] == [leaves(g) for g in b.dims]


def _placed(weight: Tensor, padding: tuple[int, int], conv: Conv) -> Tensor | None:
    """A smaller kernel within one of the size of ``conv``'s; None if it reaches over its edge."""
    size_ = conv.weight.shape[2:]
    at = [p - q for p, q in zip(conv.padding, padding, strict=True)]
    if any(a < 0 or a + k > n for a, k, n in zip(at, weight.shape[2:], size_, strict=True)):
        return None
    result = torch.zeros(*weight.shape[:2], *size_, dtype=weight.dtype)
    result[:, :, at[0] : at[0] + weight.shape[2], at[1] : at[1] + weight.shape[3]] = weight
    return result
