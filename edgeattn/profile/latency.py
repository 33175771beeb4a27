"""Statistics of latency samples, and warnings about their quality. Pure except for the clock of :func:`interleave`.

Statistics are not stored: a record holds its samples, and the statistics are derived from them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgeattn.errors import BadInputError

_Floats = npt.NDArray[np.float64]

RESAMPLES, SEED = 2000, 0
LEVEL = 0.95
# From this many samples on, fewer runs are resampled, and the trend is that of the medians of this many parts.
MANY = 1000
# Random numbers per batch: some megabytes.
_BATCH = 2**18


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Statistics of the samples of one record, in ns."""

    n: int
    min_ns: float
    mean_ns: float
    p50_ns: float
    p90_ns: float
    p99_ns: float
    sd_ns: float
    p50_interval_ns: tuple[float, float]


def summary(samples_ns: Sequence[int]) -> Summary:
    """Describe the samples of one run, in the order of measurement.

    Raises:
        BadInputError: there are none.
    """
    x = _samples(samples_ns)
    p50, p90, p99 = np.percentile(x, (50, 90, 99)).tolist()
    return Summary(
        n=len(x),
        min_ns=float(x.min()),
        mean_ns=float(x.mean()),
        p50_ns=p50,
        p90_ns=p90,
        p99_ns=p99,
        sd_ns=float(x.std(ddof=1)) if len(x) > 1 else 0.0,
        p50_interval_ns=bounds(resampled(x)),
    )


def _samples(samples_ns: Sequence[int]) -> _Floats:
    x = np.asarray(samples_ns, np.float64)
    if not x.size:
        raise BadInputError("there are no samples: this record has no latency")
    return x


def percentile(rows: _Floats, percent: float) -> _Floats:
    """A percentile of each sorted row. Sorting is some times as fast as numpy's own, for as many and short rows."""
    below, part = divmod((rows.shape[-1] - 1) * percent / 100, 1)
    low, high = rows[..., int(below)], rows[..., min(int(below) + 1, rows.shape[-1] - 1)]
    return np.asarray(low + part * (high - low))


def median(rows: _Floats) -> _Floats:
    return percentile(rows, 50)


def resampled(x: _Floats, *, statistic: Callable[[_Floats], _Floats] = median) -> _Floats:
    """A statistic of sorted samples, of RESAMPLES resampled runs. Samples are drawn in blocks, because neighbours
    resemble each other.

    Source: the circular block bootstrap (Politis and Romano, 1992), blocks of the cube root of n.
    """
    return np.concatenate([statistic(np.sort(x[rows], axis=1)) for rows in _draws(len(x))])


