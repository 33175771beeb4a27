"""The attention maps of a bundle, read and made ready to be seen."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.manifest import Bundle
from edgeattn.errors import ArtifactError
from edgeattn.report.pictures.attention import Attention


def read(held: Bundle) -> tuple[Attention, ...]:
    """The maps of a bundle that has some, with images scaled to be seen.

    Raises:
        ArtifactError: the file is not one.
    """
    from safetensors import SafetensorError, safe_open

    if held.manifest.attention is None:
        return ()
    path = held.path(held.manifest.attention)
    maps = []
    try:
        with safe_open(path, "numpy") as file:
            for i, told in enumerate(json.loads(file.metadata()["maps"])):
                if not told["layers"] or not all(isinstance(text, str) for text in (told["about"], *told["layers"])):
                    raise ValueError("it does not say which layers look at what")
                layers = {
                    layer: _map(file.get_tensor(f"scores/{i}/{n}"), axes=2) for n, layer in enumerate(told["layers"])
                }
                image = _shown(_map(file.get_tensor(f"image/{i}"), axes=3))
                maps.append(Attention(held.manifest.model, told["about"], image, layers))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} holds no attention maps: {error}; export the bundle again") from error
    return tuple(maps)


def _map(values: npt.NDArray[Any], *, axes: int) -> npt.NDArray[np.float32]:
    """What can be drawn: finite numbers on so many axes; an image has three channels."""
    if values.dtype.kind != "f" or values.ndim != axes or not values.size or (axes == 3 and len(values) != 3):
        raise ValueError("an image or a layer's scores are of another shape or kind")
    with np.errstate(over="ignore"):
        drawn = values.astype(np.float32)
    if not np.isfinite(drawn).all():
        raise ValueError("an image or a layer's scores are not finite")
    return drawn


def _shown(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """[3, H, W] of any range -> [H, W, 3] from 0 to 1: what a model is given is normalised, each in its own way."""
    image = image.astype(np.float64)  # the largest numbers of float32 have differences too
    low, high = float(image.min()), float(image.max())
    shown: npt.NDArray[np.float32] = ((image - low) / max(high - low, 1e-30)).transpose(1, 2, 0).astype(np.float32)
    return shown
