"""MobileViTv2, plainly from the paper: arXiv 2206.02680, section 3.3 and appendix; sizes as in Apple's CVNets."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.sample_models import Model, _attentions, _dense_checkpoints
from edgeattn.sample_models._signal import settle

PATCH = 2


def make_divisible(value: float, divisor: int, minimum: int | None = None) -> int:
    """The multiple of ``divisor`` nearest to ``value``, at least ``minimum`` and not more than 10 % below ``value``."""
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def convolution(
    inside: int,
    outside: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.SiLU,
) -> nn.Sequential:
    """Convolution, BatchNorm and, mostly, an activation. [B, inside, H, W] -> [B, outside, H / stride, W / stride]."""
    padding = kernel // 2 * dilation
    layers: list[nn.Module] = [
        nn.Conv2d(inside, outside, kernel, stride, padding, dilation=dilation, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
    ]
    return nn.Sequential(*layers) if activation is None else nn.Sequential(*layers, activation())


def initialise(module: nn.Module) -> None:
    """Random weights as CVNets draws them; PyTorch's default lets the signal die out."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand by 2, depthwise 3x3, reduce; with a residual where the shapes allow it."""

    def __init__(self, inside: int, outside: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        hidden = make_divisible(2 * inside, 8)
        self.expand = convolution(inside, hidden, 1)
        self.depthwise = convolution(hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden)
        self.reduce = convolution(hidden, outside, 1, activation=None)
        self.residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """[B, inside, H, W] -> [B, outside, H / stride, W / stride]."""
        y: Tensor = self.reduce(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class TransformerLayer(nn.Module):
    """Norm and attention, norm and feed-forward, each with a residual. The norm is over all of a sample."""

    def __init__(self, dim: int, attention: nn.Module) -> None:
        super().__init__()
        hidden = 2 * dim // 16 * 16
        self.norm_attention = nn.GroupNorm(1, dim)
        self.attention = attention
        self.norm_feed_forward = nn.GroupNorm(1, dim)
        self.expand = nn.Conv2d(dim, hidden, 1)
        self.activation = nn.SiLU()
        self.reduce = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim, P, N] -> the same."""
        x = x + self.attention(self.norm_attention(x))
        y: Tensor = self.reduce(self.activation(self.expand(self.norm_feed_forward(x))))
        return x + y


class MobileViTBlock(nn.Module):
    """Local representation, patches, transformer layers, patches back, projection. No skip connection."""

    def __init__(
        self,
        channels: int,
        dim: int,
        depth: int,
        *,
        dilation: int = 1,
        attention: str = "separable",
        patches: int = 0,
    ) -> None:
        super().__init__()
        self.patch_size = (PATCH, PATCH)
        self.local = nn.Sequential(
            convolution(channels, channels, 3, dilation=dilation, groups=channels),
            nn.Conv2d(channels, dim, 1, bias=False),
        )
        self.layers = nn.Sequential(
            *(TransformerLayer(dim, _attentions.build(attention, dim, patches)) for _ in range(depth))
        )
        self.norm = nn.GroupNorm(1, dim)
        self.project = convolution(dim, channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H', W'], H and W rounded up to whole patches (bilinear, align_corners, as CVNets)."""
        height, width = (-(-n // PATCH) * PATCH for n in x.shape[-2:])
        if (height, width) != tuple(x.shape[-2:]):
            x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)
        x = self.local(x)
        batch, dim = x.shape[:2]
        cells = x.reshape(batch, dim, height // PATCH, PATCH, width // PATCH, PATCH).permute(0, 1, 3, 5, 2, 4)
        patches = self.norm(self.layers(cells.reshape(batch, dim, PATCH * PATCH, -1)))
        cells = patches.reshape(batch, dim, PATCH, PATCH, height // PATCH, width // PATCH).permute(0, 1, 4, 2, 5, 3)
        y: Tensor = self.project(cells.reshape(batch, dim, height, width))
        return y


class MobileViTv2(nn.Module):
    """A stem and five stages, of strides 2, 2, 4, 8, 16 and 32, then mean and a linear classifier.

    Args:
        width: multiplies the channels; the paper has 0.5 to 2.0.
        num_classes: of the classifier.
        features: give the maps of the five stages instead of logits, for dense tasks.
        output_stride: of the last map: 32, or 16 or 8 for dense tasks, as CVNets does it: the last stages then have
            stride 1, and their kernels are dilated to see as far as before.
        attention: of the transformer layers, one of ``_attentions.KINDS``.
        image_size: side of the images, where the attention has to know the number of patches (Linformer).

    Attributes:
        channels: of the maps of the five stages.
    """

    def __init__(
        self,
        width: float = 1.0,
        num_classes: int = 1000,
        *,
        features: bool = False,
        output_stride: int = 32,
        attention: str = "separable",
        image_size: int = 256,
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise BadInputError(f"output_stride must be 8, 16 or 32, not {output_stride}")
        stem = make_divisible(min(max(32 * width, 16), 64), 8, 16)
        first = make_divisible(64 * width, 16)
        second, third, fourth, fifth = (make_divisible(n * width, 8) for n in (128, 256, 384, 512))
        dims = [make_divisible(n * width, 8) for n in (128, 192, 256)]
        # Of the last two stages. The first block of a stage has the dilation of the stage before.
        strides = (2 if output_stride >= 16 else 1, 2 if output_stride == 32 else 1)
        fourth_dilation, fifth_dilation = 2 // strides[0], 4 // strides[0] // strides[1]

        def block(channels: int, dim: int, depth: int, stride: int, dilation: int = 1) -> MobileViTBlock:
            side = -(-image_size // min(stride, output_stride))  # every stride rounds up
            patches = (-(-side // PATCH)) ** 2
            return MobileViTBlock(channels, dim, depth, dilation=dilation, attention=attention, patches=patches)

        self.features = features
        self.stem = convolution(3, stem, 3, stride=2)
        self.stages = nn.ModuleList(
            [
                InvertedResidual(stem, first, 1),
                nn.Sequential(InvertedResidual(first, second, 2), InvertedResidual(second, second, 1)),
                nn.Sequential(InvertedResidual(second, third, 2), block(third, dims[0], 2, 8)),
                nn.Sequential(
                    InvertedResidual(third, fourth, strides[0]), block(fourth, dims[1], 4, 16, fourth_dilation)
                ),
                nn.Sequential(
                    InvertedResidual(fourth, fifth, strides[1], fourth_dilation),
                    block(fifth, dims[2], 3, 32, fifth_dilation),
                ),
            ]
        )
        self.channels = (first, second, third, fourth, fifth)
        self.classifier = nn.Identity() if features else nn.Linear(fifth, num_classes)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """[B, 3, H, W] -> [B, num_classes], or the five maps [B, C, H / stride, W / stride]."""
        x = self.stem(image)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        if self.features:
            return tuple(maps)
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def build(
    width: float = 1.0,
    image_size: int = 256,
    num_classes: int = 1000,
    features: bool = False,
    attention: str = "separable",
) -> tuple[nn.Module, dict[str, Tensor]]:
    """MobileViTv2 with random weights that carry a signal through."""
    for name, value in (("width", width), ("image_size", image_size), ("num_classes", num_classes)):
        if value <= 0:
            raise BadInputError(f"{name} must be above 0, not {value}")
    model = MobileViTv2(width, num_classes, features=features, attention=attention, image_size=image_size)
    # Pictures of 128 are enough, except for Linformer, whose weights depend on the number of patches.
    settle(model, image_size if attention == "linformer" else min(image_size, 128))
    return model.eval(), {"image": torch.randn(1, 3, image_size, image_size)}


class Sample(Model):
    build = staticmethod(build)
    # What `--weights` accepts besides the model's own state dict.
    recognise = staticmethod(_dense_checkpoints.recogniser("mobilevitv2"))


MODEL: Model = Sample()
