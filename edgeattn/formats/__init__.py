"""One file per format: it converts a lowered module to an artifact, and reads any file of the format as a graph.

Each holds ``FORMAT``, a :class:`Format`. ``runtimes`` and the rooms above may import it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeattn.bundle.details import Details
from edgeattn.formats.graph import Graph
from edgeattn.layout import Layout
from edgeattn.system.plugins import Registry, has

if TYPE_CHECKING:
    from torch import Tensor, nn

# The metadata keys, in every format: the image preprocessing and the names of the classes, as JSON; what the first
# output is, where it is not as the model has it.
PREPROCESSING, LABELS, ANSWER = "edgeattn.preprocessing", "edgeattn.labels", "edgeattn.answer"


@dataclass(frozen=True)
class Job:
    """The input of a converter: a module in its final layout, example inputs by name, and output names.

    ``metadata`` is written into the file, as text by name; all formats have a field for it. ``picture`` is the input
    that takes the bytes of a picture.
    """

    module: "nn.Module"
    inputs: "dict[str, Tensor]"
    outputs: tuple[str, ...]
    dynamic_batch: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    picture: str | None = None

    def traced_inputs(self) -> "dict[str, Tensor]":
        """The example inputs; a free batch is traced with at least two samples."""
        if not self.dynamic_batch:
            return self.inputs
        return {n: x if x.shape[0] > 1 else x.repeat(2, *[1] * (x.dim() - 1)) for n, x in self.inputs.items()}


class Format(Protocol):
    """A file format.

    Attributes:
        suffix: of its files, with the dot.
        extra: of ``pip install edgeattn[...]``, which brings its packages.
        packages: what converting needs.
        read_packages: what reading needs.
        layout: of the lowered module that it converts.
        picture_layout: of the bytes of a picture.
        dynamic_batch: whether a file can leave its batch size free.
        lacks: operators of ATen that the converter does not have, or writes as another function; the lowering writes
            them otherwise.
    """

    suffix: str
    extra: str
    packages: tuple[str, ...]
    read_packages: tuple[str, ...]
    layout: Layout
    picture_layout: Layout = "channels_last"
    dynamic_batch: bool = False
    lacks: frozenset[str] = frozenset()

    def convert(self, job: Job, path: Path) -> Details:
        """Write ``path``; returns the ``details`` for the manifest.

        Raises:
            ConversionError: the converter refuses the module.
        """
        ...

    def read(self, path: Path) -> Graph:
        """The operators of any file of this format.

        Raises:
            ArtifactError: the file is missing, cut or damaged.
        """
        ...


FORMATS: Registry[Format] = Registry(__name__, "format", beside=("aimodel", "graph", "mil"))


def by_default() -> tuple[str, ...]:
    """The formats that an export makes if it names none: those whose converters are installed. ONNX, if none is: then
    it is said what that lacks."""
    return tuple(name for name, format_ in FORMATS.items() if has(*format_.packages)) or ("onnx",)
