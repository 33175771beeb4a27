"""The layer alone: separable self-attention over P pixels and N patches."""

from typing import TYPE_CHECKING

from edgeattn.errors import BadInputError

if TYPE_CHECKING:
    from torch import Tensor, nn


def build(
    embed_dim: int = 128, pixels: int = 4, patches: int = 256, bias: bool = True, cross: bool = False
) -> "tuple[nn.Module, dict[str, Tensor]]":
    """One LinearSelfAttention with random weights; with cross, a second input that it attends to."""
    import torch

    from edgeattn.attention import LinearSelfAttention

    for name, value in (("embed_dim", embed_dim), ("pixels", pixels), ("patches", patches)):
        if value < 1:
            raise BadInputError(f"{name} must be at least 1, not {value}")
    layer = LinearSelfAttention(embed_dim, bias=bias).eval()
    inputs = {"x": torch.randn(1, embed_dim, pixels, patches)}
    if cross:
        inputs["x_prev"] = torch.randn(1, embed_dim, pixels, patches)
    return layer, inputs
