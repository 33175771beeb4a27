"""One file per format: it makes lower precisions of an fp32 artifact with the ecosystem's own quantiser.

Each holds ``QUANTIZER``, a :class:`Quantizer`. ``export`` and the rooms above may import it. Rules for all of them,
from the measurements in ``docs/precisions.md``:

* norms, softmax, the context sum and the residual stream stay in float: they are little work and lose the most;
* products on a few rows (the key on one column per offset, the classifier) keep float activations;
* convolutions, linear layers on maps, and the SiLU between them run in eight bits: they are most of the work.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgeattn.bundle.tensors import Arrays
from edgeattn.system.plugins import Registry

FP16, INT8, INT8_DYNAMIC = "fp16", "int8", "int8-dynamic"
LOWER = (FP16, INT8, INT8_DYNAMIC)
# Weights as places in a table of 2^6 or 2^4 values; Core ML alone runs these.
PALETTES = {"palette6": 6, "palette4": 4}
# What inputs and outputs are: float, or what the file computes in, where its format can have that.
EDGE_TYPES = (FLOAT32, OWN) = ("float32", "own")
# A product on fewer rows than this is a few per mille of the work, and keeps float activations.
FEW_ROWS = 16


@dataclass(frozen=True)
class Job:
    """What to make: ``path`` in ``precision`` from the fp32 artifact ``source``.

    ``calibration`` are inputs in the artifact's own layout, empty where the precision needs none; ``metadata`` is what
    the fp32 artifact carries and the quantiser may lose; ``keep`` are names of operators' outputs that stay in float;
    ``edge_type`` is one of :data:`EDGE_TYPES`.
    """

    source: Path
    path: Path
    precision: str
    calibration: tuple[Arrays, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    edge_type: str = FLOAT32


class Quantizer(Protocol):
    """What makes lower precisions of the artifacts of one format, which it is named as.

    Attributes:
        extra: of ``pip install edgeattn[...]``, which brings its packages.
        packages: that it needs.
        precisions: that it makes.
        rest: the precision of what int8 leaves.
        adds_in_fp16: whether a runtime adds an fp16 file's products in fp16 too.
    """

    extra: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...]
    rest: str
    adds_in_fp16: bool = False

    def make(self, job: Job) -> dict[str, Any]:
        """Write ``job.path``, and say what stays in a higher precision: what the manifest keeps as ``details``.

        Raises:
            ConversionError: the quantiser refuses the artifact.
        """
        ...

    def candidates(self, path: Path) -> list[tuple[str, str]]:
        """(kind, output) of the operators of an fp32 artifact that int8 takes, in the order of the graph."""
        ...


QUANTIZERS: Registry[Quantizer] = Registry(__name__, "quantizer")
