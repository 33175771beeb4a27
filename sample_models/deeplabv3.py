"""DeepLabV3 on MobileViTv2: Chen et al., arXiv 1706.05587, section 3.3, in the sizes of Apple's CVNets."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.sample_models import Model, _dense_checkpoints, _segmentation
from edgeattn.sample_models.mobilevitv2 import convolution

# At an output stride of 16; at 8, twice as far.
RATES = (6, 12, 18)


class AtrousPyramid(nn.Module):
    """ASPP: a 1x1 convolution, three 3x3 ones with holes, and the mean of the map, side by side; then a projection.

    CVNets' Dropout, which does nothing after training, is left out.
    """

    def __init__(self, inside: int, outside: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                convolution(inside, outside, 1, activation=nn.ReLU),
                *(convolution(inside, outside, 3, dilation=rate, activation=nn.ReLU) for rate in rates),
            ]
        )
        self.pooled = convolution(inside, outside, 1, activation=nn.ReLU)
        self.project = convolution((len(rates) + 2) * outside, outside, 1, activation=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inside, H, W] -> [B, outside, H, W]."""
        # CVNets resizes this one value to the map, which repeats it.
        mean = self.pooled(F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, *x.shape[-2:])
        y: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), mean], dim=1))
        return y


def build(
    width: float = 1.0, image_size: int = 512, num_classes: int = 21, output_stride: int = 16
) -> tuple[nn.Module, dict[str, Tensor]]:
    """DeepLabV3 on MobileViTv2, random weights; logits of num_classes for each pixel.

    CVNets has output stride 16 for PASCAL VOC (21 classes), 8 for ADE20K (150).
    """
    rates = tuple(rate * 16 // output_stride for rate in RATES) if output_stride in (8, 16) else RATES

    def head(channels: int) -> nn.Module:
        return AtrousPyramid(channels, _segmentation.CHANNELS, rates)

    return _segmentation.build(head, width, image_size, num_classes, output_stride)


class Sample(Model):
    build = staticmethod(build)
    recognise = staticmethod(_dense_checkpoints.recogniser("deeplabv3"))


MODEL: Model = Sample()
