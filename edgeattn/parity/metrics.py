"""Is it still the same module? Pure functions over arrays.

The oracle is the reference in float64. The reference's own error in float32 is the *noise floor*; a candidate is
judged by its error in units of that floor, so that the verdict means the same for any scale of inputs and weights. The
limits are in :data:`edgeattn.precision.PRECISIONS`.
"""

from dataclasses import dataclass
from math import inf, log10

import numpy as np
import numpy.typing as npt

from edgeattn.parity import slices
from edgeattn.precision import PRECISIONS, NoiseLimits
from edgeattn.verdict import Verdict

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Comparison(Verdict):
    """How far a candidate is from the oracle. ``shown`` is False where the output is nearly all noise: that it agrees
    proves nothing."""

    max_abs: float
    max_noise_units: float
    rms_noise_units: float
    sqnr_db: float
    cosine: float
    shown: bool = True

    @classmethod
    def failure(cls, reason: str) -> "Comparison":
        """A candidate that cannot be compared at all."""
        return cls(False, reason, inf, inf, inf, -inf, 0.0)


# Two exact forms in float64 differ by rounding alone: 2^-52 times the square root of the longest sum, with a margin.
EXACT_LIMIT = 1e-10
# Float64 rounds 29 bits below float32. An ill-conditioned network amplifies both by the same factor, which the
# reference's own error in float32 shows; 24 as for the error of a candidate (NoiseLimits).
_PER_NOISE = 24 * 2.0**-29


# A fault of a hundredth is lost in an output whose noise floor is more than a hundredth of its own size.
_SIZE_OVER_NOISE = 100.0
# The reference's own error is the floor unless other sums have over twice as much: within that, both are chance, and a
# floor that is always the larger of them would let the smallest damages live.
_TRUSTED = 0.5
# (max, RMS) of the noise of an output that was measured apart from the reference's own error: none.
NO_NOISE = (0.0, 0.0)


def exact_limit(*, oracle: Array, reference: Array, noise: tuple[float, float] = NO_NOISE) -> float:
    """The largest relative error in float64 of an exact form: :data:`EXACT_LIMIT`, more for ill-conditioned networks.

    Args:
        oracle: the reference in float64.
        reference: the reference in float32.
        noise: (max, RMS) error of the reference with other sums.
    """
    relative = relative_error(reference=oracle, candidate=reference) if oracle.shape == reference.shape else inf
    relative = max(relative, noise[0] / (float(np.abs(oracle).max(initial=0.0)) or 1.0))
    return max(EXACT_LIMIT, _PER_NOISE * relative) if relative < inf else EXACT_LIMIT


def relative_error(*, reference: Array, candidate: Array) -> float:
    """Largest difference over the reference's largest value, for two float64 arrays of one shape."""
    scale = float(np.abs(reference).max(initial=0.0)) or 1.0
    error = float(np.abs(np.asarray(candidate, np.float64) - np.asarray(reference, np.float64)).max(initial=0.0))
    return error / scale if np.isfinite(error) else inf


@dataclass(frozen=True)
class Difference:
    """How two arrays of one shape differ, with no verdict; ``relative`` is over the reference's largest value."""

    max_abs: float
    relative: float
    sqnr_db: float
    cosine: float


def difference(*, reference: Array, candidate: Array) -> Difference:
    """How far ``candidate`` is from ``reference``. The same infinity in both is no difference; a NaN, or an infinity in
    one alone, makes it infinite."""
    truth, values = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    alike = np.isinf(truth) & (truth == values)
    truth, values = np.where(alike, 0.0, truth), np.where(alike, 0.0, values)
    if not (np.isfinite(truth).all() and np.isfinite(values).all()):
        return Difference(inf, inf, -inf, 0.0)
    error = values - truth
    max_abs = float(np.abs(error).max(initial=0.0))
    relative = relative_error(reference=truth, candidate=values)
    return Difference(max_abs, relative, _sqnr_db(truth, error), _cosine(truth, values))


