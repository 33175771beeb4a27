"""Arrays as an artifact takes and gives them: its layout, its type, its steps."""

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.manifest import Tensor
from edgeattn.errors import ArtifactError

Arrays = dict[str, npt.NDArray[np.generic]]


def as_layout(value: npt.NDArray[np.generic], tensor: Tensor) -> npt.NDArray[np.generic]:
    """A channels-first array as an artifact's input or output wants it.

    Raises:
        ArtifactError: it has not the four axes of that layout.
    """
    if tensor.layout == "channels_last" and value.ndim != 4:
        raise ArtifactError(f"{tensor.name} is channels-last in the manifest, but has {value.ndim} axes and not 4")
    return np.ascontiguousarray(value.transpose(0, 2, 3, 1)) if tensor.layout == "channels_last" else value


def to_edge(value: npt.NDArray[np.generic], tensor: Tensor) -> npt.NDArray[np.generic]:
    """A channels-first array as an artifact takes it: in its layout, and in its type or its steps."""
    laid = as_layout(value, tensor)
    if tensor.scale is not None and tensor.zero_point is not None:
        ends = np.iinfo(tensor.dtype)
        steps = np.round(laid.astype(np.float64) / tensor.scale) + tensor.zero_point
        return np.clip(steps, ends.min, ends.max).astype(tensor.dtype)
    return laid.astype(np.float16) if tensor.dtype == "float16" else laid


def from_edge(value: npt.NDArray[np.generic], tensor: Tensor, like: np.dtype[Any]) -> npt.NDArray[np.generic]:
    """What an artifact gives, as values of the reference's type ``like``; if it is not what is declared, as it is."""
    if value.dtype != tensor.dtype or value.dtype == like:
        return value
    if tensor.scale is not None and tensor.zero_point is not None:
        return ((value.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(like)
    return value.astype(like) if tensor.dtype == "float16" else value
