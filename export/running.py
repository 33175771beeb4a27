"""Whether an artifact can be used here at all: its outputs, the range of its integers, and a run of the example.

What a converter wrote and no runtime takes costs that format alone, as what a converter refuses does.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edgeattn.bundle import manifest
from edgeattn.bundle.golden import GoldenCase
from edgeattn.bundle.tensors import Arrays, exactly
from edgeattn.errors import ArtifactError, EdgeAttnError, MissingError
from edgeattn.runtimes import backends


def check(artifact: manifest.Artifact, path: Path, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    """Refuse an artifact that lacks an output, cannot hold an integer of the example, or that no runtime here runs.

    Args:
        artifact: the manifest's entry.
        path: its file.
        inputs: the example's.
        outputs: the model's for them.

    Raises:
        ArtifactError: one sentence; where there are several runtimes, with the words of the first.
    """
    names = [tensor.name for tensor in artifact.outputs]
    if sorted(names) != sorted(outputs):
        raise ArtifactError(f"the file has the outputs {', '.join(names)} in place of {', '.join(outputs)}")
    for tensors, values in ((artifact.inputs, inputs), (artifact.outputs, outputs)):
        if reason := too_large(tensors, _arrays(values)):
            raise ArtifactError(reason)
    example = GoldenCase(_arrays(inputs)).inputs_for(artifact)
    refusals = []
    for backend in backends(artifact.format):
        if backend.missing:
            continue
        try:
            with backend.open(path) as session:
                session.run(example)
        except MissingError:  # parity says which op it lacks
            return
        except EdgeAttnError as error:
            refusals.append(f"{backend.label} does not run what was written: {error}")
        else:
            return
    if refusals:
        raise ArtifactError(refusals[0])


def too_large(tensors: tuple[manifest.Tensor, ...], values: Arrays) -> str:
    """Why these values do not fit the integers of an artifact, which may be narrower; empty if they do."""
    for tensor in tensors:
        value = values[tensor.name]
        if tensor.dtype.startswith(("int", "uint")) and tensor.scale is None and value.dtype.kind in "iu":
            narrow = np.dtype(tensor.dtype)
            if exactly(value, narrow).dtype != narrow:
                limits = np.iinfo(narrow)
                largest = value.max() if value.max() > limits.max else value.min()
                return f"{tensor.name} is {narrow} in the file and {value.dtype} in the model, with the value {largest}"
    return ""


def _arrays(values: Mapping[str, Tensor]) -> Arrays:
    return {name: _array(x) for name, x in values.items()}


def _array(x: Tensor) -> npt.NDArray[np.generic]:
    array: npt.NDArray[np.generic] = x.detach().numpy()
    return array
