"""Statistics of samples: right on known series, and each doubt fires on its own fault and is quiet on a calm run."""

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeattn.errors import BadInputError
from edgeattn.profile import latency
from edgeattn.profile.latency import has_ratio, quality_warnings, ratio_of_pairs, summary

Series = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]
MS = 1_000_000


def noise(random: np.random.Generator, n: int, share: float = 0.01) -> npt.NDArray[np.float64]:
    return 1 + share * random.standard_normal(n)


def samples(series: Series, *, n: int = 50, seed: int = 0) -> list[int]:
    return [int(x) for x in series(np.random.default_rng(seed), n) * MS]


def test_statistics_of_a_known_series() -> None:
    found = summary(range(1, 102))
    assert (found.n, found.min_ns, found.mean_ns) == (101, 1, 51)
    assert (found.p50_ns, found.p90_ns, found.p99_ns) == (51, 91, 100)
    assert found.sd_ns == pytest.approx(np.std(range(1, 102), ddof=1))
    assert summary([7]).p50_interval_ns == (7, 7)
    with pytest.raises(BadInputError, match="there are no samples"):
        summary([])


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60))
def test_the_interval_holds_the_median_and_repeats(values: list[int]) -> None:
    found = summary(values)
    assert found.min_ns <= found.p50_interval_ns[0] <= found.p50_ns <= found.p50_interval_ns[1]
    assert found.p50_ns <= found.p90_ns <= found.p99_ns <= max(values)
    assert summary(values) == found


def test_the_interval_covers_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "RESAMPLES", 300)
    inside = 0
    for seed in range(200):
        low, high = summary(samples(lambda r, n: 1 + r.exponential(0.1, n), seed=seed)).p50_interval_ns
        inside += low <= MS * (1 + 0.1 * np.log(2)) <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_blocks_do_not_take_runs_of_alike_samples_for_knowledge() -> None:
    """Noise that lasts: the plain bootstrap would call the median known twice as well as it is."""
    lasting = samples(lambda r, n: np.repeat(noise(r, n // 5, 0.05), 5), n=200)
    shuffled = np.random.default_rng(0).permutation(lasting).tolist()
    low, high = summary(lasting).p50_interval_ns
    apart = summary(shuffled).p50_interval_ns
    assert high - low > 1.3 * (apart[1] - apart[0])


def test_ratios_of_pairs_do_not_see_a_drift_that_ratios_of_runs_see() -> None:
    drift = np.linspace(1, 3, 50)
    slow = samples(lambda r, n: 1.1 * drift * noise(r, n), seed=1)
    fast = samples(lambda r, n: drift * noise(r, n), seed=2)
    pairs = ratio_of_pairs(baseline_ns=slow, candidate_ns=fast)
    assert 1.09 < pairs.low <= pairs.value <= pairs.high < 1.11
    # One that stopped early has fewer rounds.
    assert ratio_of_pairs(baseline_ns=slow[:30], candidate_ns=fast).value == pytest.approx(1.1, abs=0.01)
    with pytest.raises(BadInputError):
        ratio_of_pairs(baseline_ns=slow, candidate_ns=[])


def test_times_of_0_ns_have_no_ratio() -> None:
    steady = samples(noise, n=50)
    # A few steps of a clock that is too coarse are left out of the rounds, most of them are not.
    few = [0, 0, *steady[2:]]
    assert ratio_of_pairs(baseline_ns=few, candidate_ns=steady).value == 1
    assert not has_ratio([0] * 30 + steady[30:], steady)
    with pytest.raises(BadInputError, match="no ratio"):
        ratio_of_pairs(baseline_ns=[0] * 50, candidate_ns=[0] * 50)
    assert quality_warnings([0] * 50) == (
        "half of the samples or more are 0 ns: the clock is too coarse for this artifact",
    )


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=80), st.sampled_from([50.0, 90.0, 99.0]))
def test_resampled_percentiles_are_numpys(times: list[int], percent: float) -> None:
    x = np.asarray(times, np.float64)
    ours = latency.resampled(x, statistic=lambda rows: latency.percentile(rows, percent))
    [rows] = latency._draws(len(x))
    assert np.allclose(ours, np.percentile(x[rows], percent, axis=1), rtol=1e-12)


STEP = 0.1
FAULTS: dict[str, tuple[Series, str]] = {
    "throttling": (lambda r, n: noise(r, n) + STEP * np.arange(n) / n, r"the times drift by \+.*may be throttling"),
    "a cold start": (lambda r, n: noise(r, n) - STEP * np.arange(n) / n, r"the times drift by -.*not warm yet"),
    "a step": (lambda r, n: noise(r, n) + STEP * (np.arange(n) > 0.6 * n), r"on two levels, \S+ ms and 1.1\d? ms"),
    "two cores": (lambda r, n: noise(r, n) + STEP * (r.random(n) < 0.4), "on two levels"),
    "interruptions": (lambda r, n: noise(r, n) + (np.arange(n) % 10 == 0), "10% of the samples are outliers"),
    "a noisy machine": (lambda r, n: noise(r, n, 0.3).clip(0.1), "the median is known to .* only"),
}
CALM: dict[str, Series] = {
    "quiet": noise,
    "noisier": lambda r, n: noise(r, n, 0.05),
    "with a tail": lambda r, n: 1 + r.exponential(0.05, n),
    "with a heavy tail": lambda r, n: 1 + 0.05 * r.gamma(0.7, size=n),
    "even": lambda r, n: 1 + 0.1 * r.random(n),
    "one interruption": lambda r, n: noise(r, n) + (np.arange(n) == n // 2),
    "all the same": lambda r, n: np.ones(n),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(fault: str) -> None:
    series, said = FAULTS[fault]
    for seed in range(5):
        found = quality_warnings(samples(series, seed=seed))
        assert any(re.search(said, sentence) for sentence in found), found


@pytest.mark.parametrize("kind", CALM)
def test_a_calm_run_is_believed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one calm run in a hundred is doubted; here two in 200, as a stated rate is not a promise for each."""
    monkeypatch.setattr(latency, "RESAMPLES", 200)
    wrong = [seed for seed in range(200) if quality_warnings(samples(CALM[kind], seed=seed))]
    assert len(wrong) <= 2


def test_few_samples_and_none() -> None:
    assert "only 5 samples" in quality_warnings([MS] * 5)[0]
    assert quality_warnings([]) == ()


def test_long_runs_are_judged_in_little_time_and_memory() -> None:
    long = samples(FAULTS["throttling"][0], n=100_000)
    assert any("drift" in sentence for sentence in quality_warnings(long))
    assert not quality_warnings(samples(noise, n=100_000))
