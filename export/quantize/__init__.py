"""Quantisers, one file per format. Each makes lower precisions of an fp32 artifact with the ecosystem's own tool.

Each file holds ``QUANTIZER``, a :class:`Quantizer`. ``export`` and the rooms above may import them. Rules for all of
them, from the measurements in ``docs/precisions.md``:

* norms, softmax, the context sum and the residual stream stay in float: they are little work and lose the most;
* products on a few rows (the key on one column per offset, the classifier) keep float activations;
* convolutions, linear layers on maps, and the SiLU between them run in eight bits: they are most of the work.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeattn.bundle.details import Details
from edgeattn.bundle.tensors import Arrays
from edgeattn.formats import Job as Conversion
from edgeattn.precision import Precision
from edgeattn.system.plugins import Registry

# The type of inputs and outputs: float32, or the type that the file computes in, where its format supports that.
EDGE_TYPES = (FLOAT32, OWN) = ("float32", "own")
# A product on fewer rows than this is a few per mille of the work, and keeps float activations.
FEW_ROWS = 16


@dataclass(frozen=True)
class Job:
    """Make ``path`` in ``precision`` from the fp32 artifact ``source``.

    ``calibration`` are inputs in the artifact's own layout, empty where the precision needs none; ``metadata`` is
    the fp32 artifact's, which the quantiser may drop; ``keep`` names the outputs of operators that stay in float;
    ``edge_type`` is one of :data:`EDGE_TYPES`; ``conversion`` gives what ``source`` was converted from, for tools that
    begin at the module, and None where that is not known.
    """

    source: Path
    path: Path
    precision: Precision
    calibration: tuple[Arrays, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    edge_type: str = FLOAT32
    conversion: Callable[[], Conversion] | None = None


class Quantizer(Protocol):
    """Makes lower precisions of the artifacts of one format; the registry knows it by the format's name.

    Attributes:
        extra: the extra of ``pip install edgeattn[...]`` with its packages.
        packages: the packages that it needs.
        precisions: the precisions that it makes.
        rest: the precision of the operators that int8 leaves in float.
        adds_in_fp16: whether a runtime adds an fp16 file's products in fp16 too.
        needs_module: whether it begins at the module, and can make nothing of a file alone: of that it takes the names.
    """

    extra: str
    packages: tuple[str, ...]
    precisions: tuple[Precision, ...]
    rest: Precision
    adds_in_fp16: bool = False
    needs_module: bool = False

    def make(self, job: Job) -> Details:
        """Write ``job.path``; the manifest's ``details`` say what stays in a higher precision.

        Raises:
            ConversionError: the quantiser refuses the artifact.
        """
        ...

    def candidates(self, path: Path) -> list[tuple[str, str]]:
        """(kind, output) of the operators of an fp32 artifact that int8 takes, in the order of the graph."""
        ...

    def observed(self, path: Path) -> dict[str, str]:
        """Their outputs by the names under which the format's runtime shows their values."""
        return {output: output for _, output in self.candidates(path)}


QUANTIZERS: Registry[Quantizer] = Registry(__name__, "quantizer")
