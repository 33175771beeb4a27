"""Pictures of results, as files."""

from pathlib import Path

from edgeattn import files
from edgeattn.errors import BadInputError
from edgeattn.parity import LIMITS
from edgeattn.report.pictures import depth as depths
from export import plugins
from export.layers import Layers


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
    curves = []
    for depth in found.depths:
        first = None if depth.first is None else (depth.rows.index(depth.first), depth.first.layer)
        units = tuple(row.max_noise_units for row in depth.rows)
        label = f"{depth.candidate}, {depth.runtime}" + (f", lost at {depth.lost[0]}" if depth.lost else "")
        curves.append(depths.Curve(label, units, first))
    picture = depths.draw(curves, title=f"{model}: error by layer", limit=LIMITS["fp32"]["max"])
    files.write(path, picture.encode())
