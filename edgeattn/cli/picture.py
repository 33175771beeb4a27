"""Pictures of results, as files."""

from pathlib import Path

from edgeattn.errors import BadInputError
from edgeattn.parity.layers import Layers
from edgeattn.precision import FP32_LIMITS
from edgeattn.report import gather as reporting
from edgeattn.report.pictures import depth as depths
from edgeattn.system import files, plugins


def check(path: Path) -> None:
    """Refuse early, before any work, a picture that could not be written at the end.

    Raises:
        BadInputError: it is no .svg, or its folder does not exist.
        MissingError: matplotlib is not installed.
    """
    if path.suffix != ".svg":
        raise BadInputError(f"the picture is an SVG: name it something.svg, not {path}")
    files.check(path)
    plugins.require("matplotlib", extra="report")


def draw(found: Layers, model: str, path: Path) -> None:
    """Write the error of each layer by depth, a line for each artifact and runtime, to ``path``."""
    picture = depths.draw(reporting.curves(found), title=f"{model}: error by layer", limit=FP32_LIMITS.max_noise_units)
    files.write(path, picture.encode())
