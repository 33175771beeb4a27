"""The models: architectures of timm, transformers and ours, with random weights that carry a signal through."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks import real_timm
from benchmarks.peers.models import Logits
from edgeattn.sample_models import mobilevitv2
from edgeattn.sample_models._signal import _pictures as pictures

BATCHES = 3


@dataclass(frozen=True)
class Member:
    """A model for images [1, 3, side, side]: what it is called, whose it is, and how it is built."""

    name: str
    title: str
    package: str
    side: int
    make: Callable[[], nn.Module]


def build(member: Member) -> tuple[nn.Module, Tensor]:
    """The model in evaluation mode, always with the same weights; and an image."""
    real_timm.declare_operators()
    torch.manual_seed(0)
    model = member.make().eval()
    _settle(model, member.side)
    return model, pictures(1, member.side).float()


def _settle(model: nn.Module, side: int) -> None:
    """Leave no part without effect, and give the BatchNorms the statistics of a few pictures and of noise.

    A scale of 1, a bias of 0 and a layer scale of 1e-6 are what training begins with: something that was lost in a
    conversion would not be missed. Without the noise, which is a case of parity, a network may make it a hundred times
    as large, and rounding errors with it. In float64, so that the weights do not depend on the number of threads.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1 or bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.double()
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                part.momentum = None  # the mean over all batches
                part.reset_running_stats()
                part.train()
        for _ in range(BATCHES):
            model(torch.cat([pictures(1, side), torch.randn(1, 3, side, side, dtype=torch.float64)]))
        model.float().eval()


def _timm(name: str, title: str, side: int) -> Member:
    return Member(name, title, "timm", side, lambda: real_timm.load().create_model(name, num_classes=1000))


def _transformers_mobilevitv2() -> nn.Module:
    from transformers import MobileViTV2Config, MobileViTV2ForImageClassification

    return Logits(MobileViTV2ForImageClassification(MobileViTV2Config(width_multiplier=0.5, num_labels=1000)))


def _transformers_swiftformer() -> nn.Module:
    from transformers import SwiftFormerConfig, SwiftFormerForImageClassification

    return Logits(SwiftFormerForImageClassification(SwiftFormerConfig(num_labels=1000)))


MEMBERS = (
    Member("mobilevitv2", "MobileViTv2-0.5", "edgeattn", 256, lambda: mobilevitv2.MobileViTv2(0.5)),
    _timm("mobilevitv2_050", "MobileViTv2-0.5", 256),
    Member("transformers-mobilevitv2", "MobileViTv2-0.5", "transformers", 256, _transformers_mobilevitv2),
    _timm("swiftformer_xs", "SwiftFormer-XS", 224),
    Member("transformers-swiftformer", "SwiftFormer-XS", "transformers", 224, _transformers_swiftformer),
    _timm("efficientvit_b0", "EfficientViT-B0", 224),
    _timm("efficientvit_b1", "EfficientViT-B1", 224),
    _timm("edgenext_xx_small", "EdgeNeXt-XXS", 256),
    _timm("mobilevit_xs", "MobileViT-XS", 256),
    _timm("fastvit_t8", "FastViT-T8", 256),
    _timm("mobileone_s0", "MobileOne-S0", 224),
    _timm("repvit_m0_9", "RepViT-M0.9", 224),
    _timm("mobilenetv4_conv_small", "MobileNetV4-Conv-S", 224),
    _timm("poolformerv2_s12", "PoolFormerV2-S12", 224),
    _timm("convnext_atto", "ConvNeXt-Atto", 224),
    _timm("levit_128", "LeViT-128", 224),
    _timm("tiny_vit_5m_224", "TinyViT-5M", 224),
)
BY_NAME = {member.name: member for member in MEMBERS}
