"""Shapes of example inputs from the command line: ``--input-shape 1,3,64,64`` and ``--image-size 288``."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgeattn.errors import BadInputError


def input_shape(text: str) -> list[int]:
    """The shape that ``--input-shape`` names."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise BadInputError(f"--input-shape takes positive numbers such as 1,3,256,256, not {text!r}")
    return numbers


def image_size(text: str, option: str = "--image-size") -> tuple[int, int]:
    """(height, width) that ``--image-size``, or another option, names."""
    numbers = re.fullmatch(r"([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?", text)
    if not numbers:
        raise BadInputError(f"{option} takes a side such as 256, or height x width such as 192x256, not {text!r}")
    height, width = numbers[1], numbers[2] or numbers[1]
    return int(height), int(width)


def as_argument(build: Callable[..., Any], size: tuple[int, int]) -> dict[str, Any]:
    """The size as the argument of a model that is built for one; none if it takes none, or the image is no square."""
    takes = "image_size" in inspect.signature(build).parameters
    return {"image_size": size[0]} if takes and size[0] == size[1] else {}


def resized(inputs: Any, size: tuple[int, int], name: str) -> Any:
    """The example inputs with a new random image of this size.

    Raises:
        BadInputError: there is not exactly one image [batch, 3, height, width] among them.
    """
    by_key: dict[Any, Tensor] = dict(inputs) if isinstance(inputs, dict) else dict(enumerate(inputs))
    images = [key for key, x in by_key.items() if x is not None and x.dim() == 4 and x.shape[1] == 3]
    if len(images) != 1:
        shapes = ", ".join(str(list(x.shape)) for x in by_key.values() if x is not None)
        raise BadInputError(f"--image-size needs one image [1, 3, H, W] among the inputs; {name} takes {shapes}")
    image = by_key[images[0]]
    shape = (image.shape[0], 3, *size)
    made = torch.randn(shape) if image.is_floating_point() else torch.randint(0, 256, shape)
    by_key[images[0]] = made.to(image.dtype)
    return by_key if isinstance(inputs, dict) else tuple(by_key.values())
