"""One file a format: it makes a lower precision of an fp32 artifact, by the ecosystem's own quantiser.

A file is named as its format and has ``EXTRA``, ``PACKAGES``, ``PRECISIONS`` (that it makes), ``REST`` (the precision
of what int8 leaves), ``ADDS_IN_FP16`` (whether a runtime adds an fp16 file's products in fp16 too), ``make(job) ->
details``, which say what stays in a higher precision, and ``candidates(path) -> [(kind, output)]``, the operators that
int8 takes. What all three hold to, as measured in ``docs/precisions.md``:

* norms, softmax, the context sum and the residual stream stay in float: they are small, and they are where it hurts;
* products on a few rows (the key on one column an offset, the classifier) keep float activations;
* convolutions, linear layers on maps, and SiLU between them are what is fast in eight bits, and are.
"""

from dataclasses import dataclass, field
from pathlib import Path

from export.runtimes import Arrays

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