@lru_cache(maxsize=8)
def _draws(n: int) -> tuple[npt.NDArray[np.int64], ...]:
    """The numbers of the samples of each resampled run, in parts; the same for all records of one length."""
    block = max(1, round(n ** (1 / 3)))
    random, within = np.random.default_rng(SEED), np.arange(block)
    total = RESAMPLES if n <= MANY else RESAMPLES // 10
    rows = max(1, _BATCH // n)
    parts = []
    for start in range(0, total, rows):
        starts = random.integers(n, size=(min(rows, total - start), -(-n // block), 1))
        parts.append((starts + within).reshape(len(starts), -1)[:, :n] % n)
    return tuple(parts)


def bounds(values: _Floats) -> tuple[float, float]:
    """The interval that holds LEVEL of the values."""
    low, high = np.percentile(values, (50 * (1 - LEVEL), 50 * (1 + LEVEL))).tolist()
    return low, high


def has_ratio(baseline_ns: Sequence[int], candidate_ns: Sequence[int]) -> bool:
    """Whether most rounds of two interleaved runs have two samples that a clock could measure."""
    rounds = list(zip(baseline_ns, candidate_ns, strict=False))
    return 2 * sum(a > 0 and b > 0 for a, b in rounds) > len(rounds)


def ratio_of_pairs(*, baseline_ns: Sequence[int], candidate_ns: Sequence[int]) -> Interval:
    """How many times as fast the candidate is, from interleaved samples: the median over the rounds of
    baseline / candidate. A drift of the machine affects both alike, and cancels. A round without both samples, because
    one run stopped or the clock measured 0 ns, is left out.

    Raises:
        BadInputError: there are not enough rounds with both samples.
    """
    if not has_ratio(baseline_ns, candidate_ns):
        raise BadInputError("these times have no ratio: most of them are missing, or 0 ns")
    n = min(len(baseline_ns), len(candidate_ns))
    baseline, candidate = _samples(baseline_ns[:n]), _samples(candidate_ns[:n])
    measured = (baseline > 0) & (candidate > 0)
    ratios = baseline[measured] / candidate[measured]
    return Interval(float(np.median(ratios)), *bounds(resampled(ratios)))


def interleave(calls: Mapping[str, Callable[[], object]], *, runs: int, warmup: int) -> dict[str, list[int]]:
    """Time the calls interleaved, A B A B, so that a drift of the machine affects all alike.

    Returns:
        samples_ns by name, ``runs`` of each, without the ``warmup`` rounds.
    """
    samples: dict[str, list[int]] = {name: [] for name in calls}
    for round_ in range(warmup + runs):
        for name, call in calls.items():
            start = time.perf_counter_ns()
            call()
            elapsed = time.perf_counter_ns() - start
            if round_ >= warmup:
                samples[name].append(elapsed)
    return samples


# ---- quality warnings ----

# Fewer samples show little of the spread, and nothing of the tail.
FEW = 20
# The smallest change within a run that matters, as a share of the median.
MATTERS = 0.05
# A trend: Mann and Kendall's test, at this number of standard deviations (two-sided, one steady run in 15,000).
TREND_SIGMAS = 4.0
# Two clusters: their distance in standard deviations of the wider one. A normal distribution that is split at its
# median has 2.7, a uniform one 3.5.
CLUSTER_DISTANCE = 5.0
# ... and the smaller cluster's share of the samples.
CLUSTER_SHARE = 0.15
# An outlier is this many robust standard deviations, and this share of the median, above the median.
OUTLIER_SIGMAS, OUTLIER_SHARE = 6.0, 0.2
# More outliers than this share are no accident.
OUTLIERS_ALLOWED = 0.05


def quality_warnings(samples_ns: Sequence[int], *, disturbed_by: str = "") -> tuple[str, ...]:
    """Reasons not to rely on these samples, a sentence each; none for a steady run, and none without samples.
    ``disturbed_by`` is what is known to disturb them."""
    if not samples_ns:
        return ()
    if len(samples_ns) < FEW:
        return (f"only {len(samples_ns)} samples: at least {FEW} are needed to see whether the times are steady",)
    x = _samples(samples_ns)
    if not np.median(x):
        return ("half of the samples or more are 0 ns: the clock is too coarse for this artifact",)
    warnings = (_trend(x), _two_levels(x), _outliers(x, disturbed_by), _wide(x))
    return tuple(sentence for sentence in warnings if sentence)


def _trend(x: _Floats) -> str:
    """A drift over the run, such as throttling causes: significant, and large enough to matter."""
    if len(x) > MANY:
        x = np.array([np.median(part) for part in np.array_split(x, MANY)])
    n = len(x)
    later, earlier = np.tril_indices(n, -1)
    differences = x[later] - x[earlier]
    # Theil and Sen's slope.
    change = float(np.median(differences / (later - earlier))) * (n - 1) / float(np.median(x))
    sigma = np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    if abs(np.sign(differences).sum()) < TREND_SIGMAS * sigma or abs(change) < MATTERS:
        return ""
    cause = "the device may be throttling" if change > 0 else "it was not warm yet"
    return f"the times drift by {change:+.0%} over the run: {cause}"


def _two_levels(x: _Floats) -> str:
    """Two clusters of times, such as two kinds of cores or two clock frequencies cause."""
    y = np.sort(np.log(np.maximum(x, 1)))
    n = len(y)
    smallest = int(np.ceil(CLUSTER_SHARE * n))
    # The cut with the least sum of squares about the means of the two parts, from running sums.
    cuts = np.arange(smallest, n - smallest + 1)
    sums = np.cumsum(y - y[0])
    left, total = sums[cuts - 1], sums[-1]
    cut = int(cuts[np.argmax(left**2 / cuts + (total - left) ** 2 / (n - cuts))])
    low, high = y[:cut], y[cut:]
    distance = float(high.mean() - low.mean())
    if distance < max(MATTERS, CLUSTER_DISTANCE * low.std(), CLUSTER_DISTANCE * high.std()):
        return ""
    low_ms, high_ms = np.exp(np.median(low)) / 1e6, np.exp(np.median(high)) / 1e6
    return f"the times stand on two levels, {low_ms:.3g} ms and {high_ms:.3g} ms ({(n - cut) / n:.0%} of the samples)"


def _outliers(x: _Floats, disturbed_by: str) -> str:
    middle = float(np.median(x))
    # 1.4826: from the median absolute deviation to the standard deviation of a normal distribution.
    sigma = 1.4826 * float(np.median(np.abs(x - middle)))
    limit = middle + max(OUTLIER_SIGMAS * sigma, OUTLIER_SHARE * middle)
    share = float((x > limit).mean())
    cause = disturbed_by or "something else was running"
    return f"{share:.0%} of the samples are outliers: {cause}" if share > OUTLIERS_ALLOWED else ""


def _wide(x: _Floats) -> str:
    low, high = bounds(resampled(x))
    half = (high - low) / 2 / float(np.median(x))
    return f"the median is known to {half:.0%} only: give more --runs" if half > MATTERS else ""
