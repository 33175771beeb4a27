"""Where an artifact looks in a picture: the context scores of its attention layers, out of the file itself.

Which values of a file are the scores, and in which order they lie, is found on the image whose maps the export has
kept: what gives those maps there gives the map of any other picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.tensors import Arrays, to_edge
from edgeattn.errors import BadInputError, MissingError
from edgeattn.precision import FP32
from edgeattn.report import attention_maps
from edgeattn.report.pictures.attention import Attention
from edgeattn.runtimes import RUNTIMES, Observe, Observed, missing

Map = npt.NDArray[np.float64]
# Of a map's largest score: as far off is no file in fp32.
_ALIKE = 0.02
# The side of a patch, in places of the map: the scores of one place in all patches add up to 1.
_PATCHES = (1, 2, 4, 8)


@dataclass(frozen=True)
class _Place:
    """The value of a file that holds a layer's scores: its name, the order of its axes, and the patches' side."""

    tensor: str
    order: tuple[int, ...]
    patch: int

    def map(self, value: npt.NDArray[np.generic], shape: tuple[int, int]) -> Map:
        """The scores [h, w]."""
        laid = np.asarray(value, np.float64).transpose(self.order).reshape(shape)
        cut = laid.reshape(shape[0] // self.patch, self.patch, shape[1] // self.patch, self.patch)
        scores: Map = (cut / np.maximum(cut.sum((0, 2), keepdims=True), 1e-300)).reshape(shape)
        return scores


def attention(bundle: Bundle, artifact: Artifact, inputs: Arrays, about: str) -> Attention:
    """Where ``artifact`` looks in a picture.

    Args:
        inputs: the picture as the model's input [1, 3, H, W].
        about: the picture's name.

    Raises:
        BadInputError: the model has no attention whose patches are known; or the file does not show it.
        MissingError: no runtime here shows the values inside such a file.
    """
    if artifact.precision != FP32.name:
        raise BadInputError(f"attention is read out of fp32 files, and {artifact.file.path} is in {artifact.precision}")
    kept = attention_maps.first(bundle)
    if kept is None:
        raise BadInputError(f"{bundle.manifest.model} has no attention maps: no attention whose patches are known")
    image, scores = kept
    observe = _observer(artifact)
    (name,) = inputs
    known = {name: image[None].astype(inputs[name].dtype)}
    sizes = {prod(one.shape) for one in scores.values()}
    places = _places(_values(bundle, artifact, known, observe, sizes), scores)
    if places is None:
        raise BadInputError(f"{artifact.file.path} shows no scores like those of the export; export it again")
    found = dict(_values(bundle, artifact, inputs, observe, sizes))
    maps = {
        layer: place.map(found[place.tensor], (one.shape[0], one.shape[1])).astype(np.float32)
        for (layer, one), place in zip(scores.items(), places, strict=True)
    }
    pixels = inputs[name][0].astype(np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    shown = ((pixels - low) / max(high - low, 1e-30)).transpose(1, 2, 0).astype(np.float32)
    return Attention(bundle.manifest.model, about, shown, maps)


def _observer(artifact: Artifact) -> Observe:
    reasons = []
    for _, runtime in RUNTIMES.items():
        if runtime.format == artifact.format and runtime.observe:
            reason = missing(runtime)
            if reason is None:
                return runtime.observe
            reasons.append(reason)
    raise MissingError(reasons[0] if reasons else f"no runtime shows the values inside {artifact.format} files")


def _values(
    bundle: Bundle, artifact: Artifact, inputs: Arrays, observe: Observe, sizes: set[int]
) -> list[tuple[str, npt.NDArray[np.generic]]]:
    """The values of these sizes inside the file, in the order of execution."""
    found: list[tuple[str, npt.NDArray[np.generic]]] = []

    def see(observed: Observed) -> None:
        if observed.value.size in sizes and observed.value.dtype.kind == "f":
            found.append((observed.name, np.array(observed.value)))

    observe(bundle.path(artifact.file), {t.name: to_edge(inputs[t.name], t) for t in artifact.inputs}, see)
    return found


def _places(
    values: Sequence[tuple[str, npt.NDArray[np.generic]]], scores: dict[str, npt.NDArray[np.float32]]
) -> list[_Place] | None:
    """Where each layer's scores are, one after the other; None if one is nowhere."""
    places, begin = [], 0
    for one in scores.values():
        for number, (name, value) in enumerate(values[begin:], begin):
            place = next(_like(name, value, np.asarray(one, np.float64)), None)
            if place is not None:
                places.append(place)
                begin = number + 1
                break
        else:
            return None
    return places


def _like(name: str, value: npt.NDArray[np.generic], scores: Map) -> Iterator[_Place]:
    if value.size != scores.size or value.ndim > 5 or not np.isfinite(value).all() or value.min() < 0:
        return
    shape = (scores.shape[0], scores.shape[1])
    for order in permutations(range(value.ndim)):
        for patch in _PATCHES:
            if shape[0] % patch or shape[1] % patch:
                continue
            place = _Place(name, order, patch)
            if np.abs(place.map(value, shape) - scores).max() <= _ALIKE * scores.max():
                yield place
