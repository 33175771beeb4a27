"""The commands, from end to end."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import SMALL, Answer
from safetensors.torch import save_file

from edgeattn import LinearSelfAttention
from edgeattn.bundle import manifest as bundles
from edgeattn.formats import FORMATS

Command = Callable[..., Answer]

# The weights of the key and of the output projection, in the lowered layer.
KEY, OUT = "qkv_proj_2.weight", "out_proj.bias"


def replace_file(bundle: Path, name: str, content: bytes) -> None:
    """Put another file into a bundle, with its hash: a broken artifact that nobody tampered with."""
    (bundle / name).write_bytes(content)
    replace_hash(bundle, name)


def replace_hash(bundle: Path, name: str) -> None:
    """State an artifact in the manifest as it is now."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    for artifact in manifest["artifacts"]:
        if artifact["file"]["path"] == name:
            artifact["file"] = vars(bundles.describe(bundle, bundle / name))
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_export_then_parity_then_inspect(edgeattn: Command, tmp_path: Path) -> None:
    out = tmp_path / "some" / "where" / "b"
    answer = edgeattn("export", "attention", *SMALL, "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    manifest = answer.document["manifest"]
    assert [a["file"]["path"] for a in manifest["artifacts"]] == [
        "attention-fp32.aimodel", "attention-fp32.mlpackage", "attention-fp32.pte", "attention-fp32.onnx",
        "attention-fp32.tflite",
    ]  # fmt: skip
    assert manifest == json.loads((out / "manifest.json").read_text())
    assert manifest["arguments"] == {"embed_dim": 32, "pixels": 4, "patches": 16}
    assert [a["inputs"][0]["layout"] for a in manifest["artifacts"]] == [
        "channels_first", "channels_first", "channels_last_memory", "channels_first", "channels_last",
    ]  # fmt: skip
    for artifact in manifest["artifacts"]:
        assert [t["name"] for t in artifact["inputs"] + artifact["outputs"]] == ["x", "y"]
    assert sorted(p.name for p in out.parent.iterdir()) == ["b"]

    answer = edgeattn("parity", out, "--json")
    assert answer.code == 0
    assert {(row["hop"], row["runtime"]) for row in answer.document["rows"]} == {
        ("lowering", "pytorch"), ("conversion", "coreai, interpreter"), ("conversion", "onnxruntime"),
        ("conversion", "litert"), ("conversion", "mil_reference"), ("conversion", "executorch"),
    }  # fmt: skip
    assert answer.document["not_run"][0]["runtime"] == "coreml"
    assert "macOS" in answer.document["not_run"][0]["reason"]
    for suffix in ("aimodel", "mlpackage", "onnx", "tflite"):
        assert edgeattn("inspect", out / f"attention-fp32.{suffix}", "--max-layout-ops", "0").code == 0


def test_tables_for_people(edgeattn: Command, made_bundle: Path) -> None:
    answer = edgeattn("parity", made_bundle)
    assert answer.code == 0
    for text in ("Hop 1", "Hop 2", "onnxruntime", "litert", "same", "Not run"):
        assert text in answer.out
    answer = edgeattn("inspect", made_bundle / "attention-fp32.tflite")
    assert "FULLY_CONNECTED" in answer.out
    assert "xnnpack_partitions" in answer.out
    assert edgeattn("models").out.startswith("attention")
    assert edgeattn("models", "--json").document["attention"]["arguments"]["embed_dim"] == 128
    formats = edgeattn("doctor", "--quick", "--json").document["formats"]
    assert formats == dict.fromkeys(FORMATS.names, "ready")
    assert "runtime onnxruntime: ready" in edgeattn("doctor", "--quick").out


def test_two_exports_are_the_same_byte_for_byte(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    assert edgeattn("export", "attention", *SMALL, "--out", tmp_path / "b").code == 0
    files = {p.relative_to(made_bundle) for p in made_bundle.rglob("*") if p.is_file()}
    assert files == {p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file()}
    for file in files:
        assert (made_bundle / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_cross_attention_without_bias_and_a_free_batch(edgeattn: Command, tmp_path: Path) -> None:
    out = tmp_path / "b"
    options = ("--arg", "cross=true", "--arg", "bias=false", "--dynamic-batch")
    answer = edgeattn("export", "attention", *SMALL, *options, "--out", out, "--json")
    assert answer.code == 0, answer.err
    manifest = answer.document["manifest"]
    assert [t["name"] for t in manifest["inputs"]] == ["x", "x_prev"]
    shapes = {a["format"]: a["inputs"][0]["shape"][0] for a in manifest["artifacts"]}
    assert shapes["onnx"] is None
    assert shapes["tflite"] == 1
    rows = [(r["candidate"], r["case"]) for r in answer.document["manifest"]["parity"]["rows"]]
    assert ("attention-fp32.onnx", "batch_of_two") in rows
    assert ("attention-fp32.tflite", "batch_of_two") not in rows
    assert any("another shape" in n["reason"] for n in manifest["parity"]["not_run"])
    spec = onnx.load(out / "attention-fp32.onnx")
    onnx.checker.check_model(spec, full_check=True)
    assert [i.name for i in spec.graph.input] == ["x", "x_prev"]
    assert edgeattn("inspect", out / "attention-fp32.mlpackage", "--max-layout-ops", "0").code == 0


def test_a_channel_first_edge_costs_two_transposes(edgeattn: Command, tmp_path: Path) -> None:
    out = tmp_path / "b"
    options = ("--format", "tflite", "--edge-layout", "channels_first")
    assert edgeattn("export", "attention", *SMALL, *options, "--out", out).code == 0
    answer = edgeattn("inspect", out / "attention-fp32.tflite", "--max-layout-ops", "1", "--json")
    assert answer.code == 1
    assert answer.document["layout_ops"] == {"TRANSPOSE": 2}
    assert answer.document["passed"] is False
    assert edgeattn("inspect", out / "attention-fp32.tflite", "--max-layout-ops", "2").code == 0


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_and_inputs_from_files(suffix: str, edgeattn: Command, tmp_path: Path) -> None:
    torch.manual_seed(5)
    layer = LinearSelfAttention(32).eval()
    weights, given, out = tmp_path / f"w{suffix}", tmp_path / "given.safetensors", tmp_path / "b"
    (save_file if suffix == ".safetensors" else torch.save)(layer.state_dict(), weights)
    x = torch.randn(1, 32, 4, 16)
    save_file({"x": x}, given)
    answer = edgeattn(
        "export", "attention", *SMALL, "--weights", weights, "--input", given, "--format", "onnx", "--out", out
    )  # fmt: skip
    assert answer.code == 0, answer.err
    import onnxruntime

    session = onnxruntime.InferenceSession(out / "attention-fp32.onnx")
    y = session.run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(y, layer(x).detach().numpy(), rtol=1e-4, atol=1e-6)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["cases"]["given"] == "given as given.safetensors"
    assert {row["hop"] for row in manifest["parity"]["rows"] if row["case"] == "given"} == {"lowering", "conversion"}


def test_a_users_own_file(edgeattn: Command, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("WIDTH = 6\n")
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\nfrom edgeattn import LinearSelfAttention\nfrom helper import WIDTH\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.stem = nn.Conv2d(3, WIDTH, 1)\n"
        "        self.attention = LinearSelfAttention(WIDTH)\n"
        "    def forward(self, image):\n"
        "        x = self.stem(image)\n"
        "        return self.attention(x), x.mean((2, 3))\n"
        "def alone(): return Net()\n"
        "def complete(side: int = 8): return Net(), torch.randn(1, 3, side, side)\n"
    )
    out = tmp_path / "b"
    answer = edgeattn("export", f"{tmp_path}/mine.py:complete", "--arg", "side=4", "--out", out, "--json")
    assert answer.code == 0, answer.err
    manifest = answer.document["manifest"]
    assert [t["name"] for t in manifest["outputs"]] == ["y_0", "y_1"]
    assert manifest["inputs"][0]["name"] == "image"
    assert manifest["inputs"][0]["shape"] == [1, 3, 4, 4]
    assert [c["path"] for c in manifest["lowering"]["channels_last"]] == ["attention"]
    shape = ("--input-shape", "1,3,4,6", "--format", "onnx")
    assert edgeattn("export", f"{tmp_path}/mine.py:alone", *shape, "--out", tmp_path / "c").code == 0
    answer = edgeattn("export", f"{tmp_path}/mine.py:alone", "--out", tmp_path / "d")
    assert answer.code == 2
    assert "--input-shape" in answer.err


def test_parity_sees_a_broken_onnx(edgeattn: Command, bundle: Path) -> None:
    model = onnx.load(bundle / "attention-fp32.onnx")
    weight = next(t for t in model.graph.initializer if t.name == KEY)
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    replace_file(bundle, "attention-fp32.onnx", model.SerializeToString())
    answer = edgeattn("parity", bundle, "--json")
    assert answer.code == 1
    assert answer.document["passed"] is False
    failed = [row for row in answer.document["rows"] if not row["passed"]]
    assert {row["candidate"] for row in failed} == {"attention-fp32.onnx"}
    assert {"example", "normal", "photograph", "large"} <= {row["case"] for row in failed}
    assert "noise floor" in failed[0]["reason"]
    assert "DIFFERENT" in edgeattn("parity", bundle).out


def test_parity_sees_a_broken_tflite(edgeattn: Command, bundle: Path) -> None:
    from safetensors.numpy import load_file

    content = (bundle / "attention-fp32.tflite").read_bytes()
    model = onnx.load(bundle / "attention-fp32.onnx")
    bias = next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == OUT)
    assert content.count(bias.tobytes()) == 1
    replace_file(bundle, "attention-fp32.tflite", content.replace(bias.tobytes(), bytes(bias.nbytes)))
    assert load_file(bundle / "golden/example.safetensors")
    answer = edgeattn("parity", bundle, "--json")
    assert answer.code == 1
    assert {row["candidate"] for row in answer.document["rows"] if not row["passed"]} == {"attention-fp32.tflite"}


def test_parity_sees_a_broken_lowering(edgeattn: Command, bundle: Path) -> None:
    from safetensors.numpy import load_file
    from safetensors.numpy import save_file as save

    golden = bundle / "golden/example.safetensors"
    tensors = load_file(golden)
    tensors["lowered.channels_last.fp64/y"] = tensors["lowered.channels_last.fp64/y"] * (1 + 1e-9)
    save(tensors, golden)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["golden"]["example"] = vars(bundles.describe(bundle, golden))
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    answer = edgeattn("parity", bundle, "--json")
    assert answer.code == 1
    failed = [row for row in answer.document["rows"] if not row["passed"]]
    assert [(row["hop"], row["candidate"]) for row in failed] == [("lowering", "channels_last")]
    assert "another function" in failed[0]["reason"]


def test_parity_sees_a_missing_output(edgeattn: Command, bundle: Path) -> None:
    model = onnx.load(bundle / "attention-fp32.onnx")
    for node in model.graph.node:
        node.output[:] = ["z" if name == "y" else name for name in node.output]
    model.graph.output[0].name = "z"
    replace_file(bundle, "attention-fp32.onnx", model.SerializeToString())
    answer = edgeattn("parity", bundle, "--json")
    assert answer.code == 1
    assert "the output is missing" in [row["reason"] for row in answer.document["rows"]]
