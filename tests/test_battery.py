"""The battery of inputs: seeded, of the right shape, in the range that a model expects; and what verify makes of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, Answer
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgeattn import deploy
from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.golden import golden_cases
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.bundle.tensors import Arrays
from edgeattn.export import cases, source
from edgeattn.lowering import Understood, understand
from edgeattn.parity import battery, check
from edgeattn.runtimes import onnxruntime

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
NAMES = {"normal", "uniform", "constant", "zero", "one_pixel", "mixed_scale", "tiny", "large", "negative", "positive"}
BEYOND = {"tiny", "large", "negative", "positive"}


@given(SHAPES, st.sampled_from(["float32", "float16", "float64"]))
def test_cases_have_shape_and_type_and_repeat(shape: tuple[int, ...], dtype: str) -> None:
    first, second = battery.cases(shape, dtype), battery.cases(shape, dtype)
    assert first.keys() == NAMES
    for name, case in first.items():
        assert case.values.shape == shape
        assert case.values.dtype == dtype
        assert np.array_equal(case.values, second[name].values)


@given(st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)))
def test_an_expected_range_is_kept(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for limits in ((0.0, 1.0), (-2.1, 2.6)):
        for name, case in battery.cases(shape, "float64", limits=limits).items():
            if name not in BEYOND:
                assert limits[0] <= case.values.min() <= case.values.max() <= limits[1]
        photograph = battery.photograph(image, shape, "float64", limits)
        assert photograph is not None
        assert limits[0] <= photograph.min() <= photograph.max() <= limits[1]


def test_one_pixel_is_one_pixel() -> None:
    values = battery.cases((2, 3, 4, 5), "float32")["one_pixel"].values
    assert (values.sum(axis=(2, 3)) == 1).all()
    assert len({tuple(place[1:]) for place in np.argwhere(values)[:, 1:]}) == 1


def test_a_photograph_is_cut_and_not_squeezed() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, 5:15, 1] = 255
    made = battery.photograph(image, (1, 3, 5, 5), "float32", (0.0, 1.0))
    assert made is not None
    assert (made[:, 1] == 1).all()
    assert not made[:, ::2].any()
    assert battery.photograph(image, (3, 5), "float32", None) is None


def test_limits_come_from_the_preprocessing() -> None:
    assert battery.limits_of(None) is None
    assert battery.limits_of(Preprocessing()) == (0, 1)
    assert battery.limits_of(Preprocessing(mean=(0.5,), std=(0.25,))) == (-2, 2)
    assert battery.limits_of(Preprocessing(mean=(0.5, 0.25, 0), std=(1.0,))) == (0, 0.5)
    assert battery.limits_of(Preprocessing(largest_pixel=16, scale=1 / 8)) == (0, 2)


def understood(given: source.Source) -> Understood:
    return understand(given.module.eval(), tuple(given.inputs.values()))


def test_large_scores_are_large() -> None:
    loaded = source.load("attention", ["embed_dim=8", "pixels=2", "patches=8"])
    found, omitted = cases.inputs(loaded, understood(loaded), [], dynamic_batch=False)
    assert not omitted
    layer, x = loaded.module, found["large_scores"].inputs["x"]
    query = torch.nn.functional.conv2d(x, layer.get_parameter("qkv_proj.weight").detach()[:1])
    assert float(query.abs().max()) == pytest.approx(50, rel=1e-3)
    assert float(query.softmax(-1).max()) > 0.9


class Plain(nn.Module):
    def __init__(self, overflows: bool) -> None:
        super().__init__()
        self.overflows = overflows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.overflows and not x.any():
            raise RuntimeError("all zeros")
        return torch.exp(x) if self.overflows else x + 1


def test_what_a_model_cannot_have_is_said() -> None:
    made = source.Source("m", {}, Plain(overflows=True), {"x": torch.zeros(1, 4)}, {"y": torch.zeros(1, 4)})
    found, omitted = cases.inputs(made, understood(made), [], dynamic_batch=False)
    assert "overflows" in omitted["large"]
    assert omitted["zero"] == "the reference fails on it: all zeros"
    assert not {"large", "zero"} & found.keys()
    assert "rank 4" in omitted["photograph"]
    assert "no separable attention" in omitted["large_scores"]
    whole = source.Source("m", {}, Plain(False), {"x": torch.zeros(1, 4, dtype=torch.int64)}, {"y": torch.zeros(1, 4)})
    found, _ = cases.inputs(whole, understood(whole), [], dynamic_batch=False)
    assert found.keys() == {"example", "lowest", "highest", "random"}


def test_integers_and_numbers_have_cases_too(tmp_path: Path) -> None:
    """An integer may be an index, a boolean has no negative, and a number no axis to be mirrored along."""
    inputs = {
        "x": torch.tensor([[1.0, 2.0]]),
        "ids": torch.tensor([[3, 4]]),
        "mask": torch.tensor([[True, False]]),
        "number": torch.tensor(0.5),
    }
    made = source.Source("m", {}, Sum(), inputs, {"y": torch.zeros(1, 2)})
    found, _ = cases.inputs(made, understood(made), [], dynamic_batch=True)
    assert {name: x.tolist() for name, x in found["batch_of_two"].inputs.items()} == {
        "x": [[1, 2], [-2, -1]],
        "ids": [[3, 4], [4, 3]],
        "mask": [[True, False], [False, True]],
        "number": 0.5,
    }
    assert {case.inputs["number"].shape for case in found.values()} == {()}
    assert deploy(Sum(), inputs, out=tmp_path / "b", formats="onnx").passed


class Sum(nn.Module):
    def forward(self, x: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        return x + ids + mask + number


def test_the_manifest_says_what_each_case_is(made_bundle: Path) -> None:
    manifest = bundles.load(made_bundle).manifest
    assert manifest.cases.keys() == manifest.golden.keys() == NAMES | {"example", "photograph", "large_scores"}
    assert str(battery.SEED) in manifest.cases["normal"]


class Leaky:
    """A runtime whose answers depend on how often it was asked."""

    def __init__(self, session: onnxruntime._Session) -> None:
        self.session, self.signature, self.runs = session, session.signature, 0

    def run(self, inputs: Arrays) -> Arrays:
        self.runs += 1
        return {name: y * (1 + 1e-3 * (self.runs > 5)) for name, y in self.session.run(inputs).items()}


def test_state_that_leaks_is_seen(made_bundle: Path) -> None:
    bundle = bundles.load(made_bundle)
    artifact = next(a for a in bundle.manifest.artifacts if a.format == "onnx")
    golden = dict(list(golden_cases(bundle).items())[:3])
    with onnxruntime.RUNTIME.open(bundle.path(artifact.file)) as session:
        sound = check.check_artifact(artifact, "onnxruntime", session, golden)
        leaky = Leaky(session)
        leaky.runs = 2  # three cases, then the first once more: the sixth run
        found = check.check_artifact(artifact, "leaky", leaky, golden)
    assert all(row.passed for row in sound)
    assert [row.case for row in found if not row.passed] == ["example, again after 3 runs"]


def test_batches_and_their_samples_one_by_one(edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    answer = edgeattn(
        "export", "attention", *SMALL, "--format", "onnx", "--dynamic-batch", "--out", tmp_path / "b", "--json"
    )
    assert answer.code == 0, answer.err
    rows = edgeattn("parity", tmp_path / "b", "--json").document["rows"]
    found = {row["case"]: row["passed"] for row in rows if row["hop"] == "conversion"}
    for name in ("batch_of_two", "batch_of_three", "batch_of_five"):
        assert found[name]
        assert found[f"{name}, one by one"]


def test_an_output_that_says_nothing_is_warned_of(edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "dead.py").write_text(
        "import torch\n"
        "class Dead(torch.nn.Module):\n"
        "    def forward(self, x): return x * 1e-40, x + 1, torch.zeros_like(x) + 3\n"
        "def make(): return Dead(), torch.ones(1, 4)\n"
    )
    answer = edgeattn("export", f"{tmp_path}/dead.py:make", "--format", "onnx", "--out", tmp_path / "b", "--json")
    # An output below the smallest normal number of float32 is all noise: its agreement shows nothing.
    assert answer.code == 1, answer.err
    parity = answer.document["manifest"]["parity"]
    assert [w.split()[1] for w in parity["warnings"]] == ["y_0", "y_2"]
    assert [entry["reason"].split(":")[0] for entry in parity["not_shown"]] == ["output y_0, in 11 of 12 cases"]
