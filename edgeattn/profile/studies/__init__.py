"""Studies, one file each: a question that measurements answer, in each runtime and on each target.

``_run.py`` converts, measures and stores. ``edgeattn/report/studies`` presents the records.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeattn.bundle.manifest import Bundle
from edgeattn.system.plugins import Registry
from edgeattn.system.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Variant:
    """One module to measure.

    Attributes:
        labels: what the study varies; together with format, runtime and target they identify a record.
        build: returns the module in inference mode, and its inputs by name, channels-first.
        lowered: whether it is lowered by edgeattn, or converted as it is.
    """

    labels: dict[str, str]
    build: "Callable[[], tuple[nn.Module, dict[str, Tensor]]]" = field(repr=False)
    lowered: bool


@dataclass(frozen=True)
class Group:
    """Variants whose runs are interleaved (A B A B), so that a disturbance affects all alike.

    Attributes:
        runs: the most runs of each; a target that counts instructions needs fewer.
        warmup: warm-up runs; None: until the times settle.
    """

    name: str
    variants: tuple[Variant, ...]
    runs: int
    warmup: int | None = None


@dataclass(frozen=True)
class Sensitivity:
    """``sqnr_db`` is the lowest over cases and outputs, with only the operator of ``output`` in int8; None if no value
    changed. ``number`` is the operator's index in the graph."""

    number: int
    kind: str
    output: str
    sqnr_db: float | None


# The groups that a study measures, in order; True means the quick study.
Groups = Callable[[bool], tuple[Group, ...]]
# (bundle, format, results file, progress) -> the operators of the fp32 artifact, the most sensitive first. Each result
# is stored in the file as it comes.
Sweep = Callable[[Bundle, str, Path, Progress], tuple[Sensitivity, ...]]


class Study(Protocol):
    """A question and how it is answered: by latency, in ``groups``, or by the errors of a ``sweep``; the other is None.

    Attributes:
        formats: the default formats.
        model: the model whose variants are measured: the ``model`` of its records.
    """

    formats: tuple[str, ...]
    model: str = ""
    groups: Groups | None = None
    sweep: Sweep | None = None


STUDIES: Registry[Study] = Registry(__name__, "study")
