"""Scenes of clothes, drawn by a seeded generator: garments of Fashion-MNIST on a grey ground, some over others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeattn.sample_models.fashion import data as fashion

SIDE = 128
# Logits are for every fourth pixel.
STRIDE = 4
LABELS = ("ground", *fashion.LABELS)
PREPROCESSING: dict[str, Any] = fashion.PREPROCESSING | {"image_size": SIDE}

# How many garments, and their sides in pixels.
_NUMBER, _SIDES = (3, 6), (36, 64)
# A pixel of a picture is the garment's from this value on; Fashion-MNIST's ground is 0.
_GARMENT = 12


@dataclass(frozen=True)
class Scenes:
    """Grey images [n, 128, 128] and the classes of every fourth pixel [n, 32, 32], uint8 both; class 0 is ground."""

    images: Tensor
    classes: Tensor


def draw(number: int, pictures: fashion.Pictures, seed: int) -> Scenes:
    """``number`` scenes of garments from ``pictures``."""
    random = np.random.default_rng(seed)
    images, classes = (np.zeros((number, SIDE, SIDE), np.uint8) for _ in range(2))
    for image, of_pixels in zip(images, classes, strict=True):
        image[:] = _ground(random)
        for _ in range(random.integers(*_NUMBER, endpoint=True)):
            _put_garment(image, of_pixels, pictures, random)
    middle = STRIDE // 2
    return Scenes(torch.from_numpy(images), torch.from_numpy(classes[:, middle::STRIDE, middle::STRIDE].copy()))


def _ground(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A grey ramp in a random direction, with noise."""
    low, high, angle = random.uniform(0, 120), random.uniform(0, 120), random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    along = (np.cos(angle) * columns + np.sin(angle) * rows) / 2 + 0.5
    noise = random.normal(0, random.uniform(0, 10), (SIDE, SIDE))
    ground: npt.NDArray[np.uint8] = np.clip(low + (high - low) * along + noise, 0, 255).astype(np.uint8)
    return ground


def _put_garment(
    image: npt.NDArray[np.uint8],
    of_pixels: npt.NDArray[np.uint8],
    pictures: fashion.Pictures,
    random: np.random.Generator,
) -> None:
    from PIL import Image

    which, side = random.integers(len(pictures.labels)), int(random.integers(*_SIDES, endpoint=True))
    top, left = random.integers(0, SIDE - side, 2, endpoint=True)
    small = Image.fromarray(pictures.pixels[which])
    if random.random() < 0.5:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    garment = np.asarray(small.resize((side, side), Image.Resampling.BILINEAR))
    place = (slice(top, top + side), slice(left, left + side))
    is_garment = garment >= _GARMENT
    image[place][is_garment] = garment[is_garment]
    of_pixels[place][is_garment] = 1 + pictures.labels[which]
