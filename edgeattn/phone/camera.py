"""What the page needs to show the camera: how a frame becomes the model's input, and what the model's answer means."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle import pictures
from edgeattn.bundle.manifest import Artifact, Manifest, Tensor
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.bundle.tensors import to_edge, to_first
from edgeattn.errors import BadInputError
from edgeattn.phone import setup
from edgeattn.phone.plan import Plan
from edgeattn.phone.site import File, read

# The browser may ask for the camera on pages of this server, and on no page inside them.
HEADERS = {"Permissions-Policy": "camera=(self)"}
_GREY = 3  # of a pixel's red, green, blue, and their mean
# What a browser's array of plain numbers holds; float16 goes as bits.
_TYPES = ("float32", "float16", "uint8", "int8", "int32")


def files(plan: Plan) -> dict[str, File]:
    """The page of the camera, in place of the page that measures, which is then at ``measure``.

    Raises:
        BadInputError: the model takes no picture.
    """
    folder = setup.data("page")
    served = {f"page/camera/{path.name}": read(path) for path in (folder / "camera").iterdir()}
    served[""] = served.pop("page/camera/index.html")
    served["measure"] = read(folder / "index.html")
    served["camera.json"] = File(json.dumps(document(plan)).encode(), "application/json")
    return served


def document(plan: Plan) -> dict[str, Any]:
    """``camera.json``; ``artifacts`` are the plan's, None where the camera's pixels are no input of it.

    Raises:
        BadInputError: the model takes no picture, or nothing says how one becomes its input.
    """
    manifest = plan.bundle.manifest
    shape, told = _picture(manifest)
    artifacts = [_artifact(artifact, manifest, shape, told) for artifact in plan.artifacts]
    if not any(artifacts):
        raise BadInputError("no file that a browser runs takes the values that the preprocessing makes of a picture")
    return {
        "fit": {
            "height": shape[2],
            "width": shape[3],
            "edge": told.resize_shortest_edge,
            "stretch": told.crop == "none" or not told.keep_aspect_ratio,
            "halves_to_even": told.crop_rounding == "half to even",
            "smooth": told.interpolation != "nearest",
        },
        "kind": _kind(manifest),
        "labels": manifest.labels,
        "artifacts": artifacts,
    }


def _picture(manifest: Manifest) -> tuple[tuple[int, int, int, int], Preprocessing]:
    """The shape [1, C, H, W] of the model's input, and how a picture becomes it."""
    try:
        return pictures.taken(manifest)
    except BadInputError as error:
        raise BadInputError(f"--camera is for a model that takes a picture: {error}") from error


def _artifact(
    artifact: Artifact, manifest: Manifest, shape: tuple[int, int, int, int], told: Preprocessing
) -> dict[str, Any] | None:
    if [tensor.name for tensor in artifact.inputs] != [manifest.inputs[0].name]:
        return None
    tensor, channels = artifact.inputs[0], shape[1]
    table = _table(tensor, channels, None if manifest.picture else told)
    if table is None:
        return None
    outputs = {output.name: output for output in artifact.outputs}
    order = [0, 1, 2]
    if told.channels == "grey" or channels == 1:
        order = [_GREY] * channels
    elif told.channels == "BGR" and not manifest.picture:
        order = [2, 1, 0]
    return {
        "input": {
            "name": tensor.name,
            "dtype": tensor.dtype,
            "shape": [size or 1 for size in tensor.shape],
            "last": tensor.layout == "channels_last",
            "order": order,
            "table": table.tolist(),
        },
        "outputs": [
            {
                "name": output.name,
                "dtype": output.dtype,
                "last": output.layout == "channels_last",
                "scale": output.scale,
                "zero_point": output.zero_point,
                "shape": [size or 1 for size in output.shape],
            }
            for output in (outputs[like.name] for like in manifest.outputs if like.name in outputs)
        ],
    }


def _table(tensor: Tensor, channels: int, told: Preprocessing | None) -> npt.NDArray[np.generic] | None:
    """[channels, 256]: what the artifact takes for each byte, by channel in its own order; float16 as bits. None where
    its type holds no such values. ``told`` is None where it takes the bytes themselves."""
    pixels = np.broadcast_to(np.arange(256, dtype=np.uint8), (1, channels, 1, 256))
    values = pixels if told is None else pictures.normalised(pixels, told).astype(np.float32)
    edge = to_first(to_edge(values, tensor), tensor)
    if str(edge.dtype) != tensor.dtype or tensor.dtype not in _TYPES:
        return None
    table = np.ascontiguousarray(edge[0, :, 0])
    return table.view(np.uint16) if table.dtype == np.float16 else table


def _kind(manifest: Manifest) -> str:
    """What the first output is: top5, probabilities or logits of classes, logits of pixels, or none of these."""
    first = manifest.outputs[0]
    if manifest.answer == "top5":
        return "top5"
    if not first.dtype.startswith("float") or len(first.shape) not in (2, 4) or (first.shape[1] or 0) < 2:
        return "none"
    if len(first.shape) == 4:
        return "pixels"
    return "probabilities" if manifest.answer == "probabilities" else "logits"
