"""A trained sample: MobileViTv2-0.5 that tells ten kinds of clothes apart; README.md is its model card."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeattn.errors import BadInputError
from edgeattn.sample_models import Model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgeattn.sample_models.mobilevitv2 import MobileViTv2

WEIGHTS = Path(__file__).with_name("weights.safetensors")
WIDTH = 0.5


def model() -> "MobileViTv2":
    """The architecture, not trained: [B, 3, 64, 64] -> the logits of ten classes [B, 10]."""
    from edgeattn.sample_models.mobilevitv2 import MobileViTv2

    return MobileViTv2(WIDTH, num_classes=10)


def trained(weights: Path = WEIGHTS) -> "MobileViTv2":
    """The same with its weights: they are stored in fp16."""
    from edgeattn.sample_models import _halves

    return _halves.read(model(), weights)


def build(held_out: int = 10_000) -> "tuple[nn.Module, dict[str, Tensor], dict[str, Any]]":
    """MobileViTv2-0.5 trained on Fashion-MNIST, with the first held_out of 10,000 pictures that it never saw.

    500 of them are carried; Debian's dataset-fashion-mnist has all. Its int8 is calibrated on others.
    """
    from edgeattn.sample_models.fashion import data

    if held_out <= 0:
        raise BadInputError(f"held_out must be above 0, not {held_out}")
    pictures, calibration = data.load("held_out")[:held_out], data.load("calibration")
    evaluation = {
        "inputs": data.inputs(pictures.pixels),
        "labels": pictures.classes(),
        "preprocessing": data.PREPROCESSING,
        "calibration": data.inputs(calibration.pixels),
    }
    return trained(), {"image": data.inputs(pictures.pixels[:1])}, evaluation


class Fashion(Model):
    build = staticmethod(build)


MODEL: Model = Fashion()
