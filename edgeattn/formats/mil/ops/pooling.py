"""Pooling. One and two dimensions are computed as three, with axes of length one added."""

import torch.nn.functional as F
from torch import Tensor

from edgeattn.formats.mil.ops.convolution import padded, padding, spread
from edgeattn.formats.mil.registry import ints, op

Pairs = list[tuple[int, int]]


def _windows(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor | None,
    pad_type: str,
    pad: Tensor | None,
    ceil_mode: Tensor | bool,
) -> tuple[list[int], list[int], Pairs, Pairs]:
    """(kernel, strides, padding, extra padding of the last windows if the size is rounded up), in three axes."""
    rank = x.dim() - 2
    kernel, stride, sizes = ints(kernel_sizes), spread(strides, rank), list(x.shape[2:])
    pairs = padding(pad_type, pad, sizes, kernel, stride)
    beyond = []
    for size, length, step, (before, after) in zip(sizes, kernel, stride, pairs, strict=True):
        whole = size + before + after
        count = (whole - length + (step - 1 if ceil_mode else 0)) // step + 1
        # No window may lie in the padding alone.
        if ceil_mode and before + after > 0 and (count - 1) * step >= size + (before + after) / 2:
            count -= 1
        beyond.append((0, max(0, (count - 1) * step + length - whole)))
    missing = 3 - rank
    return [1] * missing + kernel, [1] * missing + stride, [(0, 0)] * missing + pairs, [(0, 0)] * missing + beyond


def _deep(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], *[1] * (5 - x.dim()), *x.shape[2:])


def _flat(pooled: Tensor, rank: int) -> Tensor:
    return pooled.reshape(*pooled.shape[:2], *pooled.shape[5 - (rank - 2) :])


def _sum(x: Tensor, kernel: list[int], stride: list[int]) -> Tensor:
    return F.avg_pool3d(x, kernel, stride, divisor_override=1)


@op
def max_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    pad_type: str,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    ceil_mode: Tensor | bool = False,
) -> Tensor:
    kernel, stride, pairs, beyond = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    lowest = float("-inf")
    filled = padded(padded(_deep(x), pairs, lowest), beyond, lowest)
    return _flat(F.max_pool3d(filled, kernel, stride), x.dim())


@op
def avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    pad_type: str,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    ceil_mode: Tensor | bool = False,
    exclude_padding_from_average: Tensor | bool = False,
) -> Tensor:
    """A window's sum over the number of its elements, with or without the padding; never with the extra padding."""
    kernel, stride, pairs, beyond = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    deep = _deep(x)
    counted = padded(deep.new_ones(1, 1, *deep.shape[2:]), pairs, 0.0 if exclude_padding_from_average else 1.0)
    total = _sum(padded(padded(deep, pairs), beyond), kernel, stride)
    return _flat(total / _sum(padded(counted, beyond), kernel, stride), x.dim())


@op
def l2_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    pad_type: str,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    ceil_mode: Tensor | bool = False,
) -> Tensor:
    kernel, stride, pairs, beyond = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return _flat(_sum(padded(padded(_deep(x.square()), pairs), beyond), kernel, stride).sqrt(), x.dim())
