"""Where an error begins: the values inside, recorded, found in the artifacts, and judged."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeattn.export.recording import record
from edgeattn.lowering import Lowering, lower
from edgeattn.parity.layer_match import (
    ORDERS,
    Layer,
    Match,
    Matcher,
    judge,
    lost,
    positions_in,
    reaching_outputs,
    sample,
    sources,
)
from edgeattn.report.pictures.depth import Curve, describe, draw

shapes = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple)


def layer(name: str, value: np.ndarray, inputs: tuple[int, ...] = (), op: str = "Conv2d") -> Layer:
    """A layer of that value (float64), with a reference that is off by rounding alone."""
    positions = sample(value.shape)
    oracle = value.reshape(-1)[positions]
    return Layer(name, op, "file.py:1 code", inputs, value.shape, positions, oracle, oracle.astype(np.float32))


@given(shapes)
def test_the_sample_leaves_no_channel_out(shape: tuple[int, ...]) -> None:
    places = np.unravel_index(sample(shape), shape)
    for axis, length in enumerate(shape):
        assert set(places[axis]) == set(range(length))


@pytest.mark.parametrize("shape", [(1, 512, 16, 16), (1, 16, 16, 2048), (1, 1, 131072), (1, 2, 3, 4)])
def test_the_sample_is_small_and_the_same_each_time(shape: tuple[int, ...]) -> None:
    positions = sample(shape)
    assert len(positions) <= 2048
    assert np.array_equal(positions, sample(shape))
    if shape[1] == 512:
        channels = np.unravel_index(positions, shape)[1]
        assert np.median(np.bincount(channels, minlength=512)) == 4
        assert np.bincount(channels).min() >= 1


@given(shapes)
def test_a_sample_is_found_again_in_another_layout(shape: tuple[int, ...]) -> None:
    value = np.random.default_rng(0).normal(size=shape)
    x = layer("x", value)
    moved = {"same": value, "channels_last": np.moveaxis(value, min(1, value.ndim - 1), -1)}
    moved["channels_first"] = np.moveaxis(value, -1, min(1, value.ndim - 1))
    for order in ORDERS:
        held = moved[order] if value.ndim > 2 else value
        assert np.array_equal(np.ascontiguousarray(held).reshape(-1)[positions_in(x, order)], x.oracle)


def test_a_layer_is_found_by_its_value() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(1, 4, 6, 5)), random.normal(size=(1, 6, 5, 4))
    layers = [layer("a", a), layer("b", b, (0,)), layer("output y", b, (1,), "output")]
    matcher = Matcher(layers, "fp32")
    tensors = {
        "near": a * (1 + 1e-4),  # another value, as the outputs are right
        "a": a.transpose(0, 2, 3, 1),
        "a again": a.transpose(0, 2, 3, 1).reshape(30, 4),
        "indices": np.zeros((1, 4, 6, 5), np.int64),
        "b": b,
    }
    for name, value in tensors.items():
        matcher.add(name, value if value.dtype == np.int64 else value.astype(np.float32))
    assert matcher.matches() == {
        "a": Match("a", "channels_last"), "b": Match("b", "same"), "output y": Match("b", "same"),
    }  # fmt: skip


def test_in_a_broken_artifact_a_near_value_is_the_error_that_is_looked_for() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 1, 4, 6, 5))
    layers = [layer("a", a), layer("output y", b, (0,), "output")]
    matcher = Matcher(layers, "fp32")
    matcher.add("near", (a * (1 + 1e-4)).astype(np.float32))
    matcher.add("other", -b.astype(np.float32))
    matches = matcher.matches()
    assert matches == {"a": Match("near", "same")}
    assert not judge(layers[0], matches["a"], (a * (1 + 1e-4)).astype(np.float32), "fp32").passed
    assert lost(layers, matches) == ("output y",)


def test_one_wrong_channel_is_seen() -> None:
    value = np.random.default_rng(0).normal(size=(1, 300, 16, 16))
    x, broken = layer("x", value), value.astype(np.float32)
    assert judge(x, Match("t", "same"), broken, "fp32").passed
    broken[:, 123] *= 1.01
    assert not judge(x, Match("t", "same"), broken, "fp32").passed
    assert "elements instead of" in judge(x, Match("t", "same"), broken[:, 1:], "fp32").reason
    broken[:, 123, 0] = np.nan
    assert not judge(x, Match("t", "same"), broken, "fp32").passed


def test_what_is_carried_on_and_where_values_are_lost() -> None:
    """x -> mean -> centred -> fused -> relu -> y: the mean's error ends in what it is subtracted from."""
    value = np.ones(3)
    names = ("x", "mean", "centred", "fused", "relu", "output y")
    inputs = ((), (0,), (0, 1), (2,), (3,), (4,))
    layers = [layer(n, value, i, "output" if n == "output y" else "op") for n, i in zip(names, inputs, strict=True)]
    seen = {*names} - {"fused"}
    assert sources(layers, "relu", seen).matched == ("centred",)
    assert sources(layers, "relu", seen).unmatched == ("fused",)
    assert reaching_outputs(layers, {"mean"}, seen) == frozenset()
    assert reaching_outputs(layers, {"mean", "relu", "output y"}, seen) == {"relu", "output y"}
    assert lost(layers, seen) == ()
    assert lost(layers, {"x", "mean", "centred"}) == ("fused",)


