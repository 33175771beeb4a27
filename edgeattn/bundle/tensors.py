"""Arrays in an artifact's own form: its layout, its type, its quantisation steps."""

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.manifest import Tensor
from edgeattn.errors import ArtifactError

Arrays = dict[str, npt.NDArray[np.generic]]
# The types of inputs that integers and booleans are passed in, as files declare them.
_EXACT = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32")


def as_layout(value: npt.NDArray[np.generic], tensor: Tensor) -> npt.NDArray[np.generic]:
    """A channels-first array in the layout of an artifact's input or output.

    Raises:
        ArtifactError: it does not have the four axes of that layout.
    """
    if tensor.layout == "channels_last" and value.ndim != 4:
        raise ArtifactError(f"{tensor.name} is channels-last in the manifest, but has {value.ndim} axes and not 4")
    if value.ndim == 0 and tensor.shape == (1,):  # Core ML has no tensor without dimensions
        return value.reshape(1)
    return np.ascontiguousarray(value.transpose(0, 2, 3, 1)) if tensor.layout == "channels_last" else value


def to_first(value: npt.NDArray[np.generic], tensor: Tensor) -> npt.NDArray[np.generic]:
    """An artifact's output channels-first."""
    return value.transpose(0, 3, 1, 2) if tensor.layout == "channels_last" and value.ndim == 4 else value


def to_edge(value: npt.NDArray[np.generic], tensor: Tensor) -> npt.NDArray[np.generic]:
    """A channels-first array as an artifact takes it: in its layout, and in its type or quantisation steps."""
    array = as_layout(value, tensor)
    if tensor.scale is not None and tensor.zero_point is not None:
        limits = np.iinfo(tensor.dtype)
        steps = np.round(array.astype(np.float64) / tensor.scale) + tensor.zero_point
        return np.clip(steps, limits.min, limits.max).astype(tensor.dtype)
    if tensor.dtype == "float16":
        return array.astype(np.float16)
    return exactly(array, np.dtype(tensor.dtype)) if tensor.dtype in _EXACT else array


def from_edge(value: npt.NDArray[np.generic], tensor: Tensor, like: np.dtype[Any]) -> npt.NDArray[np.generic]:
    """An artifact's output as values of the reference's type ``like``; unchanged if it is not of the declared type."""
    if str(value.dtype) != tensor.dtype or value.dtype == like:  # as text: a manifest may name no type at all
        return value
    if tensor.scale is not None and tensor.zero_point is not None:
        return ((value.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(like)
    if tensor.dtype == "float16":
        return value.astype(like)
    return exactly(value, like) if like.kind in "biu" else value


def exactly(value: npt.NDArray[np.generic], dtype: np.dtype[Any]) -> npt.NDArray[np.generic]:
    """Integers and booleans in another type of numbers; unchanged where one of them does not fit it.

    Formats narrow int64 to int32, and Core ML holds booleans as numbers: the values are what counts.
    """
    kinds = value.dtype.kind, dtype.kind
    if value.dtype == dtype or kinds == ("f", "f") or kinds[0] not in "biuf":
        return value
    with np.errstate(invalid="ignore", over="ignore"):
        cast = value.astype(dtype)
        return cast if np.array_equal(cast.astype(value.dtype), value) else value
