"""A lost channel, row or value beside many right ones: found in lower precisions, and never where there is none."""

import numpy as np
import numpy.typing as npt
import pytest

from edgeattn.parity.metrics import Comparison, compare

Floats = npt.NDArray[np.float64]


def judged(truth: Floats, candidate: Floats, precision: str = "int8") -> Comparison:
    reference = truth.astype(np.float32)
    return compare(
        oracle=truth, reference=reference, candidate=candidate.astype(np.float32), precision=precision, judged=True
    )


def noisy(random: np.random.Generator, truth: Floats, decibels: float) -> Floats:
    noise = np.sqrt(np.square(truth).mean()) * 10 ** (-decibels / 20)
    return np.asarray(truth + noise * random.standard_normal(truth.shape))


@pytest.mark.parametrize("decibels", [35, 50])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_channel_at_zero(axis: int, decibels: float) -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal((2, 400, 12) if axis == 1 else (2, 12, 400))
    place = (slice(None),) * axis + (17,)
    truth[place] *= 0.7
    candidate = noisy(random, truth, decibels)
    assert judged(truth, candidate).passed
    candidate[place] = 0
    verdict = judged(truth, candidate)
    assert verdict.sqnr_db > 25
    assert not verdict.passed
    assert verdict.reason.startswith(f"number 17 of axis {axis} is lost: its error is ")


def test_one_probability_beside_640_others() -> None:
    random = np.random.default_rng(0)
    truth = 10 * random.standard_normal((1, 641))
    truth[0, 640] = 4.0
    candidate = noisy(random, truth, 45)
    assert judged(truth, candidate).passed
    candidate[0, 640] = 0
    assert judged(truth, candidate).sqnr_db > 25
    assert not judged(truth, candidate).passed


def test_half_precision_too() -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal((1, 64, 50))
    truth[:, 9] *= 0.02
    candidate = noisy(random, truth, 66)
    assert judged(truth, candidate, "fp16").passed
    candidate[:, 9] = 0
    verdict = judged(truth, candidate, "fp16")
    assert verdict.sqnr_db > 50
    assert "number 9 of axis 1 is lost" in verdict.reason


@pytest.mark.parametrize("seed", range(20))
def test_what_is_rounded_is_not_lost(seed: int) -> None:
    """Noise down to the limit, channels of all sizes, probabilities, and one step for all values."""
    random = np.random.default_rng(seed)
    logits = 4 * random.standard_normal((3, 1000))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scales = np.exp(2 * random.standard_normal((1, 96, 1)))
    uneven = scales * random.standard_normal((2, 96, 30))
    for truth in (logits, random.standard_normal((2, 64, 9, 9)), random.standard_normal(5000)):
        assert judged(truth, noisy(random, truth, 26)).passed
    for truth in (logits, probabilities, uneven):
        step = np.abs(truth).max() / 127
        rounded = np.round(truth / step) * step
        if judged(truth, rounded).sqnr_db >= 25:
            assert judged(truth, rounded).passed, judged(truth, rounded).reason
    by_channel = uneven + 0.02 * scales * random.standard_normal(uneven.shape)
    assert judged(uneven, by_channel).passed
