"""The range that a tensor's 256 steps cover, from its values over the calibration set.

The range is from the smallest value to the largest, except for inputs of SiLU. Their far negative end is up to half of
the range, and SiLU maps it to almost zero: the lower end is chosen so that SiLU's output changes least.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
# Samples of each tensor over the whole set. They include the extremes, which so have more weight than their number.
SAMPLES = 8192
# Shares of the smallest value that are tried as the lower end.
_SHARES = np.linspace(1.0, 0.2, 33)


class Ranges:
    """Collects values by the names of their tensors, and chooses the range of each tensor.

    Args:
        inputs: the number of runs to come.
        silus: names of the tensors that only SiLU reads.
    """

    def __init__(self, inputs: int, silus: Collection[str]) -> None:
        self._samples_per_run = max(1, SAMPLES // max(1, inputs))
        self._silus = silus
        self._values: dict[str, list[Values]] = {}

    def add(self, name: str, value: npt.NDArray[np.generic]) -> None:
        """Add a tensor's values in one run. A tensor that is empty or of no floating type has no range."""
        flat = value.ravel()
        if value.dtype.kind != "f" or not flat.size:
            return
        samples = [flat.min(), flat.max()]
        if name in self._silus:
            samples += list(flat[np.linspace(0, flat.size - 1, min(flat.size, self._samples_per_run)).astype(np.int64)])
        self._values.setdefault(name, []).append(np.asarray(samples, np.float64))

    def result(self) -> dict[str, tuple[float, float]]:
        """(low, high) by the tensor's name."""
        return {name: _range(np.concatenate(samples), name in self._silus) for name, samples in self._values.items()}


def _range(values: Values, feeds_silu: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if not feeds_silu or low >= 0:
        return low, high
    exact = silu(values)

    def loss(low: float) -> float:
        return float(np.square(silu(rounded(values, low, max(high, 0.0))) - exact).mean())

    return min((low * float(share) for share in _SHARES), key=loss), high


def silu(values: Values) -> Values:
    """x * sigmoid(x)."""
    result: Values = values / (1 + np.exp(-values))
    return result


def rounded(values: Values, low: float, high: float) -> Values:
    """``values`` rounded to the nearest of 256 steps from ``low`` < 0 to ``high`` >= 0; zero is one of the steps."""
    step = (high - low) / 255
    zero = np.round(-low / step)
    result: Values = (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step
    return result
