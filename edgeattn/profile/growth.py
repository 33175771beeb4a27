"""How many times as slow new samples are as old ones, with an interval that holds for the next measurement too.

The unit is the start of a process. Samples of one start share its addresses, caches and clock frequency: a thousand of
them say nothing of the next start. So each start counts as one value, and the interval is that of Welch's t test on the
logarithms of these values. What one start says by itself is bounded by what starts were seen to differ by (SPREAD).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from edgeattn.profile.latency import LEVEL, Interval, percentile, resampled

_Floats = npt.NDArray[np.float64]
# Of samples along the last axis, one row for each run: sorted.
Statistic = Callable[[_Floats], _Floats]

# Fewer starts do not show how much starts differ.
FEWEST = 3
# A gate should have as many.
STARTS = 5
# What is taken for their standard deviation where they are fewer: processes that differ by a tenth are no rarity.
SPREAD = 0.10
# What `needed` plans for: an interval that ends half-way to the limit.
_PRECISION = 0.5
_MOST_STARTS = 999


def midmean(rows: _Floats) -> _Floats:
    """The mean of the middle half: steadier than the median where times stand on two levels, and as deaf to spikes of
    less than a quarter of the samples."""
    n = rows.shape[-1]
    cut = n // 4
    return np.asarray(rows[..., cut : n - cut].mean(axis=-1))


def p99(rows: _Floats) -> _Floats:
    return percentile(rows, 99)


@dataclass(frozen=True)
class Side:
    """One of the two: the mean over its starts of the logarithm of a statistic, the variance of that mean, and its
    degrees of freedom. ``spread`` is the standard deviation of the starts; None if they are too few to tell."""

    mean: float
    variance: float
    freedom: float
    spread: float | None

    @property
    def value(self) -> float:
        return math.exp(self.mean)


def side(samples_ns: Sequence[int], starts: Sequence[int], statistic: Statistic) -> Side | None:
    """Describe samples; ``starts`` are their numbers by start, in order. None if a start has a value of 0 ns, which has
    no logarithm."""
    ends = np.cumsum(starts or [len(samples_ns)])
    parts = [np.asarray(part, np.float64) for part in np.split(np.asarray(samples_ns), ends[:-1])]
    values = np.array([float(statistic(np.sort(part))) for part in parts if len(part)])
    if not len(values) or values.min() <= 0:
        return None
    logarithms, n = np.log(values), len(values)
    if n >= FEWEST:
        variance = float(logarithms.var(ddof=1))
        return Side(float(logarithms.mean()), variance / n, n - 1, math.sqrt(variance))
    within = np.mean([np.log(np.maximum(resampled(part, statistic=statistic), 1)).var() for part in parts if len(part)])
    return Side(float(logarithms.mean()), (float(within) + SPREAD**2) / n, math.inf, None)


def growth(old: Side, new: Side) -> Interval:
    """new / old. Source: B. L. Welch, The generalization of 'Student's' problem, Biometrika 34 (1947)."""
    variance = old.variance + new.variance
    parts = sum(each.variance**2 / each.freedom for each in (old, new))
    half = student(variance**2 / parts if parts else math.inf) * math.sqrt(variance)
    middle = new.mean - old.mean
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def needed(old: Side, new: Side, limit: float) -> int | None:
    """About how many starts of each would tell growth from no growth at this limit; None if the spread is not known, or
    no number would do."""
    if old.spread is None or new.spread is None or limit <= 1:
        return None
    half = _PRECISION * math.log(limit)
    starts = student(math.inf) ** 2 * (old.spread**2 + new.spread**2) / half**2
    return max(FEWEST, math.ceil(starts)) if starts < _MOST_STARTS else None


def student(freedom: float) -> float:
    """Student's t of both tails together at 1 - LEVEL, by the expansion of Fisher and Cornish about the normal
    distribution: from 2 degrees of freedom on within 3 %, from 4 on within 0.3 %."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))
