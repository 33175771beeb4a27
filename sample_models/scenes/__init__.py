"""A trained sample with dense outputs: MobileViTv2-0.5 with LR-ASPP's head names the garment at every fourth pixel."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeattn.errors import BadInputError
from edgeattn.sample_models import Model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgeattn.sample_models.scenes.model import Segmenter

WEIGHTS = Path(__file__).with_name("weights.safetensors")
HELD_OUT_SEED = 1


def trained(weights: Path = WEIGHTS) -> "Segmenter":
    """The model with its weights: they are stored in fp16."""
    from edgeattn.sample_models import _halves
    from edgeattn.sample_models.scenes.model import Segmenter

    return _halves.read(Segmenter(), weights)


def build(held_out: int = 100) -> "tuple[nn.Module, dict[str, Tensor], dict[str, Any]]":
    """MobileViTv2-0.5 with LR-ASPP's head, trained on drawn scenes of clothes, with others of clothes it never saw.

    Its int8 is calibrated on scenes of others again.
    """
    from edgeattn.sample_models.fashion import data as fashion
    from edgeattn.sample_models.scenes import data

    if held_out <= 0:
        raise BadInputError(f"held_out must be above 0, not {held_out}")
    scenes = data.draw(held_out, fashion.carried("held_out"), HELD_OUT_SEED)
    images = fashion.images(scenes.images)
    calibration = data.draw(64, fashion.carried("calibration"), HELD_OUT_SEED)
    evaluation = {
        "inputs": images,
        "labels": scenes.classes.long(),
        "preprocessing": data.PREPROCESSING,
        "calibration": fashion.images(calibration.images),
    }
    return trained(), {"image": images[:1]}, evaluation


class ScenesOfClothes(Model):
    build = staticmethod(build)


MODEL: Model = ScenesOfClothes()
