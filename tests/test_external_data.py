"""Weights beside an .onnx file, as torch.onnx writes them by default: read, checked to lie in its folder, counted."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Answer
from onnx import TensorProto, helper, numpy_helper

Command = Callable[..., Answer]


def save(folder: Path, **changes: Any) -> Path:
    """A convolution with its kernel in ``w.bin``; ``changes`` are of the entries that say where it is."""
    folder.mkdir(exist_ok=True)
    kernel = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    (folder / "w.bin").write_bytes(b"\0" * 64 + kernel.tobytes())
    tensor = numpy_helper.from_array(kernel, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", "offset": 64, "length": kernel.nbytes, **changes}.items():
        tensor.external_data.add(key=key, value=str(value))
    edges = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 8, 8])] for n, c in (("x", 3), ("y", 8))]
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    model = helper.make_model(
        helper.make_graph([node], "g", *edges, [tensor]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("inside", [True, False])
def test_it_is_read(inside: bool, tmp_path: Path, edgeattn: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "m")
    if inside:
        monkeypatch.chdir(path.parent)
        path = Path("m.onnx")
    found = edgeattn("inspect", path, "--json").document
    assert found["operators"] == {"Conv": 1}
    assert found["parameters"] == 8 * 27
    assert found["macs"] == 8 * 27 * 64
    digest = hashlib.sha256((path.parent / "w.bin").read_bytes()).hexdigest()
    assert found["details"]["external_data"] == {"w.bin": f"{64 + 4 * 8 * 27:,} bytes, SHA-256 {digest}"}
    assert found["runtime"]["operators"]["Conv"] == 1
    [row] = edgeattn("compare", path, path, "--json").document["rows"]
    assert row["difference"]["max_abs"] == 0


def test_other_weights_are_another_file(tmp_path: Path, edgeattn: Command) -> None:
    a, b = save(tmp_path / "a"), save(tmp_path / "b")
    content = bytearray((b.parent / "w.bin").read_bytes())
    content[64:128] = bytes(64)
    (b.parent / "w.bin").write_bytes(content)
    [row] = edgeattn("compare", a, b, "--json").document["rows"]
    assert row["difference"]["max_abs"] > 0.1


def test_a_one_hot_kernel_beside_the_file_is_a_layout_op(tmp_path: Path, edgeattn: Command) -> None:
    path = save(tmp_path / "m")
    kernel = np.zeros((8, 27), np.float32)
    kernel[np.arange(8), np.arange(8)] = 1
    (path.parent / "w.bin").write_bytes(b"\0" * 64 + kernel.tobytes())
    assert edgeattn("inspect", path, "--json").document["layout_ops"] == {"Conv": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"location": "../secret.bin"}, "outside its folder"),
        ({"location": "sub/../../secret.bin"}, "outside its folder"),
        ({"location": "ABSOLUTE"}, "outside its folder"),
        ({"location": ""}, "outside its folder"),
        ({"location": "C:/secret.bin"}, "outside its folder"),
        ({"location": "link.bin"}, "outside its folder"),
        ({"location": "linked/secret.bin"}, "outside its folder"),
        ({"location": "inner.bin"}, "is no plain file"),
        ({"location": "pipe"}, "is no plain file"),
        ({"location": "none.bin"}, "is missing"),
        ({"location": "a" * 300}, "cannot be read"),
        ({"offset": 2**40}, "does not have"),
        ({"offset": -64}, "does not have"),
        ({"length": 10**9}, "does not have"),
        ({"length": "many"}, "does not have"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "compare"])
def test_what_is_not_inside_is_refused(
    command: str, changes: dict[str, Any], said: str, tmp_path: Path, edgeattn: Command
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(4000))
    changes = {key: str(secret) if value == "ABSOLUTE" else value for key, value in changes.items()}
    path = save(tmp_path / "m", **changes)
    (path.parent / "link.bin").symlink_to(secret)
    (path.parent / "inner.bin").symlink_to(path.parent / "w.bin")
    (path.parent / "linked").symlink_to(tmp_path)
    os.mkfifo(path.parent / "pipe")
    answer = edgeattn(command, path, *((path,) if command == "compare" else ()))
    assert answer.code == 2
    assert said in " ".join(answer.err.split())
    assert "Traceback" not in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_two_gigabytes_are_counted(tmp_path: Path, edgeattn: Command) -> None:
    """A file of zeros that takes no place on the disk; protobuf holds no more than 2 GB in one message."""
    side = 24_000
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[side, side], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="big.bin")
    edges = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, side])] for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", *edges, [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    (tmp_path / "big.onnx").write_bytes(model.SerializeToString())
    if shutil.disk_usage(tmp_path).free < 2**33:
        pytest.skip("the file is sparse, and a system that cannot have these would fill the disk")
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(side * side * 4)
    found = edgeattn("inspect", tmp_path / "big.onnx", "--json").document
    (tmp_path / "big.bin").unlink()
    assert (found["macs"], found["parameters"]) == (side**2, side**2)
    assert "not optimised here" in found["runtime"]["unknown"]
    assert onnx.load(tmp_path / "big.onnx", load_external_data=False).ir_version == 8
