"""The deployed forms on whole maps, [B, C, H, W]: each operator takes four axes, and no value has another shape.

XNNPACK computes channels-last. Where ExecuTorch gives it a graph, a map in any other shape is moved first, and moved
back for the next convolution; pools, means over a whole map, and 1x1 convolutions are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeattn.lowering.projections import constant, conv

# XNNPACK joins so many tensors at once.
_MOST_JOINED = 5


@dataclass(frozen=True)
class Cells:
    """What a sum over a map keeps. Along each side, ``over`` values are summed for each of ``kept`` places; where both
    are more than one, places that are ``kept`` apart belong together, as the pixels of patches with one offset do."""

    over: tuple[int, int]
    kept: tuple[int, int]

    @property
    def is_interleaved(self) -> bool:
        """Whether the values of one sum do not lie side by side."""
        return any(n > 1 and m > 1 for n, m in zip(self.over, self.kept, strict=True))

    def masks(self) -> Tensor:
        """[1, P, H, W]: 1 where a pixel belongs to the place, else 0."""
        (nh, nw), (mh, mw) = self.over, self.kept
        number = torch.arange(mh * mw).reshape(mh, mw).repeat(nh, nw)
        one_hot = torch.nn.functional.one_hot(number, mh * mw).permute(2, 0, 1)
        return one_hot[None].double().to(memory_format=torch.channels_last)


class MapMean(nn.Module):
    """The mean over cells that lie side by side: [B, C, H, W] -> [B, C, *kept]."""

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """The means."""
        if self.cells.kept == (1, 1):
            return x.mean(dim=[2, 3], keepdim=True)
        return functional.avg_pool2d(x, self.cells.over)


class MapSum(nn.Module):
    """The same as a sum. ``weight`` is the number of values, as a depthwise convolution."""

    def __init__(self, cells: Cells, channels: int) -> None:
        super().__init__()
        self.mean = MapMean(cells)
        count = float(cells.over[0] * cells.over[1])
        self.scale = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.scale.weight = constant(torch.full((channels, 1, 1, 1), count, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """The sums."""
        result: Tensor = self.scale(self.mean(x))
        return result


class MapLargest(nn.Module):
    """The largest value of each cell: [B, C, H, W] -> [B, C, *kept]."""

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """The largest values."""
        if self.cells.is_interleaved:
            return functional.max_pool2d(x, self.cells.over, stride=1, dilation=self.cells.kept)
        return functional.max_pool2d(x, self.cells.over)


class MapSoftmax(nn.Module):
    """A softmax over each cell: [B, 1, H, W] -> the same shape."""

    masks: Tensor

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.cells, self.largest = cells, MapLargest(cells)
        places = 1
        if cells.is_interleaved:
            places = cells.kept[0] * cells.kept[1]
            self.register_buffer("masks", cells.masks())
        else:
            self.mean = MapMean(cells)
        # A mean becomes a sum, and the places become one map again.
        count = cells.over[0] * cells.over[1] * places
        self.join = conv(torch.full((1, places), 1 / count, dtype=torch.float64), None)

    def forward(self, scores: Tensor) -> Tensor:
        """The weights."""
        largest = self.largest(scores)
        if not self.cells.is_interleaved:
            powers = torch.exp(scores - largest)
            result: Tensor = self.join(powers / self.mean(powers))
            return result
        powers = torch.exp(scores - tiled(largest, self.cells)) * self.masks
        result = self.join(powers / powers.mean(dim=[2, 3], keepdim=True))
        return result


class MapWeightedSum(nn.Module):
    """The weighted sum over each cell: x [B, C, H, W], weights [B, 1, H, W] -> [B, C, *kept]."""

    masks: Tensor

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.cells, self.mean = cells, MapMean(cells)
        count = float(cells.over[0] * cells.over[1])
        self.count = conv(torch.full((1, 1), count, dtype=torch.float64), None)
        if cells.is_interleaved:
            self.register_buffer("masks", cells.masks() * count * cells.kept[0] * cells.kept[1])

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """The sums: means of what is as many times as large, on the map that has one channel."""
        if not self.cells.is_interleaved:
            result: Tensor = self.mean(x * self.count(weights))
            return result
        apart = weights * self.masks
        height, width = self.cells.kept
        sums = [(x * apart[:, p : p + 1]).mean(dim=[2, 3], keepdim=True) for p in range(height * width)]
        rows = [joined(sums[i * width : (i + 1) * width], 3) for i in range(height)]
        return joined(rows, 2)


class MapTile(nn.Module):
    """A value for each place of the cells, at every pixel that belongs to it: [B, C, *kept] -> [B, C, H, W]."""

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """The map."""
        return tiled(x, self.cells)


class NormaliseMap(nn.Module):
    """[B, C, H, W] less its mean over groups of channels, over its standard deviation; ``places``: over H and W too.

    Means over channels are 1x1 convolutions, and the epsilon is the bias of one. ``halves``: squares and their sum stay
    within fp16, as in :func:`edgeattn.lowering.forms.normalise_half`; what values are divided by is the mean of the
    channels' largest ones.
    """

    root: Tensor
    eighth: Tensor

    def __init__(self, epsilon: float, average: Tensor, *, places: bool) -> None:
        super().__init__()
        self.places, self.halves = places, False
        self.average = constant(average[:, :, None, None])  # [groups, C], or [C, C]
        self.eightfold = constant(8 * average[:, :, None, None])
        self.epsilon = constant(torch.full((len(average),), epsilon, dtype=average.dtype))
        self.least = constant(torch.full((len(average),), 2.0**-10, dtype=average.dtype))
        self.register_buffer("root", torch.full((1, 1, 1, 1), epsilon**0.5, dtype=average.dtype))
        self.register_buffer("eighth", torch.full((1, 1, 1, 1), 0.125, dtype=average.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        z = x - functional.conv2d(self._mean(x), self.average)
        if not self.halves:
            return z * torch.rsqrt(functional.conv2d(self._mean(z * z), self.average, self.epsilon))
        sizes = z.abs()
        largest = functional.max_pool2d(sizes, sizes.shape[2:]) if self.places else sizes
        scale = functional.conv2d(largest, self.average, self.least)
        unit, root = z / scale, self.root / scale
        # XNNPACK would fuse a square and its mean into an op that has no fp16 kernel, and compute the rest in fp32.
        squares = self._mean(unit * (unit * self.eighth))
        return unit * torch.rsqrt(functional.conv2d(squares, self.eightfold) + root * root)

    def _mean(self, x: Tensor) -> Tensor:
        return x.mean(dim=[2, 3], keepdim=True) if self.places else x


def tiled(x: Tensor, cells: Cells) -> Tensor:
    """[B, C, *kept] -> [B, C, H, W]: repeated along each side."""
    # Two tensors of the same values: ExecuTorch's partitioner wants a concatenation to have different inputs.
    same = x, torch.maximum(x, x)
    for dim, n in zip((3, 2), cells.over[::-1], strict=True):
        for step in _steps(n):
            same = _repeated(same, step, dim), _repeated(same[::-1], step, dim)
    return same[0]


def _repeated(same: tuple[Tensor, Tensor], times: int, dim: int) -> Tensor:
    return joined([same[k % 2] for k in range(times)], dim)


def _steps(times: int) -> list[int]:
    """Factors of a number, of which none is 1."""
    factors, factor = [], _MOST_JOINED
    while times > 1:
        factor = next((f for f in range(min(factor, times), 1, -1) if times % f == 0), times)
        factors.append(factor)
        times //= factor
    return factors


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Tensors, one behind the other."""
    while len(parts) > 1:
        some = [parts[i : i + _MOST_JOINED] for i in range(0, len(parts), _MOST_JOINED)]
        parts = [torch.cat(list(each), dim) if len(each) > 1 else each[0] for each in some]
    return parts[0]
