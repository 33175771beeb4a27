"""SSDLite on MobileViTv2: Liu et al., arXiv 1512.02325, section 2, with the separable convolutions of MobileNetV2
(arXiv 1801.04381, section 6.2), in the sizes of Apple's CVNets."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.sample_models import Model, _dense_checkpoints
from edgeattn.sample_models._signal import settle
from edgeattn.sample_models.mobilevitv2 import PATCH, MobileViTv2, convolution, initialise


@dataclass(frozen=True)
class Level:
    """A map that boxes are found on: its stride (0: it is one value, the mean), its channels, and the aspect ratios of
    its boxes beside 1."""

    stride: int
    channels: int
    ratios: tuple[int, ...] = (2, 3)

    @property
    def anchors(self) -> int:
        """At each place: a small square, a bigger one, and each ratio lying and upright."""
        return 2 + 2 * len(self.ratios)


LEVELS = (Level(16, 512), Level(32, 256), Level(64, 256), Level(128, 128), Level(256, 128), Level(0, 64, (2,)))
# Sides of the small square, relative to the image: of the first level, and of the one that would follow the last.
SMALLEST, LARGEST = 0.1, 1.05
# How far an output of 1 moves a box, in sides of its anchor, and the logarithm by which it grows.
MOVES, GROWS = 0.1, 0.2


class Separable(nn.Module):
    """A depthwise 3x3 of stride 2, and a 1x1. Only the second has an activation."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.depthwise = convolution(inside, inside, 3, stride=2, groups=inside, activation=None)
        self.pointwise = convolution(inside, outside, 1, activation=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inside, H, W] -> [B, outside, H / 2, W / 2]."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


class Head(nn.Module):
    """Where the boxes of one level lie and what they hold, by a separable convolution; by a 1x1 if the map is one
    value. A map of other channels than the level's is projected."""

    def __init__(self, inside: int, level: Level, num_classes: int) -> None:
        super().__init__()
        self.outputs = 4 + num_classes
        project = level.stride and inside != level.channels
        self.project = convolution(inside, level.channels, 1, activation=nn.ReLU) if project else nn.Identity()
        self.depthwise = (
            convolution(level.channels, level.channels, 3, groups=level.channels, activation=None)
            if level.stride
            else nn.Identity()
        )
        self.predict = nn.Conv2d(level.channels, level.anchors * self.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inside, H, W] -> [B, H * W * anchors, 4 + num_classes]."""
        y: Tensor = self.predict(self.depthwise(self.project(x)))
        return y.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.outputs)


class SSDLite(nn.Module):
    """MobileViTv2, four more maps, a head on each of six, and its boxes decoded. What overlaps is left in: no NMS.

    Args:
        width: of MobileViTv2.
        image_size: side of the images; the anchors depend on it.
        num_classes: with the background, which is class 0.
    """

    anchors: Tensor

    def __init__(self, width: float, image_size: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = MobileViTv2(width, features=True)
        fourth, fifth = self.backbone.channels[-2:]
        inside = (fourth, fifth, *(level.channels for level in LEVELS[2:]))
        self.extra = nn.ModuleDict(
            {
                str(level.stride): Separable(channels, level.channels)
                for channels, level in zip(inside[1:4], LEVELS[2:5], strict=True)
            }
        )
        self.pooled = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inside[-2], inside[-1], 1, bias=False), nn.ReLU()
        )
        self.heads = nn.ModuleList(
            [Head(channels, level, num_classes) for channels, level in zip(inside, LEVELS, strict=True)]
        )
        self.register_buffer("anchors", anchors(image_size), persistent=False)
        for part in (self.extra, self.pooled, self.heads):
            initialise(part)

    def predictions(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, anchors, 4 + num_classes]: for each anchor, how its box differs, and class logits."""
        maps = list(self.backbone(image)[-2:])
        for extra in (*self.extra.values(), self.pooled):
            maps.append(extra(maps[-1]))
        return torch.cat([head(x) for head, x in zip(self.heads, maps, strict=True)], dim=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, S, S] -> boxes [B, anchors, 4] as left, top, right, bottom, where the image is from 0 to 1, and
        probabilities [B, anchors, num_classes]."""
        predictions = self.predictions(image)
        places, sizes = self.anchors[:, :2], self.anchors[:, 2:]
        centre = places + MOVES * predictions[..., :2] * sizes
        half = torch.exp(GROWS * predictions[..., 2:4]) * sizes / 2
        return torch.cat([centre - half, centre + half], dim=-1), predictions[..., 4:].softmax(dim=-1)


def anchors(image_size: int) -> Tensor:
    """[anchors, 4] as centre x and y, width and height, from 0 to 1; by level, row, column, and box of a place."""
    steps = (LARGEST - SMALLEST) / len(LEVELS)
    boxes = []
    for n, (level, side) in enumerate(zip(LEVELS, sides(image_size), strict=True)):
        small, next_small = SMALLEST + n * steps, SMALLEST + (n + 1) * steps
        big = (small * next_small) ** 0.5
        shapes = [(small, small), (big, big)]
        for ratio in level.ratios:
            shapes += [(small * ratio**0.5, small / ratio**0.5), (small / ratio**0.5, small * ratio**0.5)]
        places = [(place + 0.5) / side for place in range(side)]
        boxes += [(x, y, width, height) for y in places for x in places for width, height in shapes]
    return torch.tensor(boxes).clamp(0, 1)


def sides(image_size: int) -> list[int]:
    """Of the maps of all levels. Every stride rounds up, and MobileViTv2's blocks round up to whole patches."""
    found = [-(-image_size // 4)]
    for _ in (8, 16, 32):
        found.append(-(-found[-1] // 2 // PATCH) * PATCH)
    for _ in LEVELS[2:5]:
        found.append(-(-found[-1] // 2))
    return [*found[2:], 1]


def build(width: float = 1.0, image_size: int = 320, num_classes: int = 81) -> tuple[nn.Module, dict[str, Tensor]]:
    """SSDLite on MobileViTv2, random weights; boxes and the probabilities of num_classes, without NMS.

    CVNets has 81 classes for COCO: 80, and the background, which is class 0.
    """
    for name, value in (("width", width), ("image_size", image_size), ("num_classes", num_classes)):
        if value <= 0:
            raise BadInputError(f"{name} must be above 0, not {value}")
    model = SSDLite(width, image_size, num_classes)
    settle(model, image_size, pictures=8)  # the small maps are another matter at another size
    return model.eval(), {"image": torch.randn(1, 3, image_size, image_size)}


class Sample(Model):
    build = staticmethod(build)
    recognise = staticmethod(_dense_checkpoints.recogniser("ssdlite"))


MODEL: Model = Sample()
