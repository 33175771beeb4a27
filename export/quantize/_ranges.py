"""The range that a tensor's 256 steps cover, from what was seen of it over the calibration set.

It goes from the smallest value to the largest, but for what SiLU reads: there the far negative end is up to half of the
range and worth no steps, as SiLU makes nothing of it. Its lower end is the one by which SiLU's output changes least.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
# Of each tensor over the whole set. The extremes are among them, and so weigh more than they are many.
SAMPLES = 8192
# Shares of the smallest value that are tried as the lower end.
_SHARES = np.linspace(1.0, 0.2, 33)


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
