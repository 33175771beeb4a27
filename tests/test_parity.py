"""The measure itself: what is the same passes, whatever its scale; what is broken does not."""

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

from edgeattn.bundle import manifest
from edgeattn.bundle.golden import golden_case
from edgeattn.parity.check import verify
from edgeattn.parity.metrics import EXACT_LIMIT, Array, Comparison, compare, exact_limit, relative_error

rng = np.random.default_rng(0)
WEIGHT, X = rng.standard_normal((64, 64)), rng.standard_normal((64, 500))


def judge(candidate: Array, scale: float = 1.0) -> Comparison:
    reference = np.float32(WEIGHT) @ np.float32(X * scale)
    return compare(oracle=np.float64(np.float32(WEIGHT)) @ np.float64(np.float32(X * scale)), reference=reference,
                   candidate=candidate, precision="fp32")  # fmt: skip


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_another_order_of_summation_passes_at_any_scale(scale: float) -> None:
    x = np.float32(X * scale)
    candidate = sum(np.outer(np.float32(WEIGHT)[:, k], x[k]) for k in range(64))
    verdict = judge(np.asarray(candidate, np.float32), scale)
    assert verdict.passed, verdict.reason
    assert 0.1 < verdict.rms_noise_units < 8


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_weight_off_by_one_percent_fails_at_any_scale(scale: float) -> None:
    weight = WEIGHT.copy()
    weight[3] *= 1.01
    verdict = judge(np.float32(weight) @ np.float32(X * scale), scale)
    assert not verdict.passed
    assert "noise floor" in verdict.reason
    assert verdict.max_noise_units > 1000


def test_weights_rounded_to_half_precision_fail() -> None:
    assert not judge(np.float32(np.float16(WEIGHT)) @ np.float32(X)).passed


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda y: np.where(np.arange(500) == 7, np.nan, y), "NaN"),
        (lambda y: np.where(np.arange(500) == 7, np.inf, y), "NaN or infinite"),
        (lambda y: y[:, :-1], "shape"),
        (lambda y: y.T, "shape"),
        (lambda y: y.astype(np.float64), "type float64"),
        (lambda y: y.astype(np.float16), "type float16"),
        (lambda y: -y, "noise floor"),
        (lambda y: np.zeros_like(y), "noise floor"),
        (lambda y: y[::-1], "noise floor"),
    ],
)
def test_a_broken_output_fails_and_says_why(break_it, said) -> None:  # type: ignore[no-untyped-def]
    reference = np.float32(WEIGHT) @ np.float32(X)
    verdict = judge(break_it(reference).astype(break_it(reference).dtype))
    assert not verdict.passed
    assert said in verdict.reason


def test_a_floor_of_zero_is_no_division_by_zero() -> None:
    zero = np.zeros((2, 3))
    exact = compare(oracle=zero, reference=np.float32(zero), candidate=np.float32(zero), precision="fp32")
    assert exact.passed
    assert (exact.max_noise_units, exact.cosine, exact.sqnr_db) == (0, 1, inf)
    wrong = compare(oracle=zero, reference=np.float32(zero), candidate=np.float32(zero + 1e-3), precision="fp32")
    assert not wrong.passed
    ones = np.ones((2, 3))
    last_bit = np.nextafter(np.float32(ones), np.float32(2))
    assert compare(oracle=ones, reference=np.float32(ones), candidate=last_bit, precision="fp32").passed


def test_an_empty_output_is_the_same_as_an_empty_output() -> None:
    empty = np.zeros((0, 3))
    assert compare(oracle=empty, reference=np.float32(empty), candidate=np.float32(empty), precision="fp32").passed


def test_relative_error() -> None:
    assert relative_error(reference=np.array([0.0, 4.0]), candidate=np.array([0.0, 5.0])) == 0.25
    assert relative_error(reference=np.zeros(2), candidate=np.array([0.0, 0.5])) == 0.5
    assert relative_error(reference=np.ones(2), candidate=np.array([1.0, np.nan])) == inf


def hop_one(condition: float, error: float) -> bool:
    """Whether a lowered form with a relative error in float64 is the same function, where float32's own is larger by
    ``condition`` than its rounding."""
    oracle = rng.standard_normal((8, 64))
    noise = 2.0**-24 * condition * np.abs(oracle).max()
    reference = oracle + noise * rng.choice([-1, 1], oracle.shape)
    exact = oracle * (1 + error)
    limit = exact_limit(oracle=oracle, reference=reference)
    return relative_error(reference=oracle, candidate=exact) <= limit


def test_float64_rounds_more_in_an_ill_conditioned_network() -> None:
    assert hop_one(1, 1e-11)
    assert not hop_one(1, 1e-6)
    assert not hop_one(1, 2e-10)
    # 2^-53 grows by a million, as 2^-24 does.
    assert hop_one(1e6, 2.0**-53 * 1e6)
    assert not hop_one(1e6, 1e-6)


def test_without_a_reference_that_can_be_compared_the_limit_stays() -> None:
    one = np.ones((2, 2))
    assert exact_limit(oracle=one, reference=np.full((2, 2), np.nan)) == EXACT_LIMIT
    assert exact_limit(oracle=one, reference=one[:1]) == EXACT_LIMIT


@pytest.mark.parametrize(
    ("noise", "error", "same"),
    [(0.0, 1e-11, True), (0.0, 1e-6, False), (0.0, 4e-10, False), (1.0, 4e-10, True), (1.0, 1e-6, False)],
)
def test_hop_one_judges_by_it(noise: float, error: float, same: bool, bundle: Path) -> None:
    """A form that is off in float64 by ``error``, of a network whose float32 is off by ``noise`` percent."""
    data = manifest.load(bundle)
    name, file = next(iter(data.manifest.golden.items()))
    case = golden_case(data, name)
    ((output, value),) = case.reference("fp64").items()
    case.references["fp32"][output] += np.float32(noise / 100 * np.abs(value).max())
    case.lowered("channels_first", "fp64")[output] *= 1 + error
    case.write(data.path(file))
    golden = {name: manifest.describe(bundle, data.path(file))}
    report = verify(replace(data, manifest=replace(data.manifest, golden=golden, artifacts=())))
    (row,) = (row for row in report.rows if row.candidate == "channels_first")
    assert row.passed is same, row.reason
    assert same or "another function" in row.reason
