"""Times as ratios: interleaved samples of several callables, and what they say. Pure but for the clock."""

import time
from collections.abc import Callable, Mapping

import numpy as np


def interleave(calls: Mapping[str, Callable[[], object]], *, runs: int, warmup: int) -> dict[str, list[int]]:
    """Time the calls in turn, A B A B, so that a drift of the machine falls on all alike.

    Returns:
        samples_ns by name, ``runs`` of each; the ``warmup`` rounds are not kept.
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


def ratio(*, baseline_ns: list[int], candidate_ns: list[int]) -> float:
    """How many times as fast the candidate is: median over the rounds of baseline / candidate."""
    return float(np.median(np.asarray(baseline_ns, np.float64) / np.asarray(candidate_ns, np.float64)))
