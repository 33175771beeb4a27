"""A channel, row or single value that is lost among many that are right: the signal-to-noise ratio of the whole output
hides it. (One channel of 400 at zero leaves 26 dB.)"""

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

# Fewer slices have no noise of their own to compare one with.
_FEWEST = 8
# The error of a slice that is lost: so many times that of the middle slice, ...
_OUTSTANDING = 8.0
# ... or, where most slices are next to exact, this share of the error that the whole output may have; ...
_SHARE = 0.25
# ... and at least this share of the slice's own size, and so many steps of the precision over the output's range.
_LOST = 0.5
_STEPS = 2.0


def lost(truth: _Floats, error: _Floats, *, allowed: float, bits: int) -> str:
    """A sentence on the worst slice that is lost, along any axis but that of the samples; "" if none is.

    Args:
        truth: the oracle's output, with the axis of the samples first if it has more than one.
        error: candidate minus ``truth``.
        allowed: the RMS error that the whole output may have.
        bits: of the precision: it has 2^bits steps over the range of the output.
    """
    least = _STEPS * float(np.abs(truth).max(initial=0.0)) * 2.0**-bits
    found = [_worst(truth, error, axis, allowed, least) for axis in range(min(1, truth.ndim - 1), truth.ndim)]
    return max(found, default=(0.0, ""))[1]


def _worst(truth: _Floats, error: _Floats, axis: int, allowed: float, least: float) -> tuple[float, str]:
    if axis < 0 or truth.shape[axis] < _FEWEST or not truth.size:
        return 0.0, ""
    others = tuple(number for number in range(truth.ndim) if number != axis)
    sizes, errors = (np.sqrt(np.square(values).mean(axis=others)) for values in (truth, error))
    usual = max(float(np.median(errors)), _SHARE * allowed, float(np.finfo(np.float64).tiny))
    errors = np.where(errors > np.maximum(_LOST * sizes, least), errors, 0.0)
    index = int(errors.argmax())
    times = float(errors[index]) / usual
    if times <= _OUTSTANDING:
        return 0.0, ""
    return times, f"number {index} of axis {axis} is lost: its error is {times:.0f} times the usual of that axis"
