"""A trained sample: MobileViTv2-0.25 that reads handwritten digits; README.md is its model card."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeattn.sample_models import Model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgeattn.sample_models.mobilevitv2 import MobileViTv2

WEIGHTS = Path(__file__).with_name("weights.safetensors")
WIDTH = 0.25


def model() -> "MobileViTv2":
    """The architecture, not trained: [B, 3, 64, 64] -> the logits of ten digits [B, 10]."""
    from edgeattn.sample_models.mobilevitv2 import MobileViTv2

    return MobileViTv2(WIDTH, num_classes=10)


def build() -> "tuple[nn.Module, dict[str, Tensor], dict[str, Any]]":
    """MobileViTv2-0.25 trained on scikit-learn's handwritten digits, with 360 that it never saw.

    Its int8 is calibrated on the others.

    Raises:
        MissingError: scikit-learn, which holds the digits, is not installed.
    """
    from safetensors.torch import load_file

    from edgeattn.sample_models.digits import data

    held_out = data.load("held_out")
    trained = model()
    trained.load_state_dict(load_file(WEIGHTS))
    evaluation = {
        "inputs": held_out.images,
        "labels": held_out.labels,
        "preprocessing": data.PREPROCESSING,
        "calibration": data.load("training").images,
    }
    return trained.eval(), {"image": held_out.images[:1]}, evaluation


class Digits(Model):
    build = staticmethod(build)


MODEL: Model = Digits()
