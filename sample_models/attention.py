"""The layer alone: separable self-attention over P pixels and N patches."""

from typing import TYPE_CHECKING

from edgeattn.errors import BadInputError
from edgeattn.sample_models import Model

if TYPE_CHECKING:
    from torch import Tensor, nn


def build(
    embed_dim: int = 128,
    pixels: int = 4,
    patches: int = 256,
    bias: bool = True,
    cross: bool = False,
    kind: str = "separable",
) -> "tuple[nn.Module, dict[str, Tensor]]":
    """One LinearSelfAttention with random weights, or another kind to compare it with; cross gives it a second input.

    Kinds: separable, channels_last_linear, multi_head (8 heads), linformer (p = 256).
    """
    import torch

    from edgeattn.attention import LinearSelfAttention
    from edgeattn.sample_models import _attentions

    for name, value in (("embed_dim", embed_dim), ("pixels", pixels), ("patches", patches)):
        if value < 1:
            raise BadInputError(f"{name} must be at least 1, not {value}")
    if kind == "separable":
        layer: nn.Module = LinearSelfAttention(embed_dim, bias=bias).eval()
    elif cross or not bias:
        raise BadInputError(f"cross and bias=false are for separable attention, not for {kind}")
    else:
        layer = _attentions.build(kind, embed_dim, patches).eval()
    inputs = {"x": torch.randn(1, embed_dim, pixels, patches)}
    if cross:
        inputs["x_prev"] = torch.randn(1, embed_dim, pixels, patches)
    return layer, inputs


class Attention(Model):
    build = staticmethod(build)


MODEL: Model = Attention()
