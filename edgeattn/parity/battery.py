"""The battery of inputs that a candidate is run on: each case shows another kind of error.

Pure functions of an example's shape and a seed. Where the range that a model expects of its input is known (an image
of pixels from 0 to 1, say), every case stays inside it, except four that
test the arithmetic itself: tiny and large, all negative and all positive.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.preprocessing import Preprocessing

Array = npt.NDArray[np.floating]

SEED = 20220606  # arXiv 2206.02680 is of that day
TINY, LARGE = 1e-6, 1e3
# What pixels are taken to where no preprocessing gives their range.
UNKNOWN = (-1.0, 1.0)


@dataclass(frozen=True)
class Case:
    """An input: its description, for a manifest, and its values."""

    about: str
    values: Array


def cases(
    shape: tuple[int, ...], dtype: npt.DTypeLike, *, seed: int = SEED, limits: tuple[float, float] | None = None
) -> dict[str, Case]:
    """The battery for one input [B, C, ...] of a floating type.

    Args:
        shape: of the input.
        dtype: of the input.
        seed: of the random cases.
        limits: (lowest, highest) value that the model expects; None leaves the scales free.
    """
    random = np.random.default_rng(seed)
    normal, uniform = random.standard_normal(shape), random.uniform(-1, 1, shape)
    channels = 10 ** random.uniform(-3, 3, (shape[1] if len(shape) > 1 else 1))
    scale = channels.reshape(-1, *[1] * (len(shape) - 2)) if len(shape) > 1 else channels
    one_pixel = np.zeros(shape)
    one_pixel.reshape(prod(shape[:2]), -1)[:, prod(shape[2:]) // 2] = 1
    low, high = limits or UNKNOWN
    battery = {
        "normal": Case(f"mean 0, standard deviation 1, seed {seed}", normal / 3 if limits else normal),
        "uniform": Case(f"from -1 to 1, seed {seed}", uniform),
        "constant": Case("0.5 everywhere", np.full(shape, 0.5)),
        "zero": Case("0 everywhere", np.zeros(shape)),
        "one_pixel": Case("0 but for one pixel, 1 in every channel", one_pixel),
        "mixed_scale": Case(f"normal, each channel of its own scale, seed {seed}", (normal * scale).reshape(shape)),
    }
    if limits is not None:
        middle, half = (low + high) / 2, (high - low) / 2
        battery = {
            name: Case(
                f"{case.about}; -1 to 1 taken to {low:g} to {high:g} and cut there",
                np.clip(middle + half * case.values, low, high),
            )
            for name, case in battery.items()
        }
    out_of_range = "" if limits is None else ", beyond what the model expects"
    battery["tiny"] = Case(f"normal times {TINY:g}, seed {seed}{out_of_range}", normal * TINY)
    size = LARGE * (0.1 + np.abs(normal))
    battery["negative"] = Case(f"all negative, around {-LARGE:g}, seed {seed}{out_of_range}", -size)
    battery["positive"] = Case(f"all positive, around {LARGE:g}, seed {seed}{out_of_range}", size)
    battery["large"] = Case(f"normal times {LARGE:g}, seed {seed}{out_of_range}", normal * LARGE)
    return {name: Case(case.about, np.asarray(case.values, dtype)) for name, case in battery.items()}


def photograph(
    image: npt.NDArray[np.uint8], shape: tuple[int, ...], dtype: npt.DTypeLike, limits: tuple[float, float] | None
) -> Array | None:
    """A photograph [H, W, 3] as an input [B, C, H, W], or None for other ranks.

    An image of 1 or 3 channels is the square in the middle, resized by the nearest pixel; for other numbers of
    channels each pixel of the map takes C neighbouring grey values.
    """
    if len(shape) != 4:
        return None
    low, high = limits or UNKNOWN
    _, channels, height, width = shape
    if channels in (1, 3):
        side = min(image.shape[:2])
        top, left = ((n - side) // 2 for n in image.shape[:2])
        rows = top + np.arange(height) * side // height
        columns = left + np.arange(width) * side // width
        pixels = image[np.ix_(rows, columns)].transpose(2, 0, 1)[:channels]
    else:
        grey = image.mean(axis=2)
        flat = np.resize(grey, prod(shape[1:])).reshape(height, width, channels)
        pixels = flat.transpose(2, 0, 1)
    values = low + (high - low) * (pixels.astype(np.float64) / 255)
    return np.broadcast_to(values, shape).astype(dtype)


def limits_of(preprocessing: Preprocessing | None) -> tuple[float, float] | None:
    """The range of normalised pixels; None where no preprocessing is known."""
    return None if preprocessing is None else preprocessing.limits


def depends_on_input(outputs: list[npt.NDArray[np.generic]]) -> bool:
    """Whether an output depends on the input: it differs between the cases, and is more than underflow."""
    first = outputs[0]
    size = max(float(np.abs(y).max(initial=0.0)) for y in outputs)
    same = all(y.shape == first.shape and np.allclose(y, first, rtol=1e-9, atol=1e-30) for y in outputs[1:])
    return size > 1e-30 and not (same and len(outputs) > 1)
