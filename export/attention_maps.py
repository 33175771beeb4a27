"""Attention maps: the context scores of a vision model's attention layers over its images, stored in the bundle.

The reference computes them at export, because a bundle holds no PyTorch module. The file ``attention/maps.safetensors``
has ``image/I`` [3, H, W] as the model takes it, and ``scores/I/L`` [h, w] for each attention layer. Their names are
JSON under ``maps`` in its metadata.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle import manifest
from edgeattn.bundle.manifest import File

if TYPE_CHECKING:
    from torch import Tensor

    from edgeattn.export.cases import Case
    from edgeattn.export.source import Source
    from edgeattn.lowering import Understood

FOLDER = "attention"
# The descriptions of the user's own cases begin with this (edgeattn.export.cases).
USER_CASE = "given as "
# Labelled inputs give one image of each of the first classes.
_CLASSES = 4


def write(source: "Source", understood: "Understood", chosen: "dict[str, Case]", folder: Path) -> File | None:
    """Write the maps into ``folder``: of some labelled inputs, or else of the photograph and the user's own inputs.

    Returns:
        The file; None if the model takes no image, or has no separable attention whose patches are known.
    """
    from safetensors.numpy import save_file

    images = _images(source, chosen)
    tensors: dict[str, npt.NDArray[Any]] = {}
    maps = []
    for i, (about, image) in enumerate(images.items()):
        scores = _scores(understood, image)
        if not scores:
            return None
        tensors[f"image/{i}"] = np.ascontiguousarray(image[0].float().numpy())
        tensors |= {f"scores/{i}/{n}": values for n, values in enumerate(scores.values())}
        maps.append({"about": about, "layers": list(scores)})
    if not maps:
        return None
    path = folder / FOLDER / "maps.safetensors"
    path.parent.mkdir()
    save_file(tensors, path, metadata={"maps": json.dumps(maps)})
    return manifest.describe(folder, path)


def _images(source: "Source", chosen: "dict[str, Case]") -> "dict[str, Tensor]":
    """Images [1, 3, H, W] by their descriptions; none if the model takes no image."""
    if len(source.inputs) != 1:
        return {}
    ((name, example),) = source.inputs.items()
    if example.dim() != 4 or example.shape[:2] != (1, 3):
        return {}
    if source.evaluation is not None:
        if source.evaluation.labels.dim() > 1:
            return {f"held-out input {i}": x[None] for i, x in enumerate(source.evaluation.inputs[:_CLASSES])}
        labels = source.evaluation.labels.tolist()
        first = {label: labels.index(label) for label in sorted(set(labels))[:_CLASSES]}
        return {f"an input of class {label}": source.evaluation.inputs[i][None] for label, i in first.items()}
    return {
        case.about: case.inputs[name]
        for title, case in chosen.items()
        if title == "photograph" or case.about.startswith(USER_CASE)
    }


def _scores(understood: "Understood", image: "Tensor") -> dict[str, npt.NDArray[np.float32]]:
    """The map of each attention layer by its module's path, in the order of the calls."""
    from edgeattn.lowering.attentions import scores

    return {
        layer.path: np.ascontiguousarray(layer.weights.float().numpy())
        for layer in scores(understood, [image])
        if layer.weights is not None
    }
