"""A small MobileViTv2 around the attention (arXiv 2206.02680, section 3.3), in the ways in which people write it."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from spelled_attention import Attention
from torch import Tensor, nn

Cells = Callable[[Tensor], Tensor]


def _reshaped(x: Tensor) -> Tensor:
    b, c, height, width = x.shape
    cells = x.reshape(b, c, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return cells.reshape(b, c, 4, -1)


def _shaped_back(y: Tensor, height: int, width: int) -> Tensor:
    b, c = y.shape[:2]
    return y.reshape(b, c, 2, 2, height // 2, width // 2).permute(0, 1, 4, 2, 5, 3).reshape(b, c, height, width)


def _in_another_order(y: Tensor, height: int, width: int) -> Tensor:
    """The offsets in a patch column by column: not where they came from."""
    b, c = y.shape[:2]
    return y.reshape(b, c, 2, 2, height // 2, width // 2).permute(0, 1, 4, 3, 5, 2).reshape(b, c, height, width)


def _one_hot(channels: int, like: Tensor) -> Tensor:
    return torch.eye(4, dtype=like.dtype).reshape(4, 1, 2, 2).repeat(channels, 1, 1, 1)


def _one_hot_cells(x: Tensor) -> Tensor:
    channels = x.shape[1]
    return F.conv2d(x, _one_hot(channels, x), stride=2, groups=channels).reshape(x.shape[0], channels, 4, -1)


def _one_hot_back(y: Tensor, height: int, width: int) -> Tensor:
    channels = y.shape[1]
    cells = y.reshape(y.shape[0], 4 * channels, height // 2, width // 2)
    return F.conv_transpose2d(cells, _one_hot(channels, y), stride=2, groups=channels)


def _positions(height: int, width: int) -> Tensor:
    """Where in the flat map the pixel of each [P, N] comes from."""
    return _reshaped(torch.arange(height * width).reshape(1, 1, height, width)).flatten()


def _gathered(x: Tensor) -> Tensor:
    return x.flatten(2)[:, :, _positions(*x.shape[2:])].unflatten(2, (4, -1))


def _scattered(y: Tensor, height: int, width: int) -> Tensor:
    return y.flatten(2)[:, :, _positions(height, width).argsort()].unflatten(2, (height, width))


def _sliced(x: Tensor) -> Tensor:
    return torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=2).flatten(3)


def _stacked(y: Tensor, height: int, width: int) -> Tensor:
    cells = y.unflatten(3, (height // 2, width // 2))
    rows = [torch.stack((cells[:, :, 2 * i], cells[:, :, 2 * i + 1]), dim=-1).flatten(-2) for i in (0, 1)]
    return torch.stack(rows, dim=-2).flatten(2, 3)


# Name -> ([B, C, H, W] -> [B, C, P, N], and back with H and W); patches of 2 x 2.
PATCHES: dict[str, tuple[Cells, Callable[[Tensor, int, int], Tensor]]] = {
    "unfold": (
        lambda x: F.unfold(x, 2, stride=2).reshape(x.shape[0], x.shape[1], 4, -1),
        lambda y, height, width: F.fold(y.flatten(1, 2), (height, width), 2, stride=2),
    ),
    "reshape": (_reshaped, _shaped_back),
    "shuffle": (
        lambda x: F.pixel_unshuffle(x, 2).reshape(x.shape[0], x.shape[1], 4, -1),
        lambda y, height, width: F.pixel_shuffle(y.reshape(y.shape[0], -1, height // 2, width // 2), 2),
    ),
    "one-hot": (_one_hot_cells, _one_hot_back),
    "gather": (_gathered, _scattered),
    "slices": (_sliced, _stacked),
}


class Norm(nn.Module):
    """A norm over all values of a sample, with a scale and a shift for each channel; or, wrongly, over fewer."""

    def __init__(self, how: str, dim: int) -> None:
        super().__init__()
        self.how = how
        self.weight, self.bias = nn.Parameter(1 + torch.randn(dim) / 4), nn.Parameter(torch.randn(dim) / 4)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.weight[:, None, None], self.bias[:, None, None]
        if self.how == "written out":
            centred = x - x.mean(dim=(1, 2, 3), keepdim=True)
            return centred * torch.rsqrt(centred.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-5) * scale + shift
        if self.how == "var_mean":
            var, mean = torch.var_mean(x, dim=(1, 2, 3), keepdim=True, correction=0)
            return (x - mean) / (var + 1e-5).sqrt() * scale + shift
        if self.how == "layer":
            last = x.permute(0, 2, 3, 1)
            return (F.layer_norm(last, last.shape[1:]) * self.weight + self.bias).permute(0, 3, 1, 2)
        if self.how == "over channels":
            last = x.permute(0, 2, 3, 1)
            return F.layer_norm(last, last.shape[3:], self.weight, self.bias).permute(0, 3, 1, 2)
        return F.group_norm(x, {"group": 1, "two groups": 2}[self.how], self.weight, self.bias)


class Layer(nn.Module):
    """Norm and attention, norm and two 1x1 convolutions."""

    def __init__(self, spelling: Any, dim: int, attention: nn.Module) -> None:
        super().__init__()
        self.residual, self.keyword = spelling.residual, spelling.cross == "keyword"
        self.norm1, self.norm2 = Norm(spelling.norm, dim), Norm(spelling.norm, dim)
        self.attention = attention
        self.mlp = nn.Sequential(nn.Conv2d(dim, 2 * dim, 1), nn.SiLU(), nn.Conv2d(2 * dim, dim, 1))

    def forward(self, x: Tensor, *source: Tensor) -> Tensor:
        y = call(self.attention, self.norm1(x), *source, keyword=self.keyword)
        x = x + y if self.residual else y
        y = self.mlp(self.norm2(x))
        return x + y if self.residual else y


def call(layer: nn.Module, x: Tensor, *source: Tensor, keyword: bool = False) -> Tensor:
    """Attend to ``source``, if there is one, which is given by name or by its place."""
    return layer(x, x_prev=source[0]) if keyword and source else layer(x, *source)


class Layers(nn.Module):
    """One layer after the other; how many, and which are one and the same, is ``sharing``."""

    def __init__(self, sharing: str, make: Callable[[], nn.Module], *, keyword: bool = False) -> None:
        super().__init__()
        self.sharing, self.keyword = sharing, keyword
        self.layers = nn.ModuleList([make()])
        if sharing == "aliased":
            self.again = self.layers[0]
        if sharing == "loop":
            self.layers.extend([make(), make()])

    def forward(self, x: Tensor, *source: Tensor) -> Tensor:
        if self.sharing == "siamese":
            left, right = (call(self.layers[0], y, *source, keyword=self.keyword) for y in (x, 0.5 * x))
            return left - right
        for layer in self.layers:
            x = call(layer, x, *source, keyword=self.keyword)
        if self.sharing == "aliased":
            x = call(self.again, x, *source, keyword=self.keyword)
        if self.sharing == "twice":
            x = call(self.layers[0], x, *source, keyword=self.keyword)
        return x


class Network(nn.Module):
    """[B, 3, H, W] -> [B, 5, H, W]: a stem, the layers on patches of 2 x 2, a projection."""

    def __init__(self, spelling: Any, dim: int, attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.patches, self.cross = spelling.patches, spelling.cross != "no"
        self.back = _in_another_order if spelling.other_order else PATCHES[spelling.patches][1]
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.SiLU())
        self.expand = nn.Conv2d(6, dim, 1, bias=False)
        self.layers = Layers(spelling.sharing, lambda: Layer(spelling, dim, attention()))
        self.norm = Norm(spelling.norm, dim)
        self.project = nn.Sequential(nn.Conv2d(dim, 5, 1, bias=False), nn.BatchNorm2d(5))

    def forward(self, image: Tensor) -> Tensor:
        x = self.expand(self.stem(image))
        patches = PATCHES[self.patches][0](x)
        attended = self.layers(patches, *((patches,) if self.cross else ()))
        return self.project(self.back(self.norm(attended), *x.shape[2:]))


def bare(spelling: Any, dim: int) -> nn.Module:
    """The attention alone, inside the wrapper that was chosen."""
    attention: nn.Module = Attention(spelling, dim)
    if spelling.wrapper == "DataParallel":
        return nn.DataParallel(attention)
    if spelling.wrapper == "compiled":
        return torch.compile(attention, backend="eager")
    return attention
