"""A picture as bytes of the size that a model takes, by Pillow; and as the values that its preprocessing makes of it.

timm, transformers (its Pillow backend) and CVNets resize and crop bytes, and normalise last: so what they feed a model
is the normalised form of these bytes, and a file that takes bytes takes just these.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeattn.bundle import preprocessing as reading
from edgeattn.bundle.manifest import Manifest
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.errors import BadInputError, MissingError
from edgeattn.system.vendor_errors import first_line

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".tif", ".tiff")
_MODES = ("RGB", "L", "P", "RGBA", "LA", "CMYK", "1")
Bytes = npt.NDArray[np.uint8]


def read(file: Path) -> "Image.Image":
    """A picture in RGB, turned as its camera says.

    Raises:
        BadInputError: it is no picture, is broken, or of another kind of pixels.
        MissingError: Pillow is not installed.
    """
    if not find_spec("PIL"):
        raise MissingError.package("pillow", extra="demo")
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            if opened.mode not in _MODES:
                raise BadInputError(f"its mode {opened.mode} is not one of {', '.join(_MODES)}")
            return ImageOps.exif_transpose(opened).convert("RGB")
    except BadInputError:
        raise
    except Exception as error:
        raise BadInputError(f"it is no picture, or a broken one: {first_line(error)}") from error


def fitted(image: "Image.Image", preprocessing: Preprocessing, size: tuple[int, int]) -> "Image.Image":
    """A picture resized and cropped to ``size`` (height, width), as the preprocessing says."""
    from PIL.Image import Resampling

    (down, across), (top, left) = resized_to((image.height, image.width), preprocessing, size)
    resized = image.resize((across, down), Resampling[preprocessing.interpolation.upper()])
    return resized.crop((left, top, left + size[1], top + size[0]))


def resized_to(
    own: tuple[int, int], preprocessing: Preprocessing, size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size to which a picture of its ``own`` size is resized, and top and left of what is then cut out of it, to
    become ``size``; each is (height, width)."""
    height, width = size
    if preprocessing.crop == "none" or not preprocessing.keep_aspect_ratio:
        return size, (0, 0)
    short = min(own)
    least = max(height / own[0], width / own[1])
    edge = preprocessing.resize_shortest_edge
    if edge is None or edge < least * short:  # a smaller one would have to be padded
        edge = round(least * short)
    down, across = max(height, int(edge * own[0] / short)), max(width, int(edge * own[1] / short))
    rounded = round if preprocessing.crop_rounding == "half to even" else int
    return (down, across), (rounded((down - height) / 2), rounded((across - width) / 2))


def as_bytes(image: "Image.Image", preprocessing: Preprocessing, shape: tuple[int, ...]) -> Bytes:
    """A picture as bytes [1, C, H, W] in RGB, or grey, for an input of this ``shape``.

    Raises:
        BadInputError: the input is no picture [1, 3, H, W] or [1, 1, H, W].
    """
    _, channels, height, width = check(shape)
    pixels = np.asarray(fitted(image, preprocessing, (height, width)), np.uint8).transpose(2, 0, 1)
    if preprocessing.channels == "grey" or channels == 1:
        grey = np.rint(pixels.mean(axis=0)).astype(np.uint8)
        pixels = np.broadcast_to(grey, (channels, height, width))
    return np.ascontiguousarray(pixels[None])


def taken(manifest: Manifest) -> tuple[tuple[int, int, int, int], Preprocessing]:
    """The shape [1, C, H, W] of the one picture that a bundle's model takes, and how a file becomes it.

    Raises:
        BadInputError: it takes none, or the bundle does not say how its input is made.
    """
    if len(manifest.inputs) != 1:
        raise BadInputError(f"{manifest.model} takes {len(manifest.inputs)} inputs, and not one picture")
    shape = check(manifest.inputs[0].shape)
    if not manifest.preprocessing:
        raise BadInputError(
            f"the bundle does not say how {manifest.model} takes a picture; export it with --preprocessing FILE.json"
        )
    return shape, reading.read(manifest.preprocessing, manifest.model)


def check(shape: tuple[int | None, ...]) -> tuple[int, int, int, int]:
    """The shape of an input that takes a picture.

    Raises:
        BadInputError: it takes none.
    """
    if len(shape) == 4 and shape[0] in (1, None) and shape[1] in (1, 3) and shape[2] and shape[3]:
        return 1, shape[1], shape[2], shape[3]
    raise BadInputError("the model's input is no picture [1, 3, H, W]")


def normalised(pixels: npt.NDArray[np.generic], preprocessing: Preprocessing) -> npt.NDArray[np.float64]:
    """Bytes [n, C, H, W] in RGB, or grey, as the values that the model takes, in its own order of channels."""
    values = pixels[:, ::-1] if preprocessing.channels == "BGR" else pixels
    shift, factor = (np.reshape(v, (-1, 1, 1)) for v in preprocessing.affine(pixels.shape[1]))
    result: npt.NDArray[np.float64] = (values.astype(np.float64) - shift) * factor
    return result


def to_bytes(values: npt.NDArray[np.generic], preprocessing: Preprocessing) -> Bytes:
    """The bytes [n, C, H, W] whose normalised form is nearest to the model's ``values``."""
    shift, factor = (np.reshape(v, (-1, 1, 1)) for v in preprocessing.affine(values.shape[1]))
    pixels = np.clip(np.rint(values.astype(np.float64) / factor + shift), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[:, ::-1]) if preprocessing.channels == "BGR" else pixels
