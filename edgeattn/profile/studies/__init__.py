"""One file a study: a question that is answered by measurement, in each runtime and on each target.

``_run.py`` converts, measures and stores. How the records are read and drawn stands in ``edgeattn/report/studies``.
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
    """One thing that is measured.

    Attributes:
        labels: what the study varies; with format, runtime and target, they tell a record from all others.
        build: the module in inference mode, and its inputs by name, channels-first; called when it is needed.
        lowered: deployed by edgeattn's lowering, or converted as it stands.
    """

    labels: dict[str, str]
    build: "Callable[[], tuple[nn.Module, dict[str, Tensor]]]" = field(repr=False)
    lowered: bool


@dataclass(frozen=True)
class Group:
    """Variants that are measured in turn (A B A B), so that what disturbs one disturbs all.

    Attributes:
        runs: at most; a target that counts instructions needs fewer.
        warmup: None is until the times settle.
    """

    name: str
    variants: tuple[Variant, ...]
    runs: int
    warmup: int | None = None


@dataclass(frozen=True)
class Sensitivity:
    """``sqnr_db`` is the lowest over cases and outputs, with only the operator that gives ``output`` in int8; None if
    nothing changed at all. ``number`` is its place in the graph."""

    number: int
    kind: str
    output: str
    sqnr_db: float | None


# The groups that a study measures, in their order; True is for the quick study.
Groups = Callable[[bool], tuple[Group, ...]]
# Of a bundle's fp32 artifact of a format: its operators, the most sensitive first, each stored in the file as it comes.
Sweep = Callable[[Bundle, str, Path, Progress], tuple[Sensitivity, ...]]


class Study(Protocol):
    """A question and how it is answered: by latency, in ``groups``, or by the errors of a ``sweep``; the other is None.

    Attributes:
        formats: what it is measured in, if nothing else is asked for.
        model: what the variants of its groups are variants of: the ``model`` of its records.
    """

    formats: tuple[str, ...]
    model: str = ""
    groups: Groups | None = None
    sweep: Sweep | None = None


STUDIES: Registry[Study] = Registry(__name__, "study")
