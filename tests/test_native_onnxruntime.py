"""The native runner of onnxruntime, under emulation: every type, many inputs and outputs, its refusals, its times."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from native_runs import Runner, run, threads_while_it_runs
from onnx import TensorProto, helper
from test_targets import job_of

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError, BadInputError
from edgeattn.targets import Job
from edgeattn.targets._runner import job_folder
from edgeattn.targets.emulated_arm import toolchain

TYPES = (
    "float32",
    "float16",
    "float64",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "bool",
)


def element_type(name: str) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(name))


def write(
    path: Path, nodes: list[Any], inputs: dict[str, tuple[int, Any]], outputs: dict[str, tuple[int, Any]]
) -> Path:
    infos = [[helper.make_tensor_value_info(n, *about) for n, about in each.items()] for each in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *infos)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def values(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    found = {name: rng.integers(0, 2 if name == "bool" else 100, (2, 3)).astype(name) for name in TYPES}
    return {**found, "scalar": np.array(0.5, np.float32)}


def test_every_type_through_one_file(native_onnxruntime: Runner, tmp_path: Path) -> None:
    """Several inputs and outputs of a size that the file leaves open, scalars, names with what C would trip over."""
    nodes = [helper.make_node("Identity", [name], [f"y {name}"], name=f'n "{name}" \\ %s') for name in TYPES]
    sums = [
        helper.make_node("ReduceSum", ["float32"], ["total"], keepdims=0),
        helper.make_node("Add", ["total", "scalar"], ["sum"]),
    ]
    path = write(
        tmp_path / "types.onnx",
        [*nodes, *sums],
        {**{name: (element_type(name), ["n", 3]) for name in TYPES}, "scalar": (TensorProto.FLOAT, [])},
        {**{f"y {name}": (element_type(name), ["n", 3]) for name in TYPES}, "sum": (TensorProto.FLOAT, [])},
    )
    first, then = values(0), values(1)
    seen = run(native_onnxruntime, tmp_path / "job", Job(path, first, warmup=1, runs=2, operators=True, then=(then,)))
    assert (seen.stopped, len(seen.samples_ns), seen.runtime) == ("", 2, "onnxruntime")
    for given, found in ((first, seen.first), (first, seen.last), (then, seen.then[0])):
        assert list(found) == [*(f"y {name}" for name in TYPES), "sum"]
        for name in TYPES:
            assert found[f"y {name}"].dtype == name
            np.testing.assert_array_equal(found[f"y {name}"], given[name])
        assert found["sum"].shape == ()
        assert found["sum"] == given["float32"].sum() + 0.5
    assert {operator.name for operator in seen.operators if operator.kind == "Identity"} == {n.name for n in nodes}


def test_the_times_by_operator_are_those_of_the_worker(
    native_onnxruntime: Runner, made_bundle: Path, tmp_path: Path
) -> None:
    """The same nodes in the same order as by the Python package, on the same emulated core."""
    job = replace(job_of(made_bundle, ".onnx", runs=1, warmup=0), operators=True)
    worker = [*toolchain.build().python("cortex-a76"), job_folder.WORKER]
    ours, theirs = (run(runner, tmp_path / name, job) for name, runner in (("job", native_onnxruntime), ("w", worker)))
    nodes = [[(operator.name, operator.kind) for operator in seen.operators] for seen in (ours, theirs)]
    assert nodes[0] == nodes[1]
    assert {"Softmax", "Conv"} <= {kind for _, kind in nodes[0]}
    assert all(operator.median_ns > 0 for operator in ours.operators)
    assert "under onnxruntime's profiler" in ours.operators_note
    assert not list((tmp_path / "job").glob("profile*"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"z": (2, 3)}, "takes x, which is not given"),
        ({"x": (2, 3), "z": (2, 3)}, "takes 1 inputs, not 2"),
        ({"x": (2, 4)}, "onnxruntime fails on these inputs: Got invalid dimensions for input: x"),
        ({"x": (2, 3, 1)}, "onnxruntime fails on these inputs: Invalid rank for input: x"),
    ],
)
def test_inputs_that_it_refuses(
    given: dict[str, tuple[int, ...]], said: str, native_onnxruntime: Runner, tmp_path: Path
) -> None:
    about = {"x": (TensorProto.FLOAT, [2, 3])}
    path = write(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], about, {"y": (TensorProto.FLOAT, [2, 3])}
    )
    job = Job(path, {name: np.zeros(shape, np.float32) for name, shape in given.items()})
    with pytest.raises(BadInputError, match=said):
        run(native_onnxruntime, tmp_path / "job", job)


def test_a_type_that_it_refuses(native_onnxruntime: Runner, tmp_path: Path) -> None:
    about = {"x": (TensorProto.FLOAT, [1])}
    path = write(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], about, {"y": (TensorProto.FLOAT, [1])})
    with pytest.raises(BadInputError, match=r"Unexpected input data type\. Actual: \(tensor\(double\)\)"):
        run(native_onnxruntime, tmp_path / "job", Job(path, {"x": np.zeros(1)}))
    with pytest.raises(BadInputError, match="has a type that the native runner does not know"):
        run(native_onnxruntime, tmp_path / "other", Job(path, {"x": np.zeros(1, np.complex64)}))


def test_outputs_that_it_does_not_know(native_onnxruntime: Runner, tmp_path: Path) -> None:
    x = {"x": (TensorProto.FLOAT, [2])}
    text = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)]
    path = write(tmp_path / "text.onnx", text, x, {"y": (TensorProto.STRING, [2])})
    with pytest.raises(ArtifactError, match="the output y has type 8 and 1 axes"):
        run(native_onnxruntime, tmp_path / "text", Job(path, {"x": np.zeros(2, np.float32)}))
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    given = [helper.make_tensor_value_info("x", *x["x"])]
    graph = helper.make_graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], "g", given, [sequence])
    path = tmp_path / "sequence.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    with pytest.raises(ArtifactError, match="the output y is no tensor"):
        run(native_onnxruntime, tmp_path / "sequence", Job(path, {"x": np.zeros(2, np.float32)}))


@pytest.mark.parametrize("threads", [1, 3])
def test_it_honours_threads(threads: int, native_onnxruntime: Runner, made_bundle: Path, tmp_path: Path) -> None:
    job = job_of(made_bundle, ".onnx", runs=10**9, threads=threads)
    assert threads_while_it_runs(native_onnxruntime, tmp_path, job) == threads + 1


def test_it_sends_no_telemetry(
    native_onnxruntime: Runner, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its switch onnxruntime writes an identifier and a database below HOME, and a log into TMPDIR."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    (tmp_path / "home").mkdir()
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    assert run(native_onnxruntime, tmp_path / "job", job_of(made_bundle, ".onnx", runs=1)).stopped == ""
    assert list((tmp_path / "home").iterdir()) == []
