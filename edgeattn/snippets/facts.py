"""What a program must know of an artifact to run it on a picture: from the manifest, the same for each language."""

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from edgeattn.bundle import pictures
from edgeattn.bundle import preprocessing as told
from edgeattn.bundle.manifest import Artifact, Manifest, Tensor
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.errors import BadInputError
from edgeattn.formats.mil import classifier

# What is done with the first output: the five largest, after a softmax or as they are; or they are two outputs already.
Best = Literal["softmax", "largest", "top5"]


@dataclass(frozen=True)
class Edge:
    """An input or output; a free axis is 1. ``size`` is the number of its elements, ``lowest`` and ``highest`` are the
    limits of its steps. ``is_last_in_memory``: the channels are, whatever the shape says (ExecuTorch)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    is_last_in_memory: bool

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def lowest(self) -> int:
        return 0 if self.dtype.startswith("u") else -(1 << (self._bits - 1))

    @property
    def highest(self) -> int:
        return self.lowest + (1 << self._bits) - 1

    @property
    def _bits(self) -> int:
        return int(self.dtype.lstrip("uint"))


@dataclass(frozen=True)
class Picture:
    """The input that is made from a picture.

    A value is ``(byte - mean) / std`` of its channel, a byte from 0 to 255, in the model's order of channels; both are
    empty where the file takes the bytes themselves. ``last``: the channels are the last axis of its shape.
    """

    edge: Edge
    height: int
    width: int
    channels: int
    last: bool
    preprocessing: Preprocessing
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def is_grey(self) -> bool:
        return self.preprocessing.channels == "grey" or self.channels == 1

    @property
    def is_bgr(self) -> bool:
        return bool(self.mean) and not self.is_grey and self.preprocessing.channels == "BGR"

    @property
    def is_squeezed(self) -> bool:
        """Whether its sides are resized each for itself, and nothing is cut off."""
        return self.preprocessing.crop == "none" or not self.preprocessing.keep_aspect_ratio


@dataclass(frozen=True)
class Facts:
    """An artifact's inputs and outputs; ``picture`` is None where it takes none, ``best`` where it names no classes.

    ``named`` is the output of a classifier of Core ML, a dictionary of the probabilities by their labels, which stands
    in place of the first one; empty in all other files.
    """

    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    picture: Picture | None
    best: Best | None
    named: str


def facts(manifest: Manifest, artifact: Artifact) -> Facts:
    """What a program must know of ``artifact``."""
    picture = _picture(manifest, artifact)
    outputs = tuple(map(_edge, artifact.outputs))
    classes = bool(picture or manifest.labels or manifest.answer != "values")
    best = _best(manifest, outputs) if classes else None
    named = classifier.PROBABILITIES if _is_classifier(manifest, artifact) else ""
    return Facts(tuple(map(_edge, artifact.inputs)), outputs, picture, best, named)


def _is_classifier(manifest: Manifest, artifact: Artifact) -> bool:
    """Whether the converter made a classifier of it (:mod:`edgeattn.formats.coreml`); the manifest does not say."""
    asked = classifier.is_asked(manifest.answer, manifest.labels)
    alone = len(artifact.inputs) == len(artifact.outputs) == 1 and manifest.picture is not None
    return artifact.format == "coreml" and asked and alone


def _edge(tensor: Tensor) -> Edge:
    shape = tuple(1 if n is None else n for n in tensor.shape)
    in_memory = tensor.layout == "channels_last_memory"
    return Edge(tensor.name, shape, tensor.dtype, tensor.scale, tensor.zero_point, in_memory)


def _best(manifest: Manifest, outputs: tuple[Edge, ...]) -> Best | None:
    if manifest.answer == "top5":
        return "top5"
    if len(outputs[0].shape) != 2 or outputs[0].shape[0] != 1 or outputs[0].shape[1] < 2:
        return None
    return "largest" if manifest.answer == "probabilities" else "softmax"


def _picture(manifest: Manifest, artifact: Artifact) -> Picture | None:
    if len(artifact.inputs) != 1 or not manifest.preprocessing:
        return None
    tensor, own = artifact.inputs[0], manifest.inputs[0]
    try:
        _, channels, height, width = pictures.check(own.shape)
    except BadInputError:
        return None
    preprocessing = told.read(manifest.preprocessing, "the manifest")
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if manifest.picture is None:
        mean, factor = preprocessing.affine(channels)
        std = tuple(1 / f for f in factor)
    last = tensor.layout == "channels_last"
    edge = replace(_edge(tensor), shape=(1, height, width, channels) if last else (1, channels, height, width))
    return Picture(edge, height, width, channels, last, preprocessing, mean, std)
