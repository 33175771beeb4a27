"""What separable self-attention is compared with: other attentions of the same interface, [B, C, P, N] in and out.

All attend over the N patches, for each of the P pixels of a patch apart.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgeattn.attention import LinearSelfAttention
from edgeattn.errors import BadInputError

# Beyond so many tokens the scores of all heads at once would take gigabytes.
_LONG = 4096


class MultiHeadAttention(nn.Module):
    """Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, section 3.2.2: quadratic in N.

    Long inputs are attended to by one head after the other: the same sums, with an eighth of the memory.
    """

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
        query, key, value = query * (dim // self.heads) ** -0.5, self.shorten(key), self.shorten(value)
        if key.shape[2] <= _LONG:
            mixed = _attend(query, key, value)
        else:
            one_by_one = zip(*(x.split(1, dim=1) for x in (query, key, value)), strict=True)
            mixed = torch.cat([_attend(*head) for head in one_by_one], dim=1)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, pixels, patches, dim))
        return out.permute(0, 3, 1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.matmul(torch.matmul(query, key.transpose(-2, -1)).softmax(dim=-1), value)


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


class FoldedAttention(nn.Module):
    """The reference with nothing but its key folded: 1x1 convolutions, a split, and the key of one column."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.query_value = nn.Conv2d(dim, 1 + dim, 1)
        self.key = nn.Conv2d(dim, dim, 1)
        self.out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, P, N] -> the same."""
        query, value = self.query_value(x).split([1, self.dim], dim=1)
        context = self.key((x * query.softmax(dim=-1)).sum(dim=-1, keepdim=True))
        out: Tensor = self.out(torch.relu(value) * context.expand_as(value))
        return out

    @classmethod
    def like(cls, layer: LinearSelfAttention) -> "FoldedAttention":
        """The same function as ``layer``, which has biases."""
        assert layer.qkv_proj.bias is not None
        other = cls(layer.embed_dim).to(layer.qkv_proj.weight.dtype)
        sizes = [1, layer.embed_dim, layer.embed_dim]
        (query, key, value), biases = torch.split(layer.qkv_proj.weight, sizes), torch.split(layer.qkv_proj.bias, sizes)
        other.query_value.load_state_dict(
            {"weight": torch.cat([query, value]), "bias": torch.cat([biases[0], biases[2]])}
        )
        other.key.load_state_dict({"weight": key, "bias": biases[1]})
        other.out.load_state_dict(layer.out_proj.state_dict())
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