class Plain(nn.Module):
    """In place, a view, a part that is used twice, and a flattening that has to copy."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.dropout(self.relu(self.conv(x)))
        y = self.conv(y).transpose(1, 2) + 1
        return y.flatten(1), F.softmax(y, -1)


def test_what_is_recorded() -> None:
    torch.manual_seed(0)
    module, x = Plain().eval(), torch.randn(1, 3, 4, 4)
    found = record(lower(module, layout="channels_first", inputs=(x,)), {"x": x}, ["y", "z"])
    assert [(v.name, v.op, v.inputs) for v in found] == [
        ("conv", "Conv2d", ()), ("relu", "ReLU", (0,)), ("conv #2", "Conv2d", (1,)), ("add()", "add", (2,)),
        ("flatten()", "flatten", (3,)), ("softmax()", "softmax", (3,)),
        ("output y", "output", (4,)), ("output z", "output", (5,)),
    ]  # fmt: skip
    assert found[0].oracle.dtype == np.float64
    assert found[0].reference.dtype == np.float32
    assert found[0].oracle.min() < 0 <= found[1].oracle.min()
    assert found[3].source.startswith("test_layers.py:")
    assert found[3].source.endswith("y = self.conv(y).transpose(1, 2) + 1")
    with torch.no_grad():
        y = module.double()(x.double())[0]
    np.testing.assert_allclose(found[6].oracle, y.numpy().reshape(-1)[found[6].positions], rtol=1e-12, atol=1e-12)


class OfTwoMinds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.dtype == torch.float64 else x * 2


def test_without_an_oracle_nothing_is_recorded() -> None:
    module, x = OfTwoMinds().eval(), torch.randn(1, 3)
    assert record(Lowering(module, module, ()), {"x": x}, ["y"]) == ()
    lowered = lower(module, layout="channels_first", inputs=(x,))
    assert [v.name for v in record(lowered, {"x": x}, ["y"])] == ["mul()", "output y"], "the graph has one mind"
    linear = lower(nn.Linear(3, 2).eval(), layout="channels_first", inputs=(x,))
    assert [v.name for v in record(linear, {"x": x}, ["y"])] == ["linear", "output y"]


def test_the_picture_says_in_words_what_it_shows() -> None:
    curves = [Curve("a, b & c", (1.0, 0.0, 200.0), (2, "stages.<1>")), Curve("nothing", (None,), (0, "first"))]
    picture = draw(curves, title="a model", limit=64)
    assert picture == draw(curves, title="a model", limit=64)
    assert "stages.&lt;1&gt; is the first over its limit" in picture
    assert "<title id='title'>a model</title>" in picture
    assert ">depth, % of the layers in order of execution</text>" in picture  # real text, no outlines
    assert describe(curves, 64).startswith("A line for each runtime")
    assert "the largest error is 200" in describe(curves, 64)
