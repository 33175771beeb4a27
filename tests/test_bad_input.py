"""Bad input is one sentence on stderr and exit code 2, and leaves nothing behind."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Answer
from safetensors.torch import save_file

from edgeattn import LinearSelfAttention
from edgeattn.formats import FORMATS
from edgeattn.system import plugins

Command = Callable[..., Answer]

FACTORIES = """
import torch
from torch import nn
def raises(): raise RuntimeError('no\\nluck')
def no_module(): return 7
def no_tensor(): return nn.Identity(), 'text'
def wrong_input(): return nn.Linear(3, 4), torch.zeros(1, 5)
class Odd(nn.Module):
    def forward(self, x): return 'text'
def odd_output(): return Odd(), torch.zeros(1, 2)
def prints(): print('hello'); return nn.ReLU(), torch.zeros(1, 2, 3, 4)
constant = 3
"""


class Attack:
    """Pickled code: unpickling it would write a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("pwned", "w")


def refused(answer: Answer, said: str, folder: Path, kept: set[str]) -> None:
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert answer.err.startswith("edgeattn: ")
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert {p.name for p in folder.iterdir()} == kept


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "there is no sample model 'nosuch'; choose from attention"),
        (
            ["attention", "--format", "tensorrt"],
            "there is no format 'tensorrt'; choose from coreai, coreml, executorch, onnx, tflite",
        ),
        (["attention", "--precision", "fp7"], "cannot be exported in 'fp7'; choose from fp32"),
        (["attention", "--arg", "size=3"], "attention has no argument 'size'; it takes: embed_dim"),
        (["attention", "--arg", "embed_dim"], "--arg takes K=V"),
        (["attention", "--arg", "embed_dim=wide"], "argument embed_dim must be int, not 'wide'"),
        (["attention", "--arg", "embed_dim=0"], "embed_dim must be at least 1, not 0"),
        (["attention", "--edge-layout", "diagonal"], "--edge-layout must be channels_first or channels_last"),
        (["attention", "--weights", "nosuch.pt"], "there is no weights file nosuch.pt"),
        (["attention", "--input-shape", "1,two"], "--input-shape takes positive numbers"),
        (["attention", "--input", "nosuch.safetensors"], "there is no weights file nosuch.safetensors"),
        (["nosuch.py:make"], "there is no file nosuch.py"),
        (["mine.py:nosuch"], "mine.py has no function 'nosuch'"),
        (["mine.py:constant"], "mine.py has no function 'constant'"),
        (["mine.py:raises"], "raises failed: RuntimeError: no"),
        (["mine.py:no_module"], "no_module returned int, not a torch.nn.Module"),
        (["mine.py:no_tensor"], "example inputs as a tensor"),
        (["mine.py:wrong_input"], "the module fails on its example inputs (input [1, 5])"),
        (["mine.py:odd_output"], "must return a tensor"),
        (["attention", "--nosuch"], "No such option: --nosuch"),
        ([], "Missing argument 'model'"),
    ],
)
def test_export_refuses(
    arguments: list[str], said: str, edgeattn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FACTORIES)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    refused(edgeattn("export", *arguments, "--out", "b"), said, tmp_path, {"mine.py"})


def test_a_file_that_fails_on_import(edgeattn: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nosuchpackage\n")
    answer = edgeattn("export", f"{tmp_path}/bad.py:make", "--out", tmp_path / "b")
    refused(answer, "failed on import: ModuleNotFoundError", tmp_path, {"bad.py"})


def test_what_a_model_prints_does_not_spoil_the_json(edgeattn: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORIES)
    arguments = ("--format", "onnx", "--out", tmp_path / "b", "--json")
    answer = edgeattn("export", f"{tmp_path}/mine.py:prints", *arguments)
    assert answer.code == 0
    assert answer.document["manifest"]["lowering"] == {"channels_first": []}
    assert "hello" in answer.err


def make_weights(path: Path, kind: str) -> None:
    state = LinearSelfAttention(32).state_dict()
    if kind == "shape":
        save_file(LinearSelfAttention(16).state_dict(), path)
    elif kind == "missing":
        save_file({k: v for k, v in state.items() if k != "out_proj.bias"}, path)
    elif kind == "extra":
        save_file({**state, "more": torch.zeros(1)}, path)
    elif kind == "code":
        path.write_bytes(pickle.dumps(Attack()))
    elif kind == "torch_code":
        torch.save({"qkv_proj.weight": Attack()}, path)
    elif kind == "module":
        torch.save(LinearSelfAttention(32), path)
    elif kind == "cut":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:900])
    else:
        path.write_bytes(b"these are no weights")


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("shape", "w.safetensors", "has shape [16], but the model needs [32]"),
        ("missing", "w.safetensors", "missing out_proj.bias"),
        ("extra", "w.safetensors", "extra more"),
        ("code", "w.pt", "pickled code or is damaged"),
        ("torch_code", "w.pt", "pickled code or is damaged"),
        ("module", "w.pth", "pickled code or is damaged"),
        ("cut", "w.pt", "cannot be read as weights"),
        ("text", "w.safetensors", "cannot be read as weights"),
        ("text", "w.pt", "cannot be read as weights"),
        ("text", "w.txt", "is no weights file; give a .safetensors, .pt, .pth, .bin or .ckpt file"),
    ],
)
def test_weights_are_refused(
    kind: str, name: str, said: str, edgeattn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_weights(tmp_path / name, kind)
    answer = edgeattn("export", "attention", *SMALL, "--weights", name, "--out", "b")
    refused(answer, said, tmp_path, {name})


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"z": torch.zeros(1)}, "must hold the inputs x, not z"),
        ({"x": torch.zeros(1, 32, 4, 15)}, "has shape [1, 32, 4, 15], not the model's [1, 32, 4, 16]"),
        ({"x": torch.full((1, 32, 4, 16), torch.nan)}, "has NaN or infinite values"),
    ],
)
def test_golden_inputs_are_refused(
    tensors: dict[str, torch.Tensor], said: str, edgeattn: Command, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "i.safetensors")
    answer = edgeattn("export", "attention", *SMALL, "--input", tmp_path / "i.safetensors", "--out", tmp_path / "b")
    refused(answer, said, tmp_path, {"i.safetensors"})


