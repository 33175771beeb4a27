"""What separable self-attention is compared with: other attentions of the same interface, [B, C, P, N] in and out.

All attend over the N patches, for each of the P pixels of a patch apart.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgeattn.attention import LinearSelfAttention
from edgeattn.errors import BadInputError


class MultiHeadAttention(nn.Module):
    """Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, section 3.2.2: quadratic in N."""

    def __init__(self, dim: int, heads: int = 8) -> None:
        super().__init__()
        if dim % heads:
            raise BadInputError(f"multi-head attention needs channels that {heads} heads divide, not {dim}")
        self.heads = heads
        self.qkv_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def shorten(self, x: Tensor) -> Tensor:
        """Keys or values [B, heads, tokens, d]; all tokens are kept."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, P, N] -> the same."""
        batch, dim, pixels, patches = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(batch * pixels, patches, dim)
        heads = self.qkv_proj(tokens).reshape(batch * pixels, patches, 3, self.heads, dim // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.matmul(query * (dim // self.heads) ** -0.5, self.shorten(key).transpose(-2, -1))
        mixed = torch.matmul(scores.softmax(dim=-1), self.shorten(value))
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, pixels, patches, dim))
        return out.permute(0, 3, 1, 2)


class Linformer(MultiHeadAttention):
    """Wang et al., arXiv 2006.04768: keys and values are projected from N tokens to p, by one matrix that all heads
    and both of them share (section 4, "layerwise sharing" within a layer). For fewer than p tokens, p is N."""

    def __init__(self, dim: int, patches: int, projected: int = 256, heads: int = 8) -> None:
        super().__init__(dim, heads)
        self.projection = nn.Linear(patches, min(projected, patches), bias=False)

    def shorten(self, x: Tensor) -> Tensor:
        projected: Tensor = self.projection(x.transpose(-2, -1))
        return projected.transpose(-2, -1)


class ChannelsLastLinearAttention(nn.Module):
    """Separable attention as one writes it without the paper's layout: ``nn.Linear``, and the transposes it needs."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.qkv = nn.Linear(dim, 1 + 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, P, N] -> the same."""
        query, key, value = self.qkv(x.permute(0, 2, 3, 1)).split([1, self.dim, self.dim], dim=-1)
        context = (key * query.softmax(dim=2)).sum(dim=2, keepdim=True)
        out: Tensor = self.out(torch.relu(value) * context.expand_as(value))
        return out.permute(0, 3, 1, 2)

    @classmethod
    def like(cls, layer: LinearSelfAttention) -> "ChannelsLastLinearAttention":
        """The same function as ``layer``, which has biases."""
        assert layer.qkv_proj.bias is not None
        assert layer.out_proj.bias is not None
        other = cls(layer.embed_dim).to(layer.qkv_proj.weight.dtype)
        for linear, conv in ((other.qkv, layer.qkv_proj), (other.out, layer.out_proj)):
            linear.load_state_dict({"weight": conv.weight.flatten(1), "bias": conv.bias})
        return other.train(layer.training)


# Name -> (channels, patches) -> layer.
_KINDS: dict[str, Callable[[int, int], nn.Module]] = {
    "separable": lambda dim, patches: LinearSelfAttention(dim),
    "channels_last_linear": lambda dim, patches: ChannelsLastLinearAttention(dim),
    "multi_head": lambda dim, patches: MultiHeadAttention(dim),
    "linformer": lambda dim, patches: Linformer(dim, patches),
}
KINDS = tuple(_KINDS)


def build(kind: str, dim: int, patches: int) -> nn.Module:
    """A layer of one of the :data:`KINDS` for ``dim`` channels and N = ``patches``."""
    if kind not in _KINDS:
        raise BadInputError(f"there is no attention {kind!r}; choose from {', '.join(KINDS)}")
    return _KINDS[kind](dim, patches)
