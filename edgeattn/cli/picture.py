"""Writes pictures of results to files."""

from pathlib import Path

from edgeattn.bundle.manifest import Artifact, Bundle
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


def draw_attention(bundle: Bundle, artifact: Artifact, picture: Path, path: Path) -> None:
    """Draw where an artifact looks in a picture to ``path``."""
    from edgeattn.interface import answers, looking
    from edgeattn.report.pictures import attention

    seen = looking.attention(bundle, artifact, answers.as_input(bundle.manifest, picture), picture.name)
    title = f"{bundle.manifest.model}: where {artifact.file.path} looks in {picture.name}"
    files.write(path, attention.draw(seen, title=title).encode("utf-8", "replace"))


def draw(layers: Layers, model: str, path: Path) -> None:
    """Draw the error of each layer by depth, with a line for each artifact and runtime, to ``path``."""
    picture = depth.draw(gather.curves(layers), title=f"{model}: error by layer", limit=FP32_LIMITS.max_noise_units)
    files.write(path, picture.encode("utf-8", "replace"))
