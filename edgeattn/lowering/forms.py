"""The deployed forms: small modules that one can read, which the emitted graph calls.

They compute what the operators on named axes compute, in the order in which a runtime is fast and exact.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeattn.lowering.projections import constant


class NormaliseFirst(nn.Module):
    """[B, C, ...]: GroupNorm with one group and no affine part. The sums run over each channel, then over the channels:
    as one long instance norm it is one op and 2 % of a model faster, but onnxruntime adds the squares of the whole map
    in one chain, and the error is ten times as large."""

    def __init__(self, epsilon: float, axes: Sequence[int]) -> None:
        super().__init__()
        self.epsilon, self.axes = epsilon, list(axes)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        z = x - x.mean(dim=self.axes, keepdim=True).mean(dim=1, keepdim=True)
        variance = (z * z).mean(dim=self.axes, keepdim=True).mean(dim=1, keepdim=True)
        return z * torch.rsqrt(variance + self.epsilon)


class NormaliseChannels(nn.Module):
    """[B, C, H, W]: LayerNorm over the channels, without an affine part. coremltools' pass
    fuse_layernorm_or_instancenorm makes one layer_norm over axis 1 of exactly these operators in this order."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        z = x - x.mean(dim=[1], keepdim=True)
        return z * torch.rsqrt((z * z).mean(dim=[1], keepdim=True) + self.epsilon)


class Normalise(nn.Module):
    """The value less its mean, over its standard deviation, over ``axes``, counted from the last."""

    def __init__(self, epsilon: float, axes: Sequence[int]) -> None:
        super().__init__()
        self.epsilon, self.axes = epsilon, list(axes)
        self.normalise = normalise_last

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return self.normalise(x, self.epsilon, self.axes)


def normalise_last(x: Tensor, epsilon: float, axes: list[int]) -> Tensor:
    """In one step, which XNNPACK sums well. It would fuse z * z and its mean into an op that has no fp16 kernel; the
    powers of two, which are exact, keep it from that."""
    z = x - x.mean(dim=axes, keepdim=True)
    variance = (z * (z * 0.125)).mean(dim=axes, keepdim=True) * 8
    return z * torch.rsqrt(variance + epsilon)


def normalise_half(x: Tensor, epsilon: float, axes: list[int]) -> Tensor:
    """The same, in which no value is larger than the largest of z: squares and their sum stay within fp16, whatever
    the scale of x. Flat maps are not scaled up by more than 1,024, and the epsilon is never a number by itself, of
    which fp16 would keep seven bits."""
    z = x - x.mean(dim=axes, keepdim=True)
    shrink = 1 / (z.abs().amax(dim=axes, keepdim=True) + 2.0**-10)
    unit = z * shrink
    variance = (z * unit).mean(dim=axes, keepdim=True) * shrink  # of unit: at most 1
    root = shrink * epsilon**0.5
    return unit * torch.rsqrt(variance + root * root)


class Score(nn.Module):
    """One value from all channels: [B, C, L] -> [B, 1, L].

    A matrix product and not a convolution: with one output channel a convolution falls out of onnxruntime's blocked
    kernels (benchmarks/layer_speed.py).
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = constant(weight)  # [1, C]

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        return torch.matmul(self.weight, x)


class ScoreLast(nn.Module):
    """One value from all channels: [..., C] -> [..., 1].

    As a linear layer with one output it would cost two reshapes.
    """

    def __init__(self, weight: Tensor, *, keepdim: bool) -> None:
        super().__init__()
        self.weight, self.keepdim = constant(weight), keepdim  # [1, C]

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        return (x * self.weight).sum(dim=-1, keepdim=self.keepdim)


class Columns(nn.Module):
    """A linear map of a few columns: [B, C, L] -> [B, out, L]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = constant(weight)
        self.bias = None if bias is None else constant(bias[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        y = torch.matmul(self.weight, x)
        return y if self.bias is None else y + self.bias


class ToHeads(nn.Module):
    """A linear map of tokens to every head: [L, C] -> [heads, L, d], with weight [heads, C, d], bias [heads, 1, d]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = constant(weight)
        self.bias = None if bias is None else constant(bias)

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        y = torch.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias


class FromHeads(nn.Module):
    """A linear map of all heads' tokens: [heads, L, d] -> [L, out], with weight [heads, d, out] and bias [out]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = constant(weight)
        self.bias = None if bias is None else constant(bias)

    def forward(self, x: Tensor) -> Tensor:
        """The product, summed over the heads."""
        y = torch.matmul(x, self.weight).sum(dim=0)
        return y if self.bias is None else y + self.bias


class SplitSoftmax(nn.Module):
    """A softmax over several axes that are not side by side: each place on the others has its own."""

    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = list(axes)

    def forward(self, scores: Tensor) -> Tensor:
        """The same shape."""
        powers = torch.exp(scores - scores.amax(dim=self.axes, keepdim=True))
        return powers / powers.sum(dim=self.axes, keepdim=True)


class PatchSum(nn.Module):
    """The weighted sum of a map over its patches, without unfolding it: only the pixel's offset in its patch is kept.

    Seen as [rows, patch height, columns, patch width], a map has six axes with batch and channels, one more than Core
    ML takes: a one-hot matrix says which offset a pixel has. There is no mask: a constant as far away as one has to be
    leaves int8 no steps for the scores.
    """

    offsets: Tensor

    def __init__(self, offsets: Tensor) -> None:
        super().__init__()
        self.register_buffer("offsets", offsets)  # [L, P], one-hot

    def forward(self, x: Tensor, scores: Tensor) -> Tensor:
        """x [B, C, L], scores [B, L, 1] -> [B, C, P]."""
        return torch.matmul(x, scores * self.offsets)


class PatchSpread(nn.Module):
    """A value for each offset in a patch, at every pixel with that offset: [B, C, P] -> [B, C, L]."""

    pixels: Tensor

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        self.register_buffer("pixels", pixels)  # [P, L], one-hot

    def forward(self, x: Tensor) -> Tensor:
        """The value of its offset, at each pixel."""
        return torch.matmul(x, self.pixels)


def euclidean(x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    """The Euclidean norm over some axes."""
    result: Tensor = torch.sqrt((x * x).sum(dim, keepdim=keepdim))
    return result


def largest_at(x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    """Where the largest value is along one axis; an axis that was cut since has no one place."""
    if len(dim) != 1:
        raise ValueError("the place in several axes")
    return x.argmax(dim[0], keepdim)


def euclidean_in_parts(x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    """The same: litert-torch makes an L2_NORMALIZATION, which XNNPACK lacks, of the plain form."""
    result: Tensor = torch.sqrt((x * (x * 0.125)).sum(dim, keepdim=keepdim) * 8)
    return result
