"""scikit-learn's handwritten digits, enlarged, and their only split, for training and for evaluation.

The 1,797 pictures of 8x8 pixels, grey values 0 to 16, are inside the package scikit-learn: no network.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeattn.errors import MissingError

SIDE = 64
SEED = 0
HELD_OUT = 360

# How `load` makes an input from a picture; the manifest of every bundle holds it.
PREPROCESSING: dict[str, Any] = {
    "image_size": SIDE, "interpolation": "bilinear", "channels": "grey",
    "largest_pixel": 16, "scale": 1 / 16, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0],
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One side of the split: images [n, 3, SIDE, SIDE] from 0 to 1, labels [n] (int64), and their indices [n]
    in scikit-learn's order."""

    images: Tensor
    labels: Tensor
    indices: Tensor


def load(part: Literal["training", "held_out"]) -> Part:
    """The training pictures, or the ``HELD_OUT`` that training never sees; every digit has its share in both.

    Raises:
        MissingError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise MissingError.package("scikit-learn", extra="demo") from error
    pixels, labels = load_digits(return_X_y=True)
    training, held_out = train_test_split(range(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=SEED)
    indices = sorted(training if part == "training" else held_out)
    return Part(enlarge(torch.from_numpy(pixels[indices])), torch.from_numpy(labels[indices]), torch.tensor(indices))


def enlarge(pixels: Tensor) -> Tensor:
    """[n, 64] grey values from 0 to 16 -> [n, 3, SIDE, SIDE] from 0 to 1."""
    grey = pixels.float().reshape(-1, 1, 8, 8) / 16
    image = F.interpolate(grey, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return image.repeat(1, 3, 1, 1)