def test_an_existing_folder_is_not_touched(edgeattn: Command, bundle: Path, tmp_path: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    refused(edgeattn("export", "attention", "--out", bundle), "give --force to replace", tmp_path, {"b"})
    assert (bundle / "manifest.json").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    answer = edgeattn("export", "attention", "--force", "--out", tmp_path / "other")
    refused(answer, "exists and is no bundle", tmp_path, {"b", "other"})
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"


def test_force_replaces_a_bundle_whole(edgeattn: Command, bundle: Path, tmp_path: Path) -> None:
    assert edgeattn("export", "attention", *SMALL, "--format", "onnx", "--force", "--out", bundle).code == 0
    assert {p.name for p in bundle.iterdir()} == {"manifest.json", "golden", "layers", "attention-fp32.onnx"}
    assert {p.name for p in tmp_path.iterdir()} == {"b"}


def test_a_failed_replacement_leaves_the_old_bundle(edgeattn: Command, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORIES)
    answer = edgeattn("export", f"{tmp_path}/mine.py:raises", "--force", "--out", bundle)
    refused(answer, "raises failed", tmp_path, {"b", "mine.py"})
    assert edgeattn("parity", bundle).code == 0


def test_a_place_that_cannot_be_written(edgeattn: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = edgeattn("export", "attention", *SMALL, "--out", tmp_path / "file" / "b")
    refused(answer, "cannot be written", tmp_path, {"file"})


def test_a_missing_package_says_how_to_install_it(
    edgeattn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = plugins.find_spec
    monkeypatch.setattr(plugins, "find_spec", lambda name: None if name == "coremltools" else real(name))
    answer = edgeattn("export", "attention", *SMALL, "--format", "coreml", "--out", tmp_path / "b")
    assert answer.code == 3
    assert "pip install 'edgeattn[coreml]'" in answer.err
    assert not list(tmp_path.iterdir())
    # The other formats work without it.
    answer = edgeattn("export", "attention", *SMALL, "--out", tmp_path / "b", "--json")
    assert answer.code == 0
    made = {artifact["format"] for artifact in answer.document["manifest"]["artifacts"]}
    assert made == set(FORMATS.names) - {"coreml"}
    assert "pip install 'edgeattn[coreml]'" in edgeattn("doctor", "--quick", "--json").document["formats"]["coreml"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nosuch.onnx", "there is no file"),
        ("a.txt", "is no artifact that can be read"),
        ("a.onnx", "not a readable"),
    ],
)
def test_inspect_refuses(name: str, said: str, edgeattn: Command, tmp_path: Path) -> None:
    if not name.startswith("nosuch"):
        (tmp_path / name).write_bytes(b"\xff\xff rubbish")
    kept = {p.name for p in tmp_path.iterdir()}
    refused(edgeattn("inspect", tmp_path / name), said, tmp_path, kept)


def test_an_error_is_one_json_document_too(edgeattn: Command, tmp_path: Path) -> None:
    answer = edgeattn("inspect", tmp_path / "nosuch.onnx", "--json")
    assert answer.code == 2
    assert answer.document["exit_code"] == 2
    assert "there is no file" in answer.document["error"]


def change_manifest(bundle: Path, *keys: str | int, value: object) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    place = manifest
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("schema_version",), 99, "has schema 99, and this edgeattn reads 1"),
        (("artifacts", 1, "file", "path"), "../../secret", "names a path outside itself"),
        (("artifacts", 1, "file", "path"), "/etc/passwd", "names a path outside itself"),
        (("artifacts", 1, "file", "path"), "gone.onnx", "gone.onnx is missing"),
        (("artifacts", 1, "file", "sha256"), "0" * 64, "its hash differs"),
        (("artifacts", 1, "file"), 7, "is damaged at artifacts.1.file"),
        (("artifacts", 1, "inputs", 0, "name"), "z", "has no tensor 'input/z'"),
    ],
)
def test_a_changed_manifest_is_refused(
    keys: tuple[str | int, ...], value: object, said: str, edgeattn: Command, bundle: Path, tmp_path: Path
) -> None:
    change_manifest(bundle, *keys, value=value)
    refused(edgeattn("parity", bundle), said, tmp_path, {"b"})


def test_a_changed_or_missing_file_is_refused(edgeattn: Command, bundle: Path, tmp_path: Path) -> None:
    artifact = bundle / "attention-fp32.onnx"
    content = artifact.read_bytes()
    artifact.write_bytes(content[:-1] + b"\0")
    refused(edgeattn("parity", bundle), "its hash differs", tmp_path, {"b"})
    artifact.unlink()
    refused(edgeattn("parity", bundle), "is missing from", tmp_path, {"b"})
    (tmp_path / "outside").write_bytes(content)
    artifact.symlink_to(tmp_path / "outside")
    refused(edgeattn("parity", bundle), "names a path outside itself", tmp_path, {"b", "outside"})


def test_no_bundle_is_refused(edgeattn: Command, tmp_path: Path) -> None:
    refused(edgeattn("parity", tmp_path / "nosuch"), "is no bundle", tmp_path, set())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("[]")
    refused(edgeattn("parity", tmp_path / "b"), "is not a manifest of edgeattn", tmp_path, {"b"})
