"""One file a study: a question that is answered by measurement, in each runtime and on each target.

A study is a module with

    ABOUT             the question, a sentence
    MODEL             what its variants are variants of: the ``model`` of its records
    FORMATS           what it is measured in, if nothing else is asked for
    groups(quick)     what is measured, in this order

``_run.py`` converts, measures and stores. How the records are read and drawn stands in ``edgeattn/report/studies``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
