"""The file of a lowered module's layers: written when a bundle is made, read when it is checked."""

import json
from collections.abc import Sequence
from pathlib import Path

from edgeattn.errors import ArtifactError
from edgeattn.parity.layer_match import Layer, is_consistent
from edgeattn.system import files


def save(layers: Sequence[Layer], path: Path) -> None:
    """Write ``path``: for each layer the tensors ``NUMBER/positions``, ``/fp64`` and ``/fp32``; the rest as JSON in
    the file's metadata."""
    from safetensors.numpy import save_file

    arrays = {"positions": "positions", "fp64": "oracle", "fp32": "reference"}
    tensors = {f"{i}/{key}": getattr(x, name) for i, x in enumerate(layers) for key, name in arrays.items()}
    descriptions = [{name: getattr(x, name) for name in ("name", "op", "source", "inputs", "shape")} for x in layers]
    save_file(tensors, path, {"layers": json.dumps(descriptions)})


def read(path: Path) -> tuple[Layer, ...]:
    """The layers of a file that :func:`edgeattn.parity.layer_file.save` wrote.

    Raises:
        ArtifactError: it is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        files.check_regular(path)
        with safe_open(path, "numpy") as file:
            layers = tuple(
                Layer(
                    x["name"],
                    x["op"],
                    x["source"],
                    tuple(x["inputs"]),
                    tuple(x["shape"]),
                    *(file.get_tensor(f"{i}/{key}") for key in ("positions", "fp64", "fp32")),
                )
                for i, x in enumerate(json.loads(file.metadata()["layers"]))
            )
        if not all(map(is_consistent, layers)):
            raise ValueError("its samples do not fit its shapes")
        return layers
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} holds no layers: {error}; export the bundle again") from error
