"""Matrix products; sums are kept in fp32, integers are multiplied exactly."""

from math import sqrt

import torch
from torch import Tensor

from edgeattn.formats.mil.registry import op


@op
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if x.is_floating_point():
        return torch.nn.functional.linear(x, weight, bias)
    product = x @ weight.T
    return product if bias is None else product + bias


@op
def matmul(x: Tensor, y: Tensor, transpose_x: Tensor | bool = False, transpose_y: Tensor | bool = False) -> Tensor:
    return torch.matmul(
        x.transpose(-1, -2) if transpose_x and x.dim() > 1 else x,
        y.transpose(-1, -2) if transpose_y and y.dim() > 1 else y,
    )


@op
def einsum(values: tuple[Tensor, ...], equation: str) -> Tensor:
    """Axes of length one broadcast, as torch's own einsum does it."""
    return torch.einsum(equation, *values)


@op
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Written out: torch's fused kernels may choose another precision."""
    scores = query @ key.transpose(-1, -2) / sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1) @ value
