"""A file is judged in the precision that it has, whatever its manifest calls it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from conftest import Answer

from edgeattn.bundle import manifest as bundles
from edgeattn.parity import claims

Command = Callable[..., Answer]
LOWER = {
    "onnx": ("fp16", "int8", "int8-dynamic"),
    "tflite": ("fp16", "int8", "int8-dynamic"),
    "coreml": ("fp16", "int8", "int8-dynamic", "palette6", "palette4"),
}


def called(bundle: Path, precision: str, *, damaged: bool) -> None:
    """The ONNX file of ``bundle`` under another precision, and its weights a hundredth larger."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    [artifact] = manifest["artifacts"] = [a for a in manifest["artifacts"] if a["format"] == "onnx"]
    path = bundle / artifact["file"]["path"]
    if damaged:
        model = onnx.load(path)
        weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = onnx.numpy_helper.to_array(weight) * 1.01
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype("float32"), weight.name))
        onnx.save(model, path)
        artifact["file"] |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size_bytes": path.stat().st_size}
    artifact["precision"] = precision
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-dynamic"])
def test_a_coarser_name_buys_nothing(precision: str, made_bundle: Path, tmp_path: Path, edgeattn: Command) -> None:
    bundle = tmp_path / "b"
    shutil.copytree(made_bundle, bundle)
    called(bundle, precision, damaged=True)
    answer = edgeattn("parity", bundle)
    assert answer.code == 1
    assert f"is called {precision} by the manifest, and nothing in it is: it is judged as fp32" in answer.out
    sound = tmp_path / "sound"
    shutil.copytree(made_bundle, sound)
    called(sound, precision, damaged=False)
    assert edgeattn("parity", sound).code == 0


def test_every_precision_is_known_by_its_file(tmp_path: Path, edgeattn: Command) -> None:
    chosen = [word for name in {p for names in LOWER.values() for p in names} for word in ("--precision", name)]
    model = ("attention", "--arg", "embed_dim=64", "--arg", "pixels=4", "--arg", "patches=64")
    edgeattn("export", *model, *chosen, "--out", tmp_path / "b")
    bundle = bundles.load(tmp_path / "b")
    assert {f: {a.precision for a in bundle.manifest.artifacts if a.format == f} for f in LOWER} == {
        f: set(names) for f, names in LOWER.items()
    }
    checked, warnings = claims.checked(bundle)
    assert warnings == ()
    assert checked == bundle
