"""Every op of mil_reference from a saved file, against NumPy and PyTorch."""

from types import SimpleNamespace
from typing import Any

import mil_cases
import mil_cases_moves
import numpy as np
import pytest
import torch
from mil_programs import Array, observe, save

import edgeattn.formats.mil.ops  # noqa: F401 - its ops register themselves
from edgeattn.formats.mil.registry import OPS

CASES = {**mil_cases.CASES, **mil_cases_moves.CASES}


def build(mb: Any, v: SimpleNamespace) -> Any:
    v.truth = mb.greater(x=v.x, y=np.float32(0), name="truth")
    v.other = mb.less(x=v.y, y=np.float32(0), name="other")
    v.steps = mb.quantize(input=v.x, scale=np.float32(0.02), output_dtype="int8", name="steps")
    for name, (arguments, _) in CASES.items():
        getattr(mb, name.partition("/")[0])(**arguments(v), name=name.replace("/", "_of_"))
    return mb.add(x=v.x, y=v.y, name="out")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Array]]:
    """One program with all cases: building and saving it costs as much as for one of them."""
    path = save(tmp_path_factory.mktemp("ops") / "ops.mlpackage", mil_cases.INPUTS, build, "iOS18")
    return observe(path, mil_cases.INPUTS)


@pytest.fixture(scope="module")
def arrays(seen: dict[str, tuple[str, Array]]) -> SimpleNamespace:
    made = {name: seen[name][1] for name in ("truth", "other", "steps")}
    return SimpleNamespace(**mil_cases.INPUTS, **made)


@pytest.mark.parametrize("name", CASES)
def test_op(name: str, seen: dict[str, tuple[str, Array]], arrays: SimpleNamespace) -> None:
    expected = CASES[name][1](arrays)
    several = isinstance(expected, tuple)
    for number, one in enumerate(expected if several else [expected]):
        op, value = seen[name.replace("/", "_of_") + (f"_{number}" if several else "")]
        assert op == name.partition("/")[0]
        want = one.numpy() if isinstance(one, torch.Tensor) else np.asarray(one)
        assert value.shape == want.shape
        assert value.dtype == want.dtype or (value.dtype, want.dtype) == (np.int32, np.int64)
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, want, rtol=2e-5, atol=2e-6)
        else:
            np.testing.assert_array_equal(value, want)


def test_every_op_has_a_case() -> None:
    assert {name.partition("/")[0] for name in CASES} == {name for name in OPS if not name.startswith("constexpr_")}