def noise_floor(*, oracle: Array, reference: Array, noise: tuple[float, float] = NO_NOISE) -> tuple[float, float]:
    """(max, RMS) error of the reference in float32; never below half of ``noise``, its error with other sums, as the
    error of one run may be luck (all of it, where the output is nearly all noise); nor below half a unit in the last
    place of the oracle's own size, so that a reference that happens to be exact does not make every candidate
    infinite."""
    error = np.abs(np.asarray(reference, np.float64) - np.asarray(oracle, np.float64))
    size = np.abs(np.asarray(oracle, np.float64))
    float32 = np.finfo(np.float32)
    trusted = 1.0 if _rms(size) <= _SIZE_OVER_NOISE * noise[1] else _TRUSTED
    half_ulp, tiny = float(float32.eps) / 2, float(float32.tiny)
    floor_max = max(float(error.max(initial=0.0)), half_ulp * float(size.max(initial=0.0)), tiny, trusted * noise[0])
    floor_rms = max(_rms(error), half_ulp * _rms(size), tiny, trusted * noise[1])
    return floor_max, floor_rms


def compare(
    *,
    oracle: Array,
    reference: Array,
    candidate: Array,
    precision: str,
    judged: bool = True,
    noise: tuple[float, float] = NO_NOISE,
    unsettled: Array | None = None,
) -> Comparison:
    """Judge ``candidate`` against ``oracle`` (float64): in units of ``reference``'s own error, or by its SQNR.

    Args:
        oracle: the reference in float64.
        reference: the reference in float32.
        candidate: the output that is judged; its shape and a floating type are part of the verdict.
        precision: a name in :data:`~edgeattn.precision.PRECISIONS`.
        judged: False for an input that is not of the kind that a lower precision is made for: int8 only has to be
            finite there, fp16 to keep its range.
        noise: (max, RMS) error of the reference with other sums, as :func:`noise_floor` takes it.
        unsettled: the elements, of integers or booleans, that rounding decides; they are not judged.
    """
    if candidate.shape != oracle.shape:
        return Comparison.failure(f"shape {list(candidate.shape)} instead of {list(oracle.shape)}")
    if candidate.dtype != reference.dtype:
        return Comparison.failure(f"type {candidate.dtype} instead of {reference.dtype}")
    values, truth = np.asarray(candidate, np.float64), np.asarray(oracle, np.float64)
    if not np.isfinite(values).all():
        return Comparison.failure("output has NaN or infinite values")

    values = settled(values, truth, unsettled)
    error = values - truth
    floor_max, floor_rms = noise_floor(oracle=oracle, reference=reference, noise=noise)
    max_abs = float(np.abs(error).max(initial=0.0))
    max_units, rms_units = max_abs / floor_max, _rms(error) / floor_rms
    sqnr_db = _sqnr_db(truth, error)
    limits = PRECISIONS[precision].limits
    if isinstance(limits, NoiseLimits):
        passed = max_units <= limits.max_noise_units and rms_units <= limits.rms_noise_units
        reason = f"error is {max_units:.3g} (max), {rms_units:.3g} (RMS) times the noise floor"
    else:
        limit_db = limits.on_data_db if judged else limits.elsewhere_db
        passed = sqnr_db >= limit_db or _rms(error) <= limits.smallest_step
        reason = f"signal to noise is {sqnr_db:.1f} dB, not {limit_db:g}"
        if passed and limit_db > -inf:
            allowed = max(_rms(truth) * 10 ** (-limit_db / 20), limits.smallest_step)
            reason = slices.lost(truth, error, allowed=allowed, bits=PRECISIONS[precision].bits)
            passed = not reason
    shown = not 0 < _rms(truth) <= _SIZE_OVER_NOISE * floor_rms and not (unsettled is not None and unsettled.all())
    return Comparison(
        passed, "" if passed else reason, max_abs, max_units, rms_units, sqnr_db, _cosine(truth, values), shown
    )


def settled(values: Array, truth: Array, unsettled: Array | None) -> npt.NDArray[np.float64]:
    """``values`` in float64, in which what is ``unsettled`` is as in ``truth``."""
    doubles, true = np.asarray(values, np.float64), np.asarray(truth, np.float64)
    return doubles if unsettled is None else np.where(unsettled, true, doubles)


def _rms(values: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _sqnr_db(truth: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> float:
    """Signal to quantisation noise ratio in dB; infinite when there is no error at all."""
    signal, noise = _rms(truth), _rms(error)
    if noise == 0:
        return inf
    return 20 * log10(signal / noise) if signal > 0 else -inf


def _cosine(truth: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> float:
    norm = float(np.linalg.norm(truth) * np.linalg.norm(values))
    if norm == 0:
        return 1.0 if not truth.any() and not values.any() else 0.0
    return float(np.vdot(truth, values)) / norm
