"""Activations to eight bits and back, by a scale for the whole tensor or for each slice along an axis."""

import torch
from torch import Tensor

from edgeattn.formats.mil.ops.elementwise import TORCH_TYPES
from edgeattn.formats.mil.registry import op


def along(values: Tensor, axis: Tensor | int | None, rank: int) -> Tensor:
    """A scale or zero point as it broadcasts: a scalar, or a vector along ``axis``."""
    if axis is None or values.dim() == 0:
        return values
    return values.reshape([-1 if i == int(axis) % rank else 1 for i in range(rank)])


@op
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    steps = torch.round(input / along(scale, axis, input.dim()))
    if zero_point is not None:
        steps = steps + along(zero_point, axis, input.dim())
    dtype = TORCH_TYPES[output_dtype]
    limits = torch.iinfo(dtype)
    return steps.clamp(limits.min, limits.max).to(dtype)


@op
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    steps = input.float()
    if zero_point is not None:
        steps = steps - along(zero_point, axis, input.dim()).float()
    return steps * along(scale, axis, input.dim())
