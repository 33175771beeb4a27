"""MobileViTv2-0.5 with the head of LR-ASPP (A. Howard et al., "Searching for MobileNetV3", arXiv 1905.02244, section
6.4), at strides 4 and 16 instead of 8 and 16: the images are small."""

import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.sample_models.fashion import WIDTH
from edgeattn.sample_models.mobilevitv2 import MobileViTv2, convolution, initialise
from edgeattn.sample_models.scenes.data import LABELS

_BETWEEN = 64


class Segmenter(nn.Module):
    """[B, 3, H, W] -> logits [B, 11, H / 4, W / 4]; H and W are multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MobileViTv2(WIDTH, features=True)
        _, low, _, high, _ = self.backbone.channels
        self.project = convolution(high, _BETWEEN, 1, activation=nn.ReLU)
        self.scale = nn.Conv2d(high, _BETWEEN, 1, bias=False)
        self.low = nn.Conv2d(low, len(LABELS), 1)
        self.high = nn.Conv2d(_BETWEEN, len(LABELS), 1)
        for part in (self.project, self.scale, self.low, self.high):
            initialise(part)

    def forward(self, image: Tensor) -> Tensor:
        """The logits."""
        _, low, _, high, _ = self.backbone(image)
        scale = self.scale(F.adaptive_avg_pool2d(high, 1)).sigmoid()
        y = F.interpolate(self.project(high) * scale, size=low.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.low(low) + self.high(y)
        return logits
