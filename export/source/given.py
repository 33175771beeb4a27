"""What is exported: a module, its example inputs and outputs, and what came with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from edgeattn.bundle.manifest import Answer
from edgeattn.bundle.preprocessing import Preprocessing

# The arguments of a module: a tensor, several in order, or several by the names of forward's parameters.
Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


@dataclass(frozen=True)
class Evaluation:
    """Labelled inputs: ``inputs`` [n, ...], one a row, for the model's only input, and their classes ``labels`` [n], or
    those of the pixels [n, H, W], -1 where one is not judged."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Source:
    """A module in evaluation mode with its example inputs and outputs by name.

    ``calibration`` [n, ...] are unlabelled inputs for its only input, to calibrate int8 on. ``cases`` are more inputs
    to check parity on, each as ``inputs``. ``notes`` are sentences for the user: what was changed, and why.
    ``own_names`` are the user's own names of inputs and outputs, by those here, where no file can hold them.
    ``picture``, ``labels`` and ``answer`` are as in the manifest.

    The module takes the inputs in this order, by position.
    """

    name: str
    arguments: dict[str, Any]
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    preprocessing: Preprocessing | None = None
    evaluation: Evaluation | None = None
    calibration: Tensor | None = None
    cases: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    own_names: dict[str, str] = field(default_factory=dict)
    picture: str | None = None
    labels: tuple[str, ...] = ()
    answer: Answer = "values"
