"""Transformer layers over patches, without unfolding the map into patches.

Every operation of the global representation (arXiv 2206.02680, section 3.3) but the softmax and the sum over N works
pixel by pixel or over the whole tensor, and so does not care about the order of the pixels. Only the scores and the
context know which of the P offsets in its patch a pixel has: a constant mask gives each offset its own softmax over
the map, and a constant one-hot matrix [P, H * W] brings the context of an offset back to its pixels.

The affine part of each GroupNorm goes into the 1x1 convolutions that read it: W (g * z + b) = (W g) z + W b.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Added to the score of a pixel of another offset: its exponential is exactly 0 in every floating type.
_FAR = -1e4


@dataclass(frozen=True)
class LayerParts:
    """One transformer layer as found: GroupNorms with one group, and 1x1 convolutions."""

    norm_attention: nn.GroupNorm
    qkv: nn.Conv2d
    out: nn.Conv2d
    norm_feed_forward: nn.GroupNorm
    expand: nn.Conv2d
    activation: nn.Module
    reduce: nn.Conv2d


def _matrix(conv: nn.Conv2d, norm: nn.GroupNorm | None = None) -> tuple[Tensor, Tensor]:
    """Weight [out, in] and bias [out] of a 1x1 convolution, behind the affine part of ``norm``."""
    weight = conv.weight.detach()[:, :, 0, 0]
    bias = torch.zeros_like(weight[:, 0]) if conv.bias is None else conv.bias.detach()
    if norm is not None and norm.affine:
        bias = bias + weight @ norm.bias.detach()
        weight = weight * norm.weight.detach()
    return weight, bias


def fold_affine(conv: nn.Conv2d, norm: nn.GroupNorm) -> nn.Conv2d:
    """A 1x1 convolution that reads ``norm`` as one that reads it without its affine part."""
    weight, bias = _matrix(conv, norm)
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, 1)
    folded.weight = nn.Parameter(weight[:, :, None, None].clone(), requires_grad=False)
    folded.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return folded


class _Layers(nn.Module):
    """What both layouts share: the layers, and the constants of one map size."""

    def __init__(self, layers: nn.ModuleList, size: tuple[int, int], patch: tuple[int, int], like: Tensor) -> None:
        super().__init__()
        self.layers = layers
        rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
        offset = (rows % patch[0] * patch[1] + columns % patch[1]).flatten()
        one_hot = F.one_hot(offset, patch[0] * patch[1]).to(like.dtype)  # [H * W, P]
        self.register_buffer("mask", self._oriented((1 - one_hot) * _FAR))
        self.register_buffer("one_hot", self._spread(one_hot))

    def _oriented(self, mask: Tensor) -> Tensor:
        raise NotImplementedError

    def _spread(self, one_hot: Tensor) -> Tensor:
        raise NotImplementedError


class ChannelsFirstLayer(nn.Module):
    """[B, C, H, W] -> the same."""

    def __init__(self, parts: LayerParts) -> None:
        super().__init__()
        d = parts.out.in_channels
        weight, bias = _matrix(parts.qkv, parts.norm_attention)
        self.query = nn.Parameter(weight[:1].clone(), requires_grad=False)
        self.key = nn.Parameter(weight[1 : 1 + d].clone(), requires_grad=False)
        self.key_bias = nn.Parameter(bias[1 : 1 + d, None].clone(), requires_grad=False)
        self.value = _conv(weight[1 + d :], bias[1 + d :])
        self.out = _conv(*_matrix(parts.out))
        self.expand = _conv(*_matrix(parts.expand, parts.norm_feed_forward))
        self.activation = parts.activation
        self.reduce = _conv(*_matrix(parts.reduce))
        self.epsilons = (parts.norm_attention.eps, parts.norm_feed_forward.eps)

    def forward(self, x: Tensor, mask: Tensor, one_hot: Tensor) -> Tensor:
        z = _normalise_first(x, self.epsilons[0])
        flat = z.flatten(2)
        scores = torch.matmul(self.query, flat).reshape(x.shape[0], -1, 1)
        context = torch.matmul(flat, (scores + mask).softmax(dim=1))  # [B, C, P]
        key = torch.matmul(self.key, context) + self.key_bias
        x = x + self.out(F.relu(self.value(z)) * torch.matmul(key, one_hot).reshape(x.shape))
        z = _normalise_first(x, self.epsilons[1])
        y: Tensor = x + self.reduce(self.activation(self.expand(z)))
        return y


class ChannelsFirstLayers(_Layers):
    """The layers and the last norm, without its affine part: [B, C, H, W] -> the same."""

    def __init__(self, parts: list[LayerParts], epsilon: float, size: tuple[int, int], patch: tuple[int, int]) -> None:
        super().__init__(nn.ModuleList(ChannelsFirstLayer(part) for part in parts), size, patch, parts[0].qkv.weight)
        self.epsilon = epsilon

    def _oriented(self, mask: Tensor) -> Tensor:
        return mask.clone()

    def _spread(self, one_hot: Tensor) -> Tensor:
        return one_hot.t().contiguous()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, self.mask, self.one_hot)
        return _normalise_first(x, self.epsilon)


class ChannelsLastLayer(nn.Module):
    """[B, H, W, C] -> the same."""

    def __init__(self, parts: LayerParts) -> None:
        super().__init__()
        d = parts.out.in_channels
        weight, bias = _matrix(parts.qkv, parts.norm_attention)
        self.query = nn.Parameter(weight[:1].clone(), requires_grad=False)
        self.key = _linear(weight[1 : 1 + d], bias[1 : 1 + d])
        self.value = _linear(weight[1 + d :], bias[1 + d :])
        self.out = _linear(*_matrix(parts.out))
        self.expand = _linear(*_matrix(parts.expand, parts.norm_feed_forward))
        self.activation = parts.activation
        self.reduce = _linear(*_matrix(parts.reduce))
        self.epsilons = (parts.norm_attention.eps, parts.norm_feed_forward.eps)

    def forward(self, x: Tensor, mask: Tensor, one_hot: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        z = _normalise_last(x, self.epsilons[0])
        flat = z.reshape(batch, height * width, channels)
        scores = torch.matmul(self.query.expand(batch, 1, channels), flat.transpose(1, 2))
        context = self.key(torch.matmul((scores + mask).softmax(dim=-1), flat))  # [B, P, C]
        spread = torch.matmul(one_hot.expand(batch, *one_hot.shape), context).reshape(x.shape)
        x = x + self.out(F.relu(self.value(z)) * spread)
        z = _normalise_last(x, self.epsilons[1])
        y: Tensor = x + self.reduce(self.activation(self.expand(z)))
        return y


class ChannelsLastLayers(_Layers):
    """The layers and the last norm, without its affine part: [B, H, W, C] -> the same."""

    def __init__(self, parts: list[LayerParts], epsilon: float, size: tuple[int, int], patch: tuple[int, int]) -> None:
        super().__init__(nn.ModuleList(ChannelsLastLayer(part) for part in parts), size, patch, parts[0].qkv.weight)
        self.epsilon = epsilon

    def _oriented(self, mask: Tensor) -> Tensor:
        return mask.t().contiguous()

    def _spread(self, one_hot: Tensor) -> Tensor:
        return one_hot.clone()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, self.mask, self.one_hot)
        return _normalise_last(x, self.epsilon)


def _conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight = nn.Parameter(weight[:, :, None, None].clone(), requires_grad=False)
    conv.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return conv


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight = nn.Parameter(weight.clone(), requires_grad=False)
    linear.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return linear


def _normalise_first(x: Tensor, epsilon: float) -> Tensor:
    """GroupNorm with one group and no affine part, as the instance norm of one long channel: one op, and the fastest
    form in onnxruntime."""
    return F.instance_norm(x.reshape(x.shape[0], 1, -1), eps=epsilon).reshape(x.shape)


def _normalise_last(x: Tensor, epsilon: float) -> Tensor:
    """The same by means. XNNPACK would fuse z * z and its mean into an op that has no fp16 kernel; the powers of two,
    which are exact, keep it from that."""
    z = x - x.mean(dim=(1, 2, 3), keepdim=True)
    variance = (z * (z * 0.125)).mean(dim=(1, 2, 3), keepdim=True) * 8
    return z * torch.rsqrt(variance + epsilon)


class PatchFreeBlock(nn.Module):
    """A whole block, [B, C, H, W] in and out: what ran before the patches, the layers, the projection."""

    def __init__(
        self,
        before: nn.Sequential,
        layers: nn.Module,
        project: nn.Sequential,
        patch: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.before, self.layers, self.project, self.patch = before, layers, project, patch

    def forward(self, x: Tensor) -> Tensor:
        if self.patch is not None:
            height, width = (-(-n // p) * p for n, p in zip(x.shape[-2:], self.patch, strict=True))
            if (height, width) != tuple(x.shape[-2:]):
                x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)
        y: Tensor = self.project(self.layers(self.before(x)))
        return y
