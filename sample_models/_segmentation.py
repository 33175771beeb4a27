"""What DeepLabV3 and PSPNet share: MobileViTv2 below, a classifier for each pixel above; as Apple's CVNets has them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.sample_models._signal import settle
from edgeattn.sample_models.mobilevitv2 import MobileViTv2, initialise

CHANNELS = 512


class Segmenter(nn.Module):
    """MobileViTv2, a head on its last map, a 1x1 classifier, and its logits resized to the image.

    Args:
        head: makes the head for so many channels [B, C, h, w] -> [B, 512, h, w].
        width: of MobileViTv2.
        num_classes: of a pixel, with the background.
        output_stride: of the last map.
    """

    def __init__(self, head: Callable[[int], nn.Module], width: float, num_classes: int, output_stride: int) -> None:
        super().__init__()
        self.backbone = MobileViTv2(width, features=True, output_stride=output_stride)
        self.head = head(self.backbone.channels[-1])
        self.classifier = nn.Conv2d(CHANNELS, num_classes, 1)
        initialise(self.head)
        initialise(self.classifier)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> logits [B, num_classes, H, W]."""
        logits = self.classifier(self.head(self.backbone(image)[-1]))
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)


def build(
    head: Callable[[int], nn.Module], width: float, image_size: int, num_classes: int, output_stride: int
) -> tuple[nn.Module, dict[str, Tensor]]:
    """A :class:`Segmenter` with random weights that carry a signal through, and a random image."""
    for name, value in (("width", width), ("image_size", image_size), ("num_classes", num_classes)):
        if value <= 0:
            raise BadInputError(f"{name} must be above 0, not {value}")
    model = Segmenter(head, width, num_classes, output_stride)
    settle(model, min(image_size, 128), pictures=8)  # behind the mean of a map, a picture is one value
    return model.eval(), {"image": torch.randn(1, 3, image_size, image_size)}
