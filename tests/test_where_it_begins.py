"""`edgeattn parity --layers` on artifacts that were broken on purpose: the layer that was broken is the one named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Answer
from test_export import replace_hash
from test_models import lively
from torch import nn

from edgeattn import lower
from edgeattn.bundle import manifest as bundles
from edgeattn.export import pipeline, source
from edgeattn.formats import FORMATS
from edgeattn.parity import layers as inside
from edgeattn.sample_models.mobilevitv2 import MobileViTv2
from edgeattn.system import plugins

Command = Callable[..., Answer]
LAYOUTS = {"onnx": "channels_first", "tflite": "channels_last", "mlpackage": "channels_first"}
FORMATS_HERE = ("coreml", "onnx", "tflite")
# The parts of the lowered layer, by the names of the projections that they are cut from.
KEY, VALUE, OUT = "qkv_proj_2", "qkv_proj_3", "out_proj"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@dataclass(frozen=True)
class Made:
    """A bundle, and the lowered forms that its artifacts were made of."""

    folder: Path
    name: str
    lowered: dict[str, nn.Module]


def make(loaded: source.Source, folder: Path) -> Made:
    result = pipeline.export(loaded, pipeline.Options(formats=FORMATS_HERE), folder)
    assert result.report.passed
    inputs = tuple(loaded.inputs.values())
    return Made(folder, loaded.name, {x: lower(loaded.module, layout=x, inputs=inputs).module
                                      for x in ("channels_first", "channels_last")})  # fmt: skip


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Made:
    torch.manual_seed(3)
    loaded = source.load("attention", ["embed_dim=32", "pixels=4", "patches=16"])
    return make(loaded, tmp_path_factory.mktemp("layer") / "b")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("model")
    (folder / "mine.py").write_text("from test_where_it_begins import lively_model as make\n")
    return make(source.load(f"{folder}/mine.py:make", []), folder / "b")


def lively_model() -> tuple[nn.Module, torch.Tensor]:
    return lively(MobileViTv2(0.5, 10)).float(), torch.randn(1, 3, 64, 64)


def break_weight(folder: Path, file: str, weight: torch.Tensor, change: Callable[[Any], Any]) -> None:
    """Change a weight in a saved file of any format, where it stands as it is or channels-last, and its hash."""
    path = folder / file / WEIGHTS if file.endswith(".mlpackage") else folder / file
    content, value = path.read_bytes(), weight.detach().numpy()
    forms = [value]
    if value.ndim == 4:  # TFLite: [O, H, W, I], and [1, H, W, C] of a depthwise one
        forms += [np.ascontiguousarray(value.transpose(0, 2, 3, 1)), np.ascontiguousarray(value.transpose(1, 2, 3, 0))]
    form = next(f for f in forms if content.count(f.tobytes()) == 1)
    broken = np.ascontiguousarray(change(form)).astype(form.dtype)
    path.write_bytes(content.replace(form.tobytes(), broken.tobytes()))
    replace_hash(folder, file)


def flip_one(value: Any) -> Any:
    """The sign of the largest weight alone."""
    broken = value.copy()
    place = np.unravel_index(np.abs(broken).argmax(), broken.shape)
    broken[place] *= -1
    return broken


CHANGES: dict[str, Callable[[Any], Any]] = {
    "1 % more": lambda w: w * 1.01,
    "the other sign": lambda w: -w,
    "one sign": flip_one,
}


@pytest.fixture
def trace(edgeattn: Command, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(made: Made, suffix: str, weight: str, change: str) -> dict[str, Any]:
        """Break a weight of one artifact, and give what `parity --layers` says of that artifact."""
        folder, file = tmp_path / "broken", f"{made.name}-fp32.{suffix}"
        shutil.copytree(made.folder, folder)
        parameter = made.lowered[LAYOUTS[suffix]].get_parameter(weight)
        break_weight(folder, file, parameter, CHANGES[change])
        answer = edgeattn("parity", folder, "--layers", "--json")
        assert answer.code == 1, answer.err
        depths = {depth["candidate"]: depth for depth in answer.document["layers"]["depths"]}
        assert [name for name, depth in depths.items() if not depth["passed"]] == [file]
        return depths[file]

    return run


@pytest.mark.parametrize("suffix", LAYOUTS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("part", [KEY, VALUE, OUT])
def test_the_layer(suffix: str, change: str, part: str, layer: Made, trace: Callable[..., dict[str, Any]]) -> None:
    found = trace(layer, suffix, f"{part}.weight", change)
    if (suffix, part) == ("tflite", VALUE):  # LiteRT's op has the ReLU in it
        assert found["first"]["layer"] == "relu()"
        assert found["fused"] == [VALUE]
    else:
        assert found["first"]["layer"] == part
        assert found["fused"] == []
    assert found["first"]["source"].startswith("attention.py:")


@pytest.mark.parametrize("suffix", LAYOUTS)
@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("stem.0", "1 % more"),
        ("stages.1.0.depthwise.0", "one sign"),
        ("stages.2.1.layers.1.attention.out_proj", "1 % more"),
        ("stages.3.1.layers.2.expand", "one sign"),
        ("stages.4.1.layers.0.reduce", "1 % more"),
        ("classifier", "the other sign"),
    ],
)
def test_a_whole_model(suffix: str, part: str, change: str, model: Made, trace: Callable[..., dict[str, Any]]) -> None:
    found = trace(model, suffix, f"{part}.weight", change)
    assert found["first"]["layer"] == part
    assert found["fused"] == []


@pytest.mark.parametrize("suffix", ["onnx", "mlpackage"])
def test_a_matrix_that_is_no_part_of_its_own(suffix: str, model: Made, trace: Callable[..., dict[str, Any]]) -> None:
    found = trace(model, suffix, f"stages.3.1.layers.2.attention.{KEY}.weight", "one sign")
    assert found["first"]["layer"] == f"stages.3.1.layers.2.attention.{KEY}.matmul()"
    assert found["first"]["op"] == "matmul"
    assert found["first"]["source"].startswith("attention.py:")


def test_in_a_sound_model_nearly_all_is_found(model: Made) -> None:
    found = inside.compare(bundles.load(model.folder))
    assert found.passed
    assert not any(depth.runtime == "coreml" for depth in found.depths)
    for depth in found.depths:
        assert depth.rows[-1].layer == "output y"
        # LiteRT's converter puts the ReLU into the nine value projections.
        values = [name for name in depth.unseen if ".attention.qkv_proj" in name]
        assert len(values) == (9 if depth.runtime == "litert" else 0)
        # Of the rest, at most a few single numbers, whose floor is a matter of luck.
        assert len(depth.unseen) - len(values) <= 0.03 * len(depth.rows)
        assert len(depth.rows) >= 200


@pytest.mark.parametrize("name", ["onnx", "tflite", "coreml"])
def test_a_converter_that_breaks_the_model(
    name: str, layer: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The values of such an artifact are the module's up to the fault, and then no more."""
    format_ = FORMATS.get(name)
    honest = format_.convert
    weight = layer.lowered[format_.layout].get_parameter(f"{OUT}.weight")

    def convert(job: Any, path: Path) -> Any:
        details = honest(job, path)
        file = path / WEIGHTS if path.is_dir() else path
        content = file.read_bytes()
        assert content.count(weight.detach().numpy().tobytes()) == 1
        file.write_bytes(content.replace(weight.detach().numpy().tobytes(), (-weight).detach().numpy().tobytes()))
        return details

    monkeypatch.setattr(format_, "convert", convert)
    torch.manual_seed(3)
    loaded = source.load("attention", ["embed_dim=32", "pixels=4", "patches=16"])
    result = pipeline.export(loaded, pipeline.Options(formats=(name,)), tmp_path / "c")
    assert not result.report.passed
    (depth,) = inside.compare(result.bundle).depths
    assert not depth.passed
    assert depth.first is None
    assert depth.lost == (OUT,)
    assert f"the values are lost at {OUT}" in depth.sentence


