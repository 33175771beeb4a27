"""Transformer layers over patches, without unfolding the map into patches.

Every operation of the global representation (arXiv 2206.02680, section 3.3) but the softmax and the sum over N works
pixel by pixel or over the whole tensor, and so does not depend on the order of the pixels. Only the scores and the
context know which of the P offsets in its patch a pixel has. Seen as [rows, patch height, columns, patch width], the
map has the patches on two axes and the offsets on the other two: the softmax runs over the first two, nothing moves.

There is no mask: a constant as far away as one has to be leaves int8 no steps for the scores.

The affine part of each GroupNorm goes into the 1x1 convolutions that read it: W (g * z + b) = (W g) z + W b.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.lowering.projections import constant, conv, linear


@dataclass(frozen=True)
class LayerParts:
    """One transformer layer: GroupNorms with one group, and 1x1 convolutions."""

    norm_attention: nn.GroupNorm
    qkv: nn.Conv2d
    out: nn.Conv2d
    norm_feed_forward: nn.GroupNorm
    expand: nn.Conv2d
    activation: nn.Module
    reduce: nn.Conv2d


def _matrix(projection: nn.Conv2d, norm: nn.GroupNorm | None = None) -> tuple[Tensor, Tensor]:
    """Weight [out, in] and bias [out] of a 1x1 convolution, behind the affine part of ``norm``."""
    weight = projection.weight.detach()[:, :, 0, 0]
    bias = torch.zeros_like(weight[:, 0]) if projection.bias is None else projection.bias.detach()
    if norm is not None and norm.affine:
        bias = bias + weight @ norm.bias.detach()
        weight = weight * norm.weight.detach()
    return weight, bias


def fold_affine(projection: nn.Conv2d, norm: nn.GroupNorm) -> nn.Conv2d:
    """A 1x1 convolution that reads ``norm`` as one that reads it without its affine part."""
    return conv(*_matrix(projection, norm))


class ChannelsFirstLayer(nn.Module):
    """[B, C, H, W] -> the same."""

    def __init__(self, parts: LayerParts) -> None:
        super().__init__()
        d = parts.out.in_channels
        weight, bias = _matrix(parts.qkv, parts.norm_attention)
        self.query = constant(weight[:1])
        self.key = constant(weight[1 : 1 + d])
        self.key_bias = constant(bias[1 : 1 + d, None])
        self.value = conv(weight[1 + d :], bias[1 + d :])
        self.out = conv(*_matrix(parts.out))
        self.expand = conv(*_matrix(parts.expand, parts.norm_feed_forward))
        self.activation = parts.activation
        self.reduce = conv(*_matrix(parts.reduce))
        self.epsilons = (parts.norm_attention.eps, parts.norm_feed_forward.eps)

    def forward(self, x: Tensor, patch: tuple[int, int], offsets: Tensor, pixels: Tensor) -> Tensor:
        z = _normalise_first(x, self.epsilons[0])
        flat = z.flatten(2)
        grid = _grid(x.shape[2:], patch)
        scores = _softmax(torch.matmul(self.query, flat).reshape(x.shape[0], *grid), (-4, -2))
        # One column an offset, with the scores of its own pixels: [B, H * W, P].
        columns = scores.reshape(x.shape[0], -1, 1) * offsets
        context = torch.matmul(flat, columns)  # [B, C, P]
        key = torch.matmul(self.key, context) + self.key_bias
        x = x + self.out(F.relu(self.value(z)) * torch.matmul(key, pixels).reshape(x.shape))
        z = _normalise_first(x, self.epsilons[1])
        y: Tensor = x + self.reduce(self.activation(self.expand(z)))
        return y


class ChannelsLastLayer(nn.Module):
    """[rows, patch height, columns, patch width, C], a batch before it or not -> the same."""

    def __init__(self, parts: LayerParts) -> None:
        super().__init__()
        d = parts.out.in_channels
        weight, bias = _matrix(parts.qkv, parts.norm_attention)
        self.query = constant(weight[:1])
        self.key = linear(weight[1 : 1 + d], bias[1 : 1 + d])
        self.value = linear(weight[1 + d :], bias[1 + d :])
        self.out = linear(*_matrix(parts.out))
        self.expand = linear(*_matrix(parts.expand, parts.norm_feed_forward))
        self.activation = parts.activation
        self.reduce = linear(*_matrix(parts.reduce))
        self.epsilons = (parts.norm_attention.eps, parts.norm_feed_forward.eps)
        self.normalise = normalise_last

    def forward(self, x: Tensor) -> Tensor:
        z = self.normalise(x, self.epsilons[0])
        # A product and a sum: as a linear layer with one output it would cost two reshapes.
        scores = _softmax((z * self.query).sum(dim=-1, keepdim=True), (-5, -3))
        context = (z * scores).sum(dim=(-5, -3), keepdim=True)
        x = x + self.out(F.relu(self.value(z)) * self.key(context))
        z = self.normalise(x, self.epsilons[1])
        y: Tensor = x + self.reduce(self.activation(self.expand(z)))
        return y


def _grid(size: Sequence[int], patch: tuple[int, int]) -> tuple[int, int, int, int]:
    """(rows of patches, height of one, columns of patches, width of one)."""
    return size[0] // patch[0], patch[0], size[1] // patch[1], patch[1]


def _softmax(scores: Tensor, axes: tuple[int, int]) -> Tensor:
    """Over the two ``axes``, rows and columns of patches: each offset has its own."""
    powers = torch.exp(scores - scores.amax(dim=axes, keepdim=True))
    return powers / powers.sum(dim=axes, keepdim=True)


class PatchFreeLayers(nn.Module):
    """The layers and the last norm, without its affine part: [B, C, H, W] or [B, H, W, C] -> the same.

    Args:
        parts: the layers.
        epsilon: of the last norm.
        size: (H, W) of the map, which the constants are made for; whole patches.
        patch: (height, width) of a patch.
        channels_last: the layout.
    """

    def __init__(
        self,
        parts: Sequence[LayerParts],
        epsilon: float,
        size: tuple[int, int],
        patch: tuple[int, int],
        *,
        channels_last: bool,
    ) -> None:
        super().__init__()
        form = ChannelsLastLayer if channels_last else ChannelsFirstLayer
        self.layers = nn.ModuleList(form(part) for part in parts)
        self.epsilon = epsilon
        self.normalise = normalise_last
        self.patch, self.channels_last = patch, channels_last
        if not channels_last:
            # Core ML has five axes at most, one too few: a one-hot matrix says which offset a pixel has.
            rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
            offset = (rows % patch[0] * patch[1] + columns % patch[1]).flatten()
            one_hot = F.one_hot(offset, patch[0] * patch[1]).to(parts[0].qkv.weight.dtype)  # [H * W, P]
            self.register_buffer("offsets", one_hot)
            self.register_buffer("pixels", one_hot.t().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        if not self.channels_last:
            for layer in self.layers:
                x = layer(x, self.patch, self.offsets, self.pixels)
            return _normalise_first(x, self.epsilon)
        batch, height, width, channels = x.shape
        # A batch of one has no axis: XNNPACK supports six at most, and five are faster.
        cells = x.reshape(*([batch] if batch > 1 else []), *_grid((height, width), self.patch), channels)
        for layer in self.layers:
            cells = layer(cells)
        return self.normalise(cells, self.epsilon).reshape(x.shape)


def _normalise_first(x: Tensor, epsilon: float) -> Tensor:
    """GroupNorm with one group and no affine part. The sums run over each channel, then over the channels: as one long
    instance norm it is one op and 2 % of a model faster, but onnxruntime adds the squares of the whole map in one
    chain, and the error is ten times as large."""
    z = x - x.mean(dim=(2, 3), keepdim=True).mean(dim=1, keepdim=True)
    variance = (z * z).mean(dim=(2, 3), keepdim=True).mean(dim=1, keepdim=True)
    return z * torch.rsqrt(variance + epsilon)


def normalise_last(x: Tensor, epsilon: float) -> Tensor:
    """The same over the last five axes, in one step, which XNNPACK sums well. It would fuse z * z and its mean into an
    op that has no fp16 kernel; the powers of two, which are exact, keep it from that."""
    axes = (-5, -4, -3, -2, -1)
    z = x - x.mean(dim=axes, keepdim=True)
    variance = (z * (z * 0.125)).mean(dim=axes, keepdim=True) * 8
    return z * torch.rsqrt(variance + epsilon)


def normalise_half(x: Tensor, epsilon: float) -> Tensor:
    """The same, in which no value is larger than the largest of z: squares and their sum stay within fp16, whatever
    the scale of x. Flat maps are not scaled up by more than 1,024, and the epsilon is never a number by itself, of
    which fp16 would keep seven bits."""
    axes = (-5, -4, -3, -2, -1)
    z = x - x.mean(dim=axes, keepdim=True)
    shrink = 1 / (z.abs().amax(dim=axes, keepdim=True) + 2.0**-10)
    unit = z * shrink
    variance = (z * unit).mean(dim=axes, keepdim=True) * shrink  # of unit: at most 1
    root = shrink * epsilon**0.5
    return unit * torch.rsqrt(variance + root * root)


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
