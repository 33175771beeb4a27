"""Writes pictures of results to files."""

from pathlib import Path

from edgeattn.errors import BadInputError
from edgeattn.parity.layers import Layers
from edgeattn.precision import FP32_LIMITS
from edgeattn.report import gather
from edgeattn.report.pictures import depth
from edgeattn.system import files, plugins


def check(path: Path) -> None:
    """Refuse, before any work, a picture file that cannot be written at the end.

    Raises:
        BadInputError: the file is no .svg, or its folder does not exist.
        MissingError: matplotlib is not installed.
    """
    if path.suffix != ".svg":
        raise BadInputError(f"the picture is an SVG: name it something.svg, not {path}")
    files.check(path)
    plugins.require("matplotlib", extra="report")


def draw(layers: Layers, model: str, path: Path) -> None:
    """Draw the error of each layer by depth, with a line for each artifact and runtime, to ``path``."""
    picture = depth.draw(gather.curves(layers), title=f"{model}: error by layer", limit=FP32_LIMITS.max_noise_units)
    files.write(path, picture.encode("utf-8", "replace"))