def test_for_people(edgeattn: Command, layer: Made, tmp_path: Path) -> None:
    picture = tmp_path / "depth.svg"
    answer = edgeattn("parity", layer.folder, "--picture", picture)
    assert answer.code == 0, answer.err
    for text in ("Layers of attention-fp32.tflite in litert", "FULLY_CONNECTED", "attention.py:", "no error begins"):
        assert text in answer.out
    assert "attention-fp32.onnx, onnxruntime</text>" in picture.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["depth.svg"]

    shutil.copytree(layer.folder, tmp_path / "b")
    weight = layer.lowered["channels_first"].get_parameter(f"{KEY}.weight")
    break_weight(tmp_path / "b", "attention-fp32.onnx", weight, CHANGES["1 % more"])
    answer = edgeattn("parity", tmp_path / "b", "--picture", picture)
    assert answer.code == 1
    assert f"attention-fp32.onnx in onnxruntime: the error begins at {KEY} (Conv2d, attention.py:" in answer.out
    assert f"{KEY} is the first over its limit" in picture.read_text()


def test_bad_input(edgeattn: Command, layer: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for picture, sentence in ((tmp_path / "x.png", "something.svg"), (tmp_path / "no/x.svg", "cannot be written")):
        answer = edgeattn("parity", layer.folder, "--picture", picture)
        assert answer.code == 2
        assert sentence in answer.err
    folder = tmp_path / "b"
    shutil.copytree(layer.folder, folder)
    stated = json.loads((folder / "manifest.json").read_text())
    (folder / "layers/attention-fp32.onnx.json").write_text("{}")
    assert "not the file that was exported" in edgeattn("parity", folder, "--layers").err
    file = stated["layers"]["attention-fp32.onnx"]
    (folder / file["path"]).write_text(json.dumps({KEY: {"tensor": "gone", "order": "same"}}))
    stated["layers"]["attention-fp32.onnx"] = vars(bundles.describe(folder, folder / file["path"]))
    (folder / "manifest.json").write_text(json.dumps(stated))
    answer = edgeattn("parity", folder, "--layers")
    assert answer.code == 2
    assert "has no tensor 'gone'" in answer.err

    (folder / "manifest.json").write_text(json.dumps({**stated, "golden": {"other": stated["golden"]["example"]}}))
    answer = edgeattn("parity", folder, "--layers")
    assert answer.code == 2
    assert "has no golden case 'example', which its layers are of" in answer.err

    del stated["layers"]["attention-fp32.onnx"]
    (folder / "manifest.json").write_text(json.dumps(stated))
    answer = edgeattn("parity", folder, "--layers", "--json")
    assert answer.code == 0
    assert [(x["candidate"], x["runtime"]) for x in answer.document["layers"]["not_run"]] == [
        ("attention-fp32.onnx", "onnxruntime")
    ]
    del stated["layers"]  # as an older edgeattn wrote it
    (folder / "manifest.json").write_text(json.dumps(stated))
    assert edgeattn("parity", folder).code == 0
    answer = edgeattn("parity", folder, "--layers")
    assert answer.code == 2
    assert "holds no layers" in answer.err


def test_without_matplotlib(edgeattn: Command, layer: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = plugins.find_spec
    monkeypatch.setattr(plugins, "find_spec", lambda name: None if name == "matplotlib" else honest(name))
    answer = edgeattn("parity", layer.folder, "--picture", tmp_path / "x.svg")
    assert answer.code == 3
    assert "pip install 'edgeattn[report]'" in answer.err
    assert not list(tmp_path.iterdir())
    assert edgeattn("parity", layer.folder, "--layers").code == 0
