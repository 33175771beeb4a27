"""A segmentation network of one's own with separable self-attention inside: FILE.py:FACTORY, as edgeattn takes it.

    edgeattn export examples/segmentation.py:build --arg classes=4 --out seg
    edgeattn parity seg --layers
    edgeattn inspect seg/build-fp32.tflite --max-layout-ops 0

The attention is lowered wherever it stands, and the network around it with it: no file has a layout op.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn import LinearSelfAttention


def block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """A convolution with its norm and activation."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.SiLU(),
    )


class GlobalContext(nn.Module):
    """Norm, attention over all pixels as one patch each, residual: [B, C, H, W] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.GroupNorm(1, channels), LinearSelfAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.norm(x).flatten(2).unsqueeze(2)).reshape(x.shape)


class Segmenter(nn.Module):
    """An encoder to an eighth of the size, attention over the whole image there, and a head at a quarter."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, width, 2), block(width, width, 2))
        self.deep = nn.Sequential(block(width, 2 * width, 2), GlobalContext(2 * width), nn.Conv2d(2 * width, width, 1))
        self.head = nn.Sequential(block(2 * width, width, 1), nn.Conv2d(width, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> logits [B, classes, H / 4, W / 4]; H and W are multiples of 8."""
        fine = self.stem(image)
        coarse = F.interpolate(self.deep(fine), scale_factor=2.0, mode="nearest")
        logits: Tensor = self.head(torch.cat([fine, coarse], dim=1))
        return logits


def build(classes: int = 4, width: int = 16, size: int = 64) -> tuple[nn.Module, Tensor]:
    """The network with random weights, and an example image. Load your own weights with --weights."""
    return Segmenter(classes, width), torch.rand(1, 3, size, size)
