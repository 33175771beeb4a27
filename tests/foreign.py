"""Stand-ins with the attribute structure of timm's and CVNets' blocks (timm needs torchvision, which has no CPU build
everywhere; CVNets is on no registry). The arithmetic is the paper's; only names and nesting are theirs."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


def patchwise(x: Tensor, patch: int, inner: Callable[[Tensor], Tensor]) -> Tensor:
    """Unfold [B, C, H, W] to [B, C, P, N], apply ``inner``, fold again."""
    batch, dim, height, width = x.shape
    columns = F.unfold(x, patch, stride=patch).reshape(batch, dim, patch * patch, -1)
    folded = inner(columns).reshape(batch, dim * patch * patch, -1)
    return F.fold(folded, (height, width), patch, stride=patch)


class LinearSelfAttention(nn.Module):
    """timm's: plain convolutions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed_dim = dim
        self.qkv_proj = nn.Conv2d(dim, 1 + 2 * dim, 1)
        self.attn_drop = nn.Dropout(0.0)
        self.out_proj = nn.Conv2d(dim, dim, 1)
        self.out_drop = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv_proj(x).split([1, self.embed_dim, self.embed_dim], dim=1)
        context = (key * self.attn_drop(query.softmax(-1))).sum(-1, keepdim=True)
        return self.out_drop(self.out_proj(F.relu(value) * context.expand_as(value)))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, 2 * dim, 1)
        self.act = nn.SiLU()
        self.drop1 = nn.Dropout(0.0)
        self.norm = nn.Identity()
        self.fc2 = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(self.drop1(self.act(self.fc1(x)))))


class TimmLayer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, dim)
        self.attn = LinearSelfAttention(dim)
        self.drop_path1 = nn.Identity()
        self.norm2 = nn.GroupNorm(1, dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.mlp(self.norm2(x))


class ConvNormAct(nn.Module):
    """timm's convolution and norm."""

    def __init__(self, inside: int, outside: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class TimmBlock(nn.Module):
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.conv_kxk = ConvNormAct(channels, channels, 3, channels)
        self.conv_1x1 = nn.Conv2d(channels, dim, 1, bias=False)
        self.transformer = nn.Sequential(TimmLayer(dim), TimmLayer(dim))
        self.norm = nn.GroupNorm(1, dim)
        self.conv_proj = ConvNormAct(dim, channels, 1)
        self.patch_size = (2, 2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (-(-n // 2) * 2 for n in x.shape[-2:])
        if (height, width) != tuple(x.shape[-2:]):
            x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)
        x = self.conv_1x1(self.conv_kxk(x))
        return self.conv_proj(patchwise(x, 2, lambda p: self.norm(self.transformer(p))))


class ConvLayer2d(nn.Module):
    """CVNets' layer: everything in ``block``."""

    def __init__(
        self, inside: int, outside: int, kernel: int = 1, *, groups: int = 1, norm: bool = False, act: bool = False
    ) -> None:
        super().__init__()
        self.block = nn.Sequential()
        conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, groups=groups, bias=not norm)
        self.block.add_module("conv", conv)
        if norm:
            self.block.add_module("norm", nn.BatchNorm2d(outside))
        if act:
            self.block.add_module("act", nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class CvnetsLinearSelfAttention(LinearSelfAttention):
    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.qkv_proj = ConvLayer2d(dim, 1 + 2 * dim)
        self.out_proj = ConvLayer2d(dim, dim)


class LinearAttnFFN(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pre_norm_attn = nn.Sequential(nn.GroupNorm(1, dim), CvnetsLinearSelfAttention(dim), nn.Dropout(0.0))
        self.pre_norm_ffn = nn.Sequential(
            nn.GroupNorm(1, dim),
            ConvLayer2d(dim, 2 * dim, act=True),
            nn.Dropout(0.0),
            ConvLayer2d(2 * dim, dim),
            nn.Dropout(0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pre_norm_attn(x)
        return x + self.pre_norm_ffn(x)


class CvnetsBlock(nn.Module):
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.local_rep = nn.Sequential(
            ConvLayer2d(channels, channels, 3, groups=channels, norm=True, act=True), ConvLayer2d(channels, dim)
        )
        self.global_rep = nn.Sequential(LinearAttnFFN(dim), LinearAttnFFN(dim), nn.GroupNorm(1, dim))
        self.conv_proj = ConvLayer2d(dim, channels, norm=True)
        self.patch_h = self.patch_w = 2

    def forward(self, x: Tensor) -> Tensor:
        height, width = (-(-n // 2) * 2 for n in x.shape[-2:])
        if (height, width) != tuple(x.shape[-2:]):
            x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)
        return self.conv_proj(patchwise(self.local_rep(x), 2, self.global_rep))
