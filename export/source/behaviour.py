"""What a file cannot do: a module that changes its own state, or answers the same input twice differently."""

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export.source.outputs import flat, run

# Of an output's size: the libraries under PyTorch may add in another order from run to run.
_SAME = 1e-6
_RUNS = 3


def changed_inputs(module: nn.Module, inputs: dict[str, Tensor]) -> list[str]:
    """The names of the inputs that ``module`` changes in place; ``inputs`` themselves stay."""
    given = {name: x.clone() for name, x in inputs.items()}
    before = {name: x._version for name, x in given.items()}
    with torch.no_grad():
        module(*given.values())
    # By their versions, as an example that is all positive stays what it is under a ReLU in place.
    return [name for name, x in given.items() if x._version != before[name]]


def check(module: nn.Module, inputs: dict[str, Tensor]) -> None:
    """Refuse a module whose outputs are no function of its inputs alone. It has been run before: what it keeps from
    its first run on, such as a table, is no harm.

    Raises:
        BadInputError: it changes its own state, draws random numbers, or depends on something else; one sentence.
    """
    before = _state(module)
    _seed()
    runs = [run(module, inputs) for _ in range(_RUNS)]
    changed = [name for name, value in _state(module).items() if name not in before or not _equal(before[name], value)]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise BadInputError(
            f"the module changes its own state ({changed[0]}{more}) in every run, which a file cannot: export one that "
            "keeps it as it is, or takes it as an input and returns it"
        )
    if all(_same(runs[0], other) for other in runs[1:]):
        return
    seeded = []
    for _ in range(2):
        _seed()
        seeded.append(run(module, inputs))
    if _same(*seeded):
        raise BadInputError(
            "the module draws random numbers in evaluation mode, so that the same input gives other outputs: turn them "
            "off (F.dropout takes training=self.training), or take the noise as an input"
        )
    raise BadInputError(
        "the module answers the same input differently from run to run: it keeps a state outside of its buffers, or "
        "reads a clock; export one whose outputs depend on its inputs alone"
    )


def _seed() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, those that are not saved too."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {name: x.detach().clone() for name, x in tensors if x.device.type == "cpu"}


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())


def _same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Whether two runs gave the same outputs, but for the order in which sums are made."""
    return len(a) == len(b) and all(_close(x, y) for x, y in zip(flat(tuple(a)), flat(tuple(b)), strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    if _equal(a, b):
        return True
    if a.shape != b.shape or not a.is_floating_point():
        return False
    size = float(a.abs().max())
    return float((a - b).abs().max()) <= _SAME * size
