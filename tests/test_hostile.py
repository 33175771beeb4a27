"""Files that were made to harm are refused in one sentence, by what they are and not by luck."""

import json
import os
import pickle
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from conftest import SMALL, Answer
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from edgeattn import LinearSelfAttention
from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.bundle.records import Device
from edgeattn.errors import ArtifactError, TargetError
from edgeattn.formats.tflite import pack
from edgeattn.inspection import sandbox as probe
from edgeattn.parity import layers
from edgeattn.system import files, npy
from edgeattn.targets import Job
from edgeattn.targets._runner import job_folder

Command = Callable[..., Answer]


class Attack:
    """Pickled code: unpickling it would write a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("pwned", "w")


def refused(answer: Answer, said: str) -> None:
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert answer.err.startswith("edgeattn: ")
    assert answer.err.count("\n") == 1
    assert answer.out == ""


def signed(folder: Path, **changes: object) -> None:
    """Change the manifest, and write true hashes into it, as the maker of a hostile bundle would."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_bytes()), **changes}
    for entry in (*manifest["golden"].values(), *(a["file"] for a in manifest["artifacts"])):
        if (folder / entry["path"]).exists():
            entry["sha256"] = bundles.describe(folder, folder / entry["path"]).sha256
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "path", ["..", "../b/manifest.json", "/etc/passwd", "", ".", "golden/../../x", "a\0b", "x" * 300]
)
def test_paths_that_lead_out_or_are_none(path: str, edgeattn: Command, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["golden"]["example"]["path"] = path
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    answer = edgeattn("parity", bundle)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "outside itself" in answer.err or "cannot be read" in answer.err or "is missing" in answer.err


@pytest.mark.parametrize("where", ["golden/example.safetensors", "golden", "attention-fp32.mlpackage/Data/more"])
def test_links(where: str, edgeattn: Command, bundle: Path, tmp_path: Path) -> None:
    """Also into the same content, and also a folder on the way to a file, or a part of a package."""
    place = bundle / where
    if place.exists():
        place.rename(tmp_path / "moved")
    else:
        (tmp_path / "moved").mkdir()
    place.symlink_to(tmp_path / "moved")
    signed(bundle)
    refused(edgeattn("parity", bundle), "names a path outside itself")


@pytest.mark.parametrize("name", ["manifest.json", "golden/example.safetensors", "attention-fp32.onnx"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file(name: str, kind: str, edgeattn: Command, bundle: Path) -> None:
    """A pipe would be waited for without end."""
    (bundle / name).unlink()
    (os.mkfifo if kind == "pipe" else os.mkdir)(bundle / name)
    assert edgeattn("parity", bundle).code == 2


def test_a_file_that_is_too_big_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "r.json").open("wb") as file:
        file.truncate(files.MOST_BYTES + 1)  # no blocks of the disk
    with pytest.raises(ArtifactError, match="are not read"):
        records.load(tmp_path / "r.json")
    (tmp_path / "deep.json").write_text('{"schema_version": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ArtifactError, match="no file of records"):
        records.load(tmp_path / "deep.json")


def test_golden_tensors_that_are_not_there(edgeattn: Command, bundle: Path) -> None:
    save_file({"input/z": np.zeros(1, np.float32)}, bundle / "golden" / "example.safetensors")
    signed(bundle)
    refused(edgeattn("parity", bundle), "golden/example.safetensors")


def array(shape: str, descr: str = "'<f4'", body: bytes = b"") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + body


@pytest.mark.parametrize(
    "content",
    [
        array("(1000000000000,)"),  # 4 TB
        array("(-1,)", body=b"1234"),
        array("(1,)", "'|O'", pickle.dumps([Attack()])),
        array("(1,)", "[('a', '<f4')]", b"1234"),
        array("(1, " * 9, body=b"1234"),
        array("__import__('os').system('touch pwned')"),
        b"PK\x03\x04",
        b"",
    ],
)
def test_arrays_from_elsewhere(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first-0.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"first-0\.npy is no \.npy file of numbers"):
        npy.load(tmp_path / "first-0.npy")
    result = {"complete": True, "runtime": "r", "runtime_version": "1", "load_ns": 1, "outputs": ["y"]}
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(TargetError, match=r"no readable result .* is no \.npy file of numbers"):
        job_folder.read(tmp_path, Job(Path("m.onnx"), {}), origin="phone", device=Device("d", {}), stopped="")
    assert {p.name for p in tmp_path.iterdir()} == {"first-0.npy", "result.json"}


def test_a_zip_that_unfolds_into_very_much(edgeattn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch file is a zip: compressed, a few kilobytes would become a tensor of any size."""
    monkeypatch.chdir(tmp_path)
    torch.save(LinearSelfAttention(32).state_dict(), tmp_path / "plain.pt")
    with zipfile.ZipFile("plain.pt") as plain, zipfile.ZipFile("w.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    (tmp_path / "plain.pt").unlink()
    assert torch.load("w.pt", weights_only=True)  # torch itself unfolds it
    refused(edgeattn("export", "attention", *SMALL, "--weights", "w.pt", "--out", "b"), "is a compressed zip")
    assert {p.name for p in tmp_path.iterdir()} == {"w.pt"}


def test_names_cannot_drive_the_terminal(edgeattn: Command, tmp_path: Path) -> None:
    answer = edgeattn("inspect", tmp_path / "x\x1b[2Jx.onnx")
    assert answer.code == 2
    assert "\x1b" not in answer.err
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["[/]\x1b[2J"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("[/]\x1b[2J", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    answer = edgeattn("inspect", tmp_path / "m.onnx")
    assert answer.code == 0, answer.err
    assert "[/]" in answer.out
    assert "\x1b" not in answer.out


def endless(path: Path, made_from: Path) -> Path:
    """A TFLite model whose WHILE is its own body: LiteRT prepares it without end, and dies of it."""
    content = made_from.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    main = model.subgraphs[0]
    model.subgraphs.append(schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0])
    condition = model.subgraphs[1]
    boolean = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0].tensors[main.inputs[0]]
    boolean.type, boolean.shape, boolean.shapeSignature = schema.TensorType.BOOL, np.array([1], np.int32), None
    condition.tensors.append(boolean)
    condition.operators, condition.outputs = [], np.array([len(condition.tensors) - 1])
    main.tensors.append(schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0].tensors[main.inputs[0]])
    code, op, options = schema.OperatorCodeT(), schema.OperatorT(), schema.WhileOptionsT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
    code.version = 1
    model.operatorCodes.append(code)
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 0
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.WhileOptions, options
    op.opcodeIndex, op.inputs = len(model.operatorCodes) - 1, np.array([main.inputs[0]])
    op.outputs = main.outputs = np.array([len(main.tensors) - 1])
    main.operators, model.signatureDefs = [op], None
    path.write_bytes(pack(model, len(content)))
    return path


def test_what_crashes_its_library_does_not_crash_us(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    path = endless(tmp_path / "m.tflite", made_bundle / "attention-fp32.tflite")
    refused(edgeattn("inspect", path), f"ended that by {signal.SIGSEGV.name}")
    refused(edgeattn("compare", path, path), f"ended that by {signal.SIGSEGV.name}")


def test_a_bundle_with_such_a_file(edgeattn: Command, bundle: Path) -> None:
    endless(bundle / "attention-fp32.tflite", bundle / "attention-fp32.tflite")
    signed(bundle)
    refused(edgeattn("parity", bundle), f"ended that by {signal.SIGSEGV.name}")


def functions(path: Path, depth: int) -> Path:
    """An ONNX model of functions that each call the next one twice: 2^depth operators, in a few lines."""
    made = [
        helper.make_function(
            "f",
            f"F{i}",
            ["a"],
            ["b"],
            [
                helper.make_node(f"F{i + 1}" if i < depth else "Relu", [x], [y], domain="f" if i < depth else "")
                for x, y in (("a", "c"), ("c", "b"))
            ],
            [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)],
        )
        for i in range(1, depth + 1)
    ]
    graph = helper.make_graph(
        [helper.make_node("F1", ["x"], ["y"], domain="f")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=made, ir_version=9), path)
    return path


def test_a_model_that_unfolds_into_very_much(
    edgeattn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = edgeattn("inspect", functions(tmp_path / "few.onnx", 3), "--json")
    assert answer.document["operators"] == {"Relu": 8}
    monkeypatch.setattr(probe, "_BASE_SECONDS", 3)
    answer = edgeattn("inspect", functions(tmp_path / "many.onnx", 40))
    # Whichever of its limits it comes to first.
    assert "needed more memory" in answer.err or "did not come to an end" in answer.err or "refuses" in answer.err
    assert answer.code == 2


def test_an_output_that_needs_too_much_memory(edgeattn: Command, tmp_path: Path) -> None:
    """A tensor of 80 GB out of a file of 200 bytes; `inspect` may tell of it, but it is not run."""
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["n"], ["c"]), helper.make_node("Add", ["c", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("n", TensorProto.INT64, [1], [2 * 10**10])],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    refused(edgeattn("compare", path, path), "needed more memory")


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"a": {"tensor": {}, "order": "as it is"}}',
        '{"a": {"tensor": [], "order": 1}}',
        '{"a": {"tensor": "t", "order": "no order"}}',
    ],
    ids=["nested", "tensor is an object", "tensor is a list", "order"],
)
def test_where_layers_are_is_not_believed(content: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match="does not say where layers are"):
        layers._matches(path)


def _first(document: Any, key: str) -> Any:
    return document["artifacts"][0][key]


UNSOUND: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no golden case": (lambda m: m["golden"].clear(), "names no golden case"),
    "no artifact": (lambda m: m["artifacts"].clear(), "names no artifact"),
    "no output": (lambda m: m["outputs"].clear(), "names no output"),
    "no input": (lambda m: m["inputs"].clear(), "names no input"),
    "no lowering": (lambda m: m["lowering"].clear(), "names no lowering"),
    "an artifact without outputs": (lambda m: _first(m, "outputs").clear(), "has no output"),
    "another lowering": (lambda m: m["artifacts"][0].update(lowering="sideways"), "'sideways', which the manifest"),
    "another precision": (lambda m: m["artifacts"][0].update(precision="fp8"), "'fp8' is none of fp32"),
    "another format": (lambda m: m["artifacts"][0].update(format="gguf"), "format 'gguf'"),
    "an output twice": (lambda m: m["outputs"].append(m["outputs"][0]), "two outputs of the name"),
    "an artifact's output twice": (
        lambda m: _first(m, "outputs").append(_first(m, "outputs")[0]),
        "two outputs of the name",
    ),
    "an artifact's input twice": (lambda m: _first(m, "inputs").append(_first(m, "inputs")[0]), "two inputs"),
    "an artifact twice": (lambda m: m["artifacts"].append(m["artifacts"][0]), "twice"),
    "steps of no type": (
        lambda m: _first(m, "inputs")[0].update(dtype="int7", scale=0.1, zero_point=0),
        "'int7' is none of bool",
    ),
    "steps of floats": (lambda m: _first(m, "outputs")[0].update(scale=0.1, zero_point=0), "steps of the type"),
    "steps of no size": (
        lambda m: _first(m, "inputs")[0].update(dtype="int8", scale=0.0, zero_point=0),
        "of the size 0",
    ),
    "a zero outside": (lambda m: _first(m, "inputs")[0].update(dtype="int8", scale=0.1, zero_point=300), "its zero at"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_manifests_that_leave_nothing_to_check(name: str, bundle: Path, edgeattn: Command) -> None:
    """Each of these would be a traceback, or a check that judges nothing and passes."""
    change, said = UNSOUND[name]
    manifest = bundle / "manifest.json"
    document = json.loads(manifest.read_text())
    change(document)
    manifest.write_text(json.dumps(document))
    refused(edgeattn("parity", bundle), said)
