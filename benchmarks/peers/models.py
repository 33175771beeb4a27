"""One set of weights for MobileViTv2-1.0, in the forms of everybody: what is measured differs in its form alone."""

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import real_timm
from edgeattn.sample_models._checkpoints import recognise
from edgeattn.sample_models.mobilevitv2 import PATCH, MobileViTBlock, build

CLASSES = 1000


def reference() -> tuple[nn.Module, Tensor]:
    """Our MobileViTv2-1.0, and an image [1, 3, 256, 256].

    The weights are random, but no norm is left at the identity: a wrong fold of one would be seen in the outputs.
    """
    torch.manual_seed(0)
    model, inputs = build(width=1.0, image_size=256, num_classes=CLASSES)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases, and scales and shifts of norms
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.train()
        model(torch.randn(8, 3, 256, 256))  # the BatchNorms take the statistics of noise
    return model.eval(), inputs["image"]


def give_weights(theirs: nn.Module, ours: Mapping[str, Tensor]) -> None:
    """Load a state dict of our MobileViTv2 into timm's or transformers', by the key map of their checkpoints."""
    keys = theirs.state_dict()
    checkpoint = recognise(keys)
    assert checkpoint is not None
    theirs.load_state_dict({key: ours[name] for key, name in zip(keys, checkpoint.state, strict=True)})


class Logits(nn.Module):
    """A transformers model that gives its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, classes]."""
        logits: Tensor = self.model(image).logits
        return logits


def transformers_form(ours: nn.Module) -> nn.Module:
    """transformers' own model with our weights."""
    real_timm.declare_operators()
    from transformers import MobileViTV2Config, MobileViTV2ForImageClassification

    model = MobileViTV2ForImageClassification(MobileViTV2Config(num_labels=CLASSES))
    give_weights(model, ours.state_dict())
    return Logits(model).eval()


class UnfoldBlock(nn.Module):
    """Our block as CVNets writes it: F.unfold before the transformer layers, F.fold behind them."""

    def __init__(self, block: MobileViTBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same; H and W are whole patches."""
        x = self.block.local(x)
        batch, dim, height, width = x.shape
        patches = F.unfold(x, PATCH, stride=PATCH).reshape(batch, dim, PATCH * PATCH, -1)
        patches = self.block.norm(self.block.layers(patches)).reshape(batch, dim * PATCH * PATCH, -1)
        y: Tensor = self.block.project(F.fold(patches, (height, width), PATCH, stride=PATCH))
        return y


def cvnets_form(ours: nn.Module) -> nn.Module:
    """A stand-in for CVNets' model, which is on no registry: our model, every block in CVNets' form."""
    model = copy.deepcopy(ours)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MobileViTBlock):
                setattr(parent, name, UnfoldBlock(child))
    return model.eval()
