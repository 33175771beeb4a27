"""PSPNet on MobileViTv2: Zhao et al., arXiv 1612.01105, section 3.2, in the sizes of Apple's CVNets."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.sample_models import Model, _dense_checkpoints, _segmentation
from edgeattn.sample_models.mobilevitv2 import convolution

# Bins along each side.
BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """Means of the map in 1, 4, 9 and 36 bins, each projected, resized to the map and put beside it; then a fusion.

    CVNets' Dropout, which does nothing after training, is left out.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        inner = max(inside // len(BINS) // 16, 1) * 16
        self.branches = nn.ModuleList([convolution(inside, inner, 1, activation=nn.ReLU) for _ in BINS])
        self.fuse = convolution(inside + len(BINS) * inner, outside, 3, activation=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inside, H, W] -> [B, outside, H, W]."""
        size = x.shape[-2:]
        levels = [
            F.interpolate(branch(pool(x, bins)), size=size, mode="bilinear", align_corners=True)
            for bins, branch in zip(BINS, self.branches, strict=True)
        ]
        y: Tensor = self.fuse(torch.cat([x, *levels], dim=1))
        return y


def pool(x: Tensor, bins: int) -> Tensor:
    """``F.adaptive_avg_pool2d(x, bins)``, [B, C, H, W] -> [B, C, bins, bins], of steps that every format has.

    Where bins divide the map, one pooling. Where not, PyTorch's bins overlap by a row or a column, and not evenly: then
    each is a mean of its own, over rows first, then over columns.
    """
    height, width = x.shape[-2:]
    if height % bins == 0 and width % bins == 0:
        return F.avg_pool2d(x, (height // bins, width // bins))
    for axis in (2, 3):
        length = x.shape[axis]
        edges = [(n * length // bins, -(-(n + 1) * length // bins)) for n in range(bins)]
        x = torch.cat([x.narrow(axis, a, b - a).mean(axis, keepdim=True) for a, b in edges], dim=axis)
    return x


def build(
    width: float = 1.0, image_size: int = 512, num_classes: int = 21, output_stride: int = 16
) -> tuple[nn.Module, dict[str, Tensor]]:
    """PSPNet on MobileViTv2, random weights; logits of num_classes for each pixel.

    CVNets has output stride 16 for PASCAL VOC (21 classes), 8 for ADE20K (150).
    """

    def head(channels: int) -> nn.Module:
        return PyramidPooling(channels, _segmentation.CHANNELS)

    return _segmentation.build(head, width, image_size, num_classes, output_stride)


class Sample(Model):
    build = staticmethod(build)
    recognise = staticmethod(_dense_checkpoints.recogniser("pspnet"))


MODEL: Model = Sample()
