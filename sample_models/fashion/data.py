"""Fashion-MNIST, enlarged: 60,000 pictures for training and 10,000 that are held out; a few hundred are carried here.

H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747; grey pictures of 28x28 pixels in ten classes, MIT licence. Debian has
all of them as ``dataset-fashion-mnist``.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeattn.errors import BadInputError, MissingError

try:
    from PIL import Image
except ImportError as error:
    raise MissingError.package("Pillow", extra="demo") from error

Part = Literal["training", "validation", "held_out", "calibration"]
SIDE, OWN_SIDE = 64, 28
LABELS = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

# How `inputs` makes an input from a picture; the manifest of every bundle holds it.
PREPROCESSING: dict[str, Any] = {
    "image_size": SIDE, "interpolation": "bilinear", "channels": "grey",
    "largest_pixel": 255, "scale": 1 / 255, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0],
}  # fmt: skip

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CARRIED = Path(__file__).with_name("pictures.npz")
# Of the 60,000; training never sees the others, which choose the length of training.
_TRAINING = 55_000
# How many of each part are carried.
_CARRIED = {"held_out": 500, "calibration": 128}


@dataclass(frozen=True)
class Pictures:
    """Grey pictures [n, 28, 28] and their classes [n], both uint8."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]

    def classes(self) -> Tensor:
        """The classes [n], int64."""
        return torch.from_numpy(self.labels.astype(np.int64))

    def __getitem__(self, chosen: slice) -> "Pictures":
        return Pictures(self.pixels[chosen], self.labels[chosen])


def load(part: Part, folder: Path = FOLDER) -> Pictures:
    """All pictures of a part, in the order of the data set; of those that are carried, these, where it is missing.

    Raises:
        MissingError: the part is not carried, and the data set is not installed.
        BadInputError: its files are not what they should be.
    """
    if not folder.is_dir():
        return carried(part)
    name, chosen = {
        "training": ("train", slice(0, _TRAINING)),
        "validation": ("train", slice(_TRAINING, None)),
        "held_out": ("t10k", slice(None)),
        "calibration": ("train", slice(0, _CARRIED["calibration"])),
    }[part]
    pixels = _read(folder / f"{name}-images-idx3-ubyte.gz", (-1, OWN_SIDE, OWN_SIDE))
    return Pictures(pixels, _read(folder / f"{name}-labels-idx1-ubyte.gz", (len(pixels),)))[chosen]


def carried(part: Part) -> Pictures:
    """The first pictures of a part: those in this folder.

    Raises:
        MissingError: it has none.
    """
    if part not in _CARRIED:
        raise MissingError(
            f"the {part} pictures of Fashion-MNIST are not installed; install them with: "
            "apt-get install dataset-fashion-mnist"
        )
    with np.load(CARRIED, allow_pickle=False) as arrays:
        return Pictures(arrays[f"{part}_pixels"], arrays[f"{part}_labels"])


def carry(folder: Path = FOLDER) -> None:
    """Write the pictures that are carried."""
    arrays: dict[str, npt.NDArray[np.uint8]] = {}
    parts: tuple[Part, ...] = ("held_out", "calibration")
    for part in parts:
        some = load(part, folder)[: _CARRIED[part]]
        arrays |= {f"{part}_pixels": some.pixels, f"{part}_labels": some.labels}
    np.savez_compressed(CARRIED, allow_pickle=False, **arrays)


def enlarge(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """[n, 28, 28] -> [n, 64, 64], uint8 still, bilinear by Pillow, as an app would."""
    size = (SIDE, SIDE)
    large = [np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)) for picture in pixels]
    return torch.from_numpy(np.stack(large))


def inputs(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """[n, 28, 28] -> [n, 3, 64, 64] from 0 to 1."""
    return images(enlarge(pixels))


def images(large: Tensor) -> Tensor:
    """[n, 64, 64] uint8 -> [n, 3, 64, 64] from 0 to 1."""
    return (large.float() / 255)[:, None].repeat(1, 3, 1, 1)


def _read(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """An idx file of bytes: four of magic, the last of which counts the dimensions, four for each of these, values."""
    try:
        data = gzip.decompress(path.read_bytes())
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise BadInputError(f"{path} is no file of Fashion-MNIST: {error}") from error
