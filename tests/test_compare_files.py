"""`edgeattn compare` of two files: of free axes, in other layouts and types, under other names."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Answer
from onnx import TensorProto, helper, numpy_helper

from edgeattn.parity import feed
from edgeattn.parity.feed import Edge, Side

Command = Callable[..., Answer]
FLOAT = TensorProto.FLOAT
RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.standard_normal((8, 3, 3, 3)).astype(np.float32)
# The same in the middle, which is all that a 1x1 image meets.
OTHER = np.where(np.arange(9).reshape(3, 3) == 4, KERNEL, 7 * KERNEL).astype(np.float32)


def save(path: Path, nodes: list[Any], ins: list[Any], outs: list[Any], weights: dict[str, Any] | None = None) -> Path:
    """An ONNX file; ``ins`` and ``outs`` are (name, type, shape)."""
    edges = [[helper.make_tensor_value_info(*edge) for edge in side] for side in (ins, outs)]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", *edges, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def conv(path: Path, kernel: Any, shape: list[Any], name: str = "x", out: str = "y") -> Path:
    node = helper.make_node("Conv", [name, "w"], [out], pads=[1, 1, 1, 1])
    return save(path, [node], [(name, FLOAT, shape)], [(out, FLOAT, [shape[0], 8, *shape[2:]])], {"w": kernel})


def rows(answer: Answer) -> list[dict[str, Any]]:
    assert answer.code == 0, answer.err
    found: list[dict[str, Any]] = answer.document["rows"]
    return found


def test_a_size_is_asked_for(tmp_path: Path, edgeattn: Command) -> None:
    """Two convolutions that differ in eight of nine taps are the same on a 1x1 image."""
    a, b = (conv(tmp_path / f"{n}.onnx", w, ["N", 3, "H", "W"]) for n, w in (("a", KERNEL), ("b", OTHER)))
    refused = edgeattn("compare", a, b)
    assert refused.code == 2
    assert "--shape x=N,3,N,N" in refused.err
    [row] = rows(edgeattn("compare", a, b, "--shape", "x=1,3,16,16", "--json"))
    assert row["difference"]["sqnr_db"] < 0
    [row] = rows(edgeattn("compare", a, a, "--shape", "x=2,3,8,8", "--json"))
    assert row["difference"]["max_abs"] == 0
    # A size that only one leaves free is the other's.
    fixed = conv(tmp_path / "c.onnx", OTHER, [1, 3, 16, 16])
    for pair in ((a, fixed), (fixed, a)):
        [row] = rows(edgeattn("compare", *pair, "--json"))
        assert row["difference"]["sqnr_db"] < 10
    document = edgeattn("inspect", a, "--json").document
    assert document["macs"] is None
    assert "unknown" in edgeattn("inspect", a).out
    assert edgeattn("inspect", fixed, "--json").document["macs"] == 8 * 16 * 16 * 27


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("x=1,3,0,16", "whole numbers from 1 on"),
        ("x", "whole numbers from 1 on"),
        ("x=1,4,16,16", "takes [?, 3, ?, ?], not [1, 4, 16, 16]"),
        ("x=1,3,16", "takes [?, 3, ?, ?], not [1, 3, 16]"),
        ("z=1,3,16,16", "there is no such input"),
    ],
)
def test_sizes_that_cannot_be(shape: str, said: str, tmp_path: Path, edgeattn: Command) -> None:
    a = conv(tmp_path / "a.onnx", KERNEL, ["N", 3, "H", "W"])
    answer = edgeattn("compare", a, a, "--shape", shape)
    assert answer.code == 2
    assert said in " ".join(answer.err.split())


def test_the_bundle_knows_the_layout(tmp_path: Path, edgeattn: Command) -> None:
    """Of a cube of channels, pixels and patches the shape says nothing."""
    cube = ("--arg", "embed_dim=8", "--arg", "pixels=8", "--arg", "patches=8")
    made = edgeattn("export", "attention", *cube, "--format", "onnx", "--format", "tflite", "--out", tmp_path / "b")
    assert made.code == 0, made.err
    files = [tmp_path / "b" / f"attention-fp32{suffix}" for suffix in (".onnx", ".tflite")]
    for pair in (files, files[::-1]):
        [row] = rows(edgeattn("compare", *pair, "--json"))
        assert row["difference"]["sqnr_db"] > 100
    alone = [Path(shutil.copy(file, tmp_path)) for file in files]
    refused = edgeattn("compare", *alone)
    assert refused.code == 2
    assert "does not tell channels-first from channels-last" in refused.err
    # A manifest of other files says nothing, and one of something else is no error.
    shutil.copy(tmp_path / "b" / "manifest.json", tmp_path)
    (tmp_path / "attention-fp32.onnx").write_bytes(files[0].read_bytes() + b"")
    [row] = rows(edgeattn("compare", *alone, "--json"))
    assert row["difference"]["sqnr_db"] > 100
    (tmp_path / "manifest.json").write_text('{"name": "an extension of a browser"}')
    assert edgeattn("compare", *alone).code == 2
    assert edgeattn("compare", alone[0], alone[0]).code == 0


def relu(path: Path, dtype: int, name: str = "x") -> Path:
    return save(path, [helper.make_node("Relu", [name], ["y"])], [(name, dtype, [1, 16])], [("y", dtype, [1, 16])])


def test_other_types_and_names(tmp_path: Path, edgeattn: Command) -> None:
    single = relu(tmp_path / "a.onnx", FLOAT)
    for other in (relu(tmp_path / "h.onnx", TensorProto.FLOAT16), relu(tmp_path / "n.onnx", FLOAT, "image")):
        for pair in ((single, other), (other, single)):
            [row] = rows(edgeattn("compare", *pair, "--json"))
            assert row["difference"]["max_abs"] == 0
    two = [("p", FLOAT, [4]), ("q", FLOAT, [4])]
    a = save(tmp_path / "two.onnx", [helper.make_node("Add", ["p", "q"], ["y"])], two, [("y", FLOAT, [4])])
    answer = edgeattn("compare", single, a)
    assert answer.code == 2
    assert "takes x, but" in answer.err


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.BOOL, TensorProto.INT64, TensorProto.INT32])
def test_inputs_that_are_no_floats(dtype: int, tmp_path: Path, edgeattn: Command) -> None:
    def cast(path: Path, factor: float) -> Path:
        nodes = [helper.make_node("Cast", ["x"], ["f"], to=FLOAT), helper.make_node("Mul", ["f", "w"], ["y"])]
        weights = {"w": np.float32([factor])}
        return save(path, nodes, [("x", dtype, [4, 8])], [("y", FLOAT, [4, 8])], weights)

    a, b = cast(tmp_path / "a.onnx", 1.0), cast(tmp_path / "b.onnx", 2.0)
    assert rows(edgeattn("compare", a, a, "--json"))[0]["difference"]["max_abs"] == 0
    assert rows(edgeattn("compare", a, b, "--json"))[0]["difference"]["relative"] == pytest.approx(1)


def test_every_row_of_a_table_is_looked_up(tmp_path: Path, edgeattn: Command) -> None:
    """Two embeddings that differ in one row of 200, which sixteen random tokens would meet seldom."""

    def embedding(path: Path, table: Any) -> Path:
        node = helper.make_node("Gather", ["t", "x"], ["y"])
        return save(path, [node], [("x", TensorProto.INT64, [1, 16])], [("y", FLOAT, [1, 16, 4])], {"t": table})

    table = RANDOM.standard_normal((200, 4)).astype(np.float32)
    other = table.copy()
    other[137] += 1
    a, b = embedding(tmp_path / "a.onnx", table), embedding(tmp_path / "b.onnx", other)
    [row] = rows(edgeattn("compare", a, b, "--json"))
    assert row["difference"]["max_abs"] == pytest.approx(1, rel=1e-5)
    assert "worst of 13 passes" in row["case"]
    assert rows(edgeattn("compare", a, a, "--json"))[0]["difference"]["max_abs"] == 0


def test_the_same_infinity_is_no_difference(tmp_path: Path, edgeattn: Command) -> None:
    def log(path: Path, nodes: list[Any]) -> Path:
        return save(path, nodes, [("x", FLOAT, [1, 16])], [("y", FLOAT, [1, 16])])

    relus = helper.make_node("Relu", ["x"], ["r"])
    a = log(tmp_path / "a.onnx", [relus, helper.make_node("Log", ["r"], ["y"])])
    assert rows(edgeattn("compare", a, a, "--json"))[0]["difference"]["max_abs"] == 0
    minus = [relus, helper.make_node("Log", ["r"], ["l"]), helper.make_node("Neg", ["l"], ["y"])]
    b = log(tmp_path / "b.onnx", minus)
    # JSON has no infinity: it is null there.
    assert rows(edgeattn("compare", a, b, "--json"))[0]["difference"]["max_abs"] is None
    nan = log(
        tmp_path / "n.onnx", [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["z", "z"], ["y"])]
    )
    assert rows(edgeattn("compare", nan, nan, "--json"))[0]["difference"]["max_abs"] is None


def test_a_file_of_steps_is_compared_in_values(tmp_path: Path, edgeattn: Command) -> None:
    own = ("--edge-type", "own", "--format", "tflite", "--precision", "fp32", "--precision", "int8")
    small = ("--arg", "embed_dim=8", "--arg", "pixels=4", "--arg", "patches=6")
    made = edgeattn("export", "attention", *small, *own, "--out", tmp_path / "b")
    assert made.code == 0, made.err
    a, b = (tmp_path / "b" / f"attention-{name}.tflite" for name in ("fp32", "int8"))
    for pair in ((a, b), (b, a), (b, b)):
        [row] = rows(edgeattn("compare", *pair, "--json"))
        decibels = row["difference"]["sqnr_db"]
        assert decibels is None or decibels > 15


def test_the_steps_of_both_are_values_of_both() -> None:
    first = Edge("x", (2, 500), "int8", scale=0.02, zero_point=-5)
    second = Edge("x", (2, 500), "float32")
    sides = [Side(name, (edge,), (), "channels_first") for name, edge in (("a", first), ("b", second))]
    for a, b in (sides, sides[::-1]):
        [(_, one, other)] = feed.cases(feed.pairs(a, b, {}), 100)
        in_values = [feed.values(x["x"], edge) for x, edge in ((one, a.inputs[0]), (other, b.inputs[0]))]
        assert np.abs(in_values[0].astype(np.float64) - in_values[1]).max() < 1e-6
        assert np.ptp(in_values[0].astype(np.float64)) > 2


def test_inputs_that_are_no_numbers_are_refused(tmp_path: Path, edgeattn: Command) -> None:
    edges = [[("x", TensorProto.STRING, [2])], [("y", TensorProto.STRING, [2])]]
    a = save(tmp_path / "a.onnx", [helper.make_node("Identity", ["x"], ["y"])], *edges)
    answer = edgeattn("compare", a, a)
    assert answer.code == 2
    assert "no numbers" in answer.err
