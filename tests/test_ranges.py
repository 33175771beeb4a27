"""Which range a tensor's 256 steps cover, and in how many scales ONNX keeps weights."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeattn.export.quantize import Job
from edgeattn.export.quantize import onnx as onnx_precisions
from edgeattn.export.quantize._ranges import Ranges, rounded, silu
from edgeattn.export.quantize._silu import Step, parts_of_silu, read_by_silu_alone
from edgeattn.precision import INT8, INT8_DYNAMIC, Precision
from edgeattn.runtimes import onnxruntime
from edgeattn.targets._runner import worker

SIGMOID = Step("Sigmoid", ("x",), "s")
PRODUCT = Step("Mul", ("x", "s"), "y")


@pytest.mark.parametrize(
    ("steps", "outputs", "found"),
    [
        ([SIGMOID, PRODUCT], {"y"}, {"x"}),
        ([Step("LOGISTIC", ("x",), "s"), Step("MUL", ("s", "x"), "y")], {"y"}, {"x"}),
        ([Step("silu", ("x",), "y")], {"y"}, {"x"}),
        ([SIGMOID, PRODUCT], {"x", "y"}, set()),  # given to the outside too
        ([SIGMOID, PRODUCT, Step("Add", ("x", "y"), "z")], {"z"}, set()),  # a residual reads it too
        ([SIGMOID, Step("Mul", ("x", "other"), "y")], {"y"}, set()),  # a gate and a product, but no SiLU
        ([SIGMOID], {"s"}, set()),
        ([Step("silu", ("x",), "y"), Step("silu", ("x",), "z")], {"y", "z"}, set()),
    ],
)
def test_what_only_silu_reads(steps: list[Step], outputs: set[str], found: set[str]) -> None:
    assert read_by_silu_alone(steps, outputs) == found


def test_what_is_part_of_a_silu() -> None:
    gate = [Step("LOGISTIC", ("g",), "gate"), Step("MUL", ("gate", "v"), "gated")]
    assert parts_of_silu([SIGMOID, PRODUCT, *gate, Step("Add", ("x", "y"), "z")]) == {"s", "y", "gate"}


def test_the_far_negative_end_is_cut_off_before_silu_only() -> None:
    values = np.random.default_rng(0).normal(0, 4, (64, 64)).astype("f4")
    ranges = Ranges(1, {"x"})
    for name in ("x", "other"):
        ranges.add(name, values)
    ranges.add("integers", np.arange(3))
    ranges.add("empty", np.zeros((0, 3), "f4"))
    found = ranges.result()
    whole = (float(values.min()), float(values.max()))
    assert found.keys() == {"x", "other"}
    assert found["other"] == whole
    low, high = found["x"]
    assert whole[0] < low < -2
    assert high == whole[1]

    def error(ends: tuple[float, float]) -> float:
        return float(np.square(silu(rounded(values.astype("f8"), *ends)) - silu(values.astype("f8"))).mean())

    assert error((low, high)) < 0.8 * error(whole)


def test_an_end_that_silu_needs_stays() -> None:
    """Around zero SiLU is nearly linear: nothing there is worth less than the rest."""
    values = np.linspace(-1, 1, 500, dtype="f4")
    ranges = Ranges(1, {"x"})
    ranges.add("x", values)
    assert ranges.result()["x"][0] < -0.9


def _saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    x: list[int],
    outputs: dict[str, list[int]],
    constants: dict[str, np.ndarray[tuple[int, ...], np.dtype[Any]]],
) -> Path:
    """A model that takes ``x`` and gives ``outputs``, by their shapes."""
    given, *taken = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in {"x": x, **outputs}.items()
    )
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [given], taken, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


def _convolution(tmp_path: Path) -> tuple[Path, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """y = conv(x) with channels of very different sizes, then a product with a constant on its left."""
    random = np.random.default_rng(0)
    kernel = (
        random.normal(0, 1, (32, 32, 3, 3)).astype("f4") * np.geomspace(0.01, 10, 32, dtype="f4")[:, None, None, None]
    )
    matrix = random.normal(0, 1, (128, 32)).astype("f4")
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["c", "axes"], ["m"], "mean", keepdims=0),
        helper.make_node("MatMul", ["matrix", "m"], ["y"], "product"),
    ]
    outputs = {"c": [1, 32, 8, 8], "y": [128, 8]}
    constants = {"kernel": kernel, "matrix": matrix, "axes": np.array([0, 2], np.int64)}
    path = _saved(tmp_path / "fp32.onnx", nodes, [1, 32, 8, 8], outputs, constants)
    return path, random.normal(0, 1, (1, 32, 8, 8)).astype("f4")


@pytest.mark.parametrize("precision", [INT8, INT8_DYNAMIC])
def test_every_channel_of_an_onnx_weight_has_its_scale(tmp_path: Path, precision: Precision) -> None:
    path, x = _convolution(tmp_path)
    out = tmp_path / "int8.onnx"
    onnx_precisions.QUANTIZER.make(Job(path, out, precision, ({"x": x},)))
    with onnxruntime.RUNTIME.open(path) as session:
        truth = session.run({"x": x})
    with onnxruntime.RUNTIME.open(out) as session:
        given = session.run({"x": x})
    noise = np.sqrt(np.square(given["y"] - truth["y"]).mean() / np.square(truth["y"]).mean())
    assert noise < 0.02
    if precision == INT8_DYNAMIC:
        # With one scale for all, the smallest channels would be gone.
        each = np.abs(given["c"] - truth["c"]).mean(axis=(0, 2, 3)) / np.abs(truth["c"]).mean(axis=(0, 2, 3))
        assert each.max() < 0.03
    floats = [t for t in onnx.load(str(out)).graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert max(np.prod(t.dims) for t in floats) <= 128  # scales only
    assert out.stat().st_size < 0.35 * path.stat().st_size


def test_a_mean_over_a_map_stands_behind_a_reshape(tmp_path: Path) -> None:
    """In whole models onnxruntime moves the transpose behind an int8 convolution past the mean, where it costs more."""
    kernel = np.random.default_rng(0).normal(0, 1, (8, 3, 3, 3)).astype("f4")
    x = np.random.default_rng(1).normal(0, 1, (1, 3, 16, 16)).astype("f4")
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], "conv"),
        helper.make_node("ReduceMean", ["c", "axes"], ["m"], "mean"),
        helper.make_node("Sub", ["c", "m"], ["y"], "sub"),
    ]
    constants = {"kernel": kernel, "axes": np.array([2, 3], np.int64)}
    path = _saved(tmp_path / "fp32.onnx", nodes, list(x.shape), {"y": [1, 8, 14, 14]}, constants)
    out = tmp_path / "int8.onnx"
    onnx_precisions.QUANTIZER.make(Job(path, out, INT8, ({"x": x},)))
    made = {node.output[0]: node for node in onnx.load(str(out)).graph.node}
    assert made[made["m"].input[0]].op_type == "Reshape"
    with onnxruntime.RUNTIME.open(path) as session, onnxruntime.RUNTIME.open(out) as other:
        truth, given = session.run({"x": x})["y"], other.run({"x": x})["y"]
    assert np.sqrt(np.square(given - truth).mean() / np.square(truth).mean()) < 0.02


@pytest.mark.parametrize("judge", ["parity", "worker"])
def test_int8_products_do_not_saturate_whatever_the_cpu(judge: str, tmp_path: Path) -> None:
    """x86 with AVX2 and without VNNI adds two products in 16 bits, where these do not fit: 101 instead of 200."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        **{"x_scale": np.float32(1), "x_zero": np.uint8(0), "w": np.full((16, 16), 127, np.int8)},
        **{"w_scale": np.float32(1), "w_zero": np.int8(0), "y_scale": np.float32(16 * 255 * 127 / 200)},
        "y_zero": np.uint8(0),
    }
    product = helper.make_node("QLinearMatMul", ["x", *constants], ["y"])
    edges = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 16]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph([product], "product", edges[:1], edges[1:], weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    path, x = tmp_path / "product.onnx", {"x": np.full((1, 16), 255, np.uint8)}
    onnx.save(model, str(path))
    if judge == "parity":
        with onnxruntime.RUNTIME.open(path) as session:
            y = session.run(x)["y"]
    else:
        runtime = worker.OnnxRuntime(str(path), 1)
        runtime.feed(x)
        runtime.run()
        (y,) = runtime.results()
    assert (y == 200).all()
