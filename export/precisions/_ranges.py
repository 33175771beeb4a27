"""The range that a tensor's 256 steps cover, from what was seen of it over the calibration set.

It goes from the smallest value to the largest, but for what SiLU reads: there the far negative end is up to half of the
range and worth no steps, as SiLU makes nothing of it. Its lower end is the one by which SiLU's output changes least.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
# Of each tensor over the whole set. The extremes are among them, and so weigh more than they are many.
SAMPLES = 8192
# Shares of the smallest value that are tried as the lower end.
_SHARES = np.linspace(1.0, 0.2, 33)


@dataclass(frozen=True)
class Step:
    """An operator: its kind, the names of the tensors that it reads, and of the first one that it gives."""

    kind: str
    inputs: tuple[str, ...]
    output: str


def read_by_silu_alone(steps: Iterable[Step], outputs: Collection[str]) -> set[str]:
    """Names of tensors that go into a SiLU, be it one operator or a product with the sigmoid, and nowhere else.

    ``outputs`` are those of the graph.
    """
    readers: defaultdict[str, list[Step]] = defaultdict(list)
    for step in steps:
        for name in set(step.inputs):
            readers[name].append(step)

    def is_silu(found: list[Step]) -> bool:
        kinds = {step.kind.lower(): step for step in found}
        sigmoid = kinds.get("sigmoid") or kinds.get("logistic")
        if len(found) == 1:
            return "silu" in kinds
        return len(found) == 2 and sigmoid is not None and "mul" in kinds and sigmoid.output in kinds["mul"].inputs

    return {name for name, found in readers.items() if is_silu(found)} - set(outputs)


class Ranges:
    """Sees values by the names of their tensors, and tells which range each should have.

    Args:
        inputs: how many runs will be seen.
        silus: names of tensors that are read by SiLU alone.
    """

    def __init__(self, inputs: int, silus: Collection[str]) -> None:
        self._each = max(1, SAMPLES // max(1, inputs))
        self._silus = silus
        self._seen: dict[str, list[Values]] = {}

    def see(self, name: str, value: npt.NDArray[np.generic]) -> None:
        """What a tensor holds in one run; what is no floating type, or is empty, has no range."""
        flat = value.ravel()
        if value.dtype.kind != "f" or not flat.size:
            return
        kept = [flat.min(), flat.max()]
        if name in self._silus:
            kept += list(flat[np.linspace(0, flat.size - 1, min(flat.size, self._each)).astype(np.int64)])
        self._seen.setdefault(name, []).append(np.asarray(kept, np.float64))

    def found(self) -> dict[str, tuple[float, float]]:
        """(low, high) by name."""
        return {name: _range(np.concatenate(seen), name in self._silus) for name, seen in self._seen.items()}


def _range(values: Values, behind_silu: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if not behind_silu or low >= 0:
        return low, high
    truth = silu(values)

    def loss(low: float) -> float:
        return float(np.square(silu(rounded(values, low, max(high, 0.0))) - truth).mean())

    return min((low * float(share) for share in _SHARES), key=loss), high


def silu(values: Values) -> Values:
    """x * sigmoid(x)."""
    result: Values = values / (1 + np.exp(-values))
    return result


def rounded(values: Values, low: float, high: float) -> Values:
    """To the nearest of the 256 steps from ``low`` < 0 to ``high`` >= 0, of which zero is one."""
    step = (high - low) / 255
    zero = np.round(-low / step)
    result: Values = (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step
    return result
