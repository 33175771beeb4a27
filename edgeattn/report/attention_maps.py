"""Reads the attention maps of a bundle for display."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.manifest import Bundle
from edgeattn.errors import ArtifactError
from edgeattn.report.pictures.attention import Attention
from edgeattn.system import files


def read(bundle: Bundle) -> tuple[Attention, ...]:
    """The attention maps of a bundle, if it has any, with images scaled for display.

    Raises:
        ArtifactError: the file cannot be read, or holds no maps.
    """
    from safetensors import SafetensorError, safe_open

    if bundle.manifest.attention is None:
        return ()
    path = bundle.path(bundle.manifest.attention)
    maps = []
    try:
        files.check_regular(path)
        with safe_open(path, "numpy") as file:
            for i, entry in enumerate(json.loads(file.metadata()["maps"])):
                if not entry["layers"] or not all(isinstance(text, str) for text in (entry["about"], *entry["layers"])):
                    raise ValueError("it does not say which layers look at what")
                layers = {
                    layer: _map(file.get_tensor(f"scores/{i}/{n}"), axes=2) for n, layer in enumerate(entry["layers"])
                }
                image = _for_display(_map(file.get_tensor(f"image/{i}"), axes=3))
                maps.append(Attention(bundle.manifest.model, entry["about"], image, layers))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} holds no attention maps: {error}; export the bundle again") from error
    return tuple(maps)


def first(bundle: Bundle) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.float32]]] | None:
    """The first image of a bundle's attention maps, [3, H, W] as the model receives it, and the scores of each layer,
    [h, w]; None, if it has no maps.

    Raises:
        ArtifactError: the file cannot be read, or holds no maps.
    """
    from safetensors.numpy import load_file

    maps = read(bundle)
    if not maps or bundle.manifest.attention is None:
        return None
    return _map(load_file(bundle.path(bundle.manifest.attention))["image/0"], axes=3), maps[0].scores


def _map(values: npt.NDArray[Any], *, axes: int) -> npt.NDArray[np.float32]:
    """The values as float32; refused if they are not finite, or not on ``axes`` axes. An image has three channels."""
    if values.dtype.kind != "f" or values.ndim != axes or not values.size or (axes == 3 and len(values) != 3):
        raise ValueError("an image or a layer's scores are of another shape or kind")
    with np.errstate(over="ignore"):
        drawn = values.astype(np.float32)
    if not np.isfinite(drawn).all():
        raise ValueError("an image or a layer's scores are not finite")
    return drawn


def _for_display(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """[3, H, W] of any range -> [H, W, 3] from 0 to 1: each model normalises its images differently."""
    image = image.astype(np.float64)  # the difference of float32's extremes overflows float32
    low, high = float(image.min()), float(image.max())
    scaled: npt.NDArray[np.float32] = ((image - low) / max(high - low, 1e-30)).transpose(1, 2, 0).astype(np.float32)
    return scaled
