"""Exports of files that take a picture: what goes into them, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Answer
from PIL import Image
from test_pictures import COLOURS, TOLD, Colours, example
from torch import nn

from edgeattn import deploy
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.errors import BadInputError
from edgeattn.export import pipeline, source
from edgeattn.export.source.picture import finished
from edgeattn.lowering import understand

Command = Callable[..., Answer]


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("mean", [(0.0,), (0.1, 0.2, 0.3)])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last", "channels_last_memory"])
def test_what_goes_into_the_first_convolution(padding: int, channels: Any, mean: Any, layout: Any) -> None:
    """Factors and the order of channels always; a mean where nothing is padded, as the border has none."""
    told = Preprocessing(channels=channels, mean=mean, std=(0.3, 0.2, 0.1))
    plain = source.from_module(Colours(padding).eval(), example(), name="c", preprocessing=told)
    given = finished(plain, picture=True, labels=(), answer="values")
    lowered = understand(given.module, tuple(given.inputs.values()), root="model").lowered(layout)
    graph = lowered.module.graph  # type: ignore[union-attr]
    names = [str(n.target) for n in graph.nodes if n.op == "call_function"]
    assert ("aten.sub.Tensor" in names) == (padding == 1 and any(mean))
    assert not any("mul" in name for name in names)
    # The two convolutions, and the mean where it is a module: no matrix of its own.
    modules = sum("conv" in str(n.target) or n.op == "call_module" for n in graph.nodes)
    assert modules == 2 + (layout == "channels_last_memory")
    x = torch.randint(0, 256, given.inputs["image"].shape, dtype=torch.uint8)
    assert torch.allclose(lowered.exact(x), given.module.double()(x), rtol=1e-12, atol=1e-12)


def test_resized_inside(tmp_path: Path, edgeattn: Command) -> None:
    """A frame of another size and shape: resized and cropped as the preprocessing says, in every format alike."""
    told = replace(TOLD, resize_shortest_edge=20)
    bundle = deploy(
        Colours().eval(), example(), out=tmp_path / "b", name="c", preprocessing=told, input_image=True,
        resize=(24, 36), labels=list(COLOURS),
    )  # fmt: skip
    assert bundle.passed, str(bundle)
    manifest = bundle.manifest
    assert manifest.inputs[0].shape == (1, 3, 24, 36)
    assert manifest.preprocessing["image_size"] == [24, 36]
    frame = torch.randint(0, 256, (1, 3, 24, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    plain = source.from_module(Colours().eval(), example(), name="c", preprocessing=told)
    given = finished(plain, picture=True, labels=(), answer="values", resize=(24, 36))
    resized = nn.functional.interpolate(frame.double(), size=(20, 30), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(v, dtype=torch.float64).reshape(3, 1, 1) for v in (TOLD.mean, TOLD.std))
    expected = Colours().double().eval()((resized[:, [2, 1, 0], 2:18, 7:23] / 255 - mean) / std)
    assert torch.allclose(given.module.double()(frame), expected, atol=1e-5)
    green = tmp_path / "green.png"
    Image.new("RGB", (50, 40), COLOURS["green"]).save(green)
    found = edgeattn("run", tmp_path / "b", green, "--compare", "--json").document["answers"]
    assert [each["best"][0]["label"] for each in found] == ["green"] * 5


FACTORY = """
import torch
from torch import nn
net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(3)), torch.rand(1, 3, 8, 8)
net(x)
two = nn.Bilinear(2, 2, 3)
def told(): return net, x, {"preprocessing": {"mean": [0.5], "std": [0.5]}}
def untold(): return net, x
def wrong(): return net, x, {"preprocessing": {"average": 1}}
def unknown(): return net, x, {"preprocesing": {"mean": [0.5]}}
def flat(): return nn.Linear(3, 4), torch.rand(1, 3), {"preprocessing": {"mean": [0.5]}}
def whole():
    return nn.Flatten(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), {"preprocessing": {"mean": [0.5]}}
def dense(): return nn.Conv2d(3, 2, 1), x, {"preprocessing": {"mean": [0.5]}}
"""


@pytest.mark.parametrize(
    ("factory", "options", "said"),
    [
        ("untold", ["--input-image"], "give --preprocessing FILE.json"),
        ("wrong", [], "has no 'average'; it takes image_size"),
        ("unknown", [], "'preprocesing', which is none of inputs, labels, calibration, preprocessing"),
        ("flat", ["--input-image"], "no picture [1, 3, H, W]"),
        ("whole", ["--input-image"], "is uint8 already"),
        ("told", ["--input-image", "--dynamic-batch"], "one picture at a time"),
        ("told", ["--resize", "32"], "--resize needs --input-image"),
        ("told", ["--input-image", "--resize", "0x3"], "--resize takes a side"),
        ("told", ["--output", "best"], "--output must be values, probabilities, top5, not 'best'"),
        ("told", ["--name", "../a"], "'../a' cannot name a file"),
        ("told", ["--labels", "two.txt"], "names 2 classes, and the model gives 3"),
        ("told", ["--labels", "empty.txt"], "one a line, none of them empty"),
        ("told", ["--labels", "none.txt"], "cannot be read as labels"),
        ("told", ["--labels", "binary.txt"], "cannot be read as labels"),
        ("told", ["--preprocessing", "none.json"], "cannot be read as JSON"),
        ("told", ["--preprocessing", "four.json"], "the preprocessing of four.json: mean"),
        ("dense", ["--output", "probabilities"], "only [1, classes] has probabilities"),
    ],
)
def test_what_cannot_be_exported(
    edgeattn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FACTORY)
    Path("two.txt").write_text("a\nb\n")
    Path("empty.txt").write_text("\n")
    Path("binary.txt").write_bytes(b"\xff\xfe\x00")
    Path("four.json").write_text('{"mean": [1, 2, 3, 4]}')
    answer = edgeattn("export", f"mine.py:{factory}", "--format", "onnx", *options, "--out", "b")
    assert (answer.code, answer.out, said in answer.err) == (2, "", True), answer.err
    assert not Path("b").exists()


def test_preprocessing_alone_and_from_a_file(
    edgeattn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factory gives it without labels; a file goes before it; without either, the manifest has none."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FACTORY)
    Path("p.json").write_text('{"mean": [0.25], "channels": "BGR"}')
    names = {}
    told = {}
    for name, options in {"told": [], "untold": [], "file": ["--preprocessing", "p.json", "--name", "mine"]}.items():
        factory = "told" if name == "file" else name
        answer = edgeattn("export", f"mine.py:{factory}", "--format", "onnx", *options, "--out", name, "--json")
        assert answer.code == 0, answer.err
        told[name] = answer.document["manifest"]["preprocessing"]
        names[name] = answer.document["manifest"]["artifacts"][0]["file"]["path"]
    assert (told["told"]["mean"], told["file"]["mean"], told["untold"]) == ([0.5], [0.25], {})
    assert told["file"]["channels"] == "BGR"
    assert names == {"told": "told-fp32.onnx", "untold": "untold-fp32.onnx", "file": "mine-fp32.onnx"}
    assert told["told"]["image_size"] == [8, 8]


def test_held_out_pictures_stay_what_they_are() -> None:
    loaded = source.load("digits")
    given = finished(loaded, picture=True, labels=tuple("0123456789"), answer="values")
    assert loaded.evaluation is not None
    assert given.evaluation is not None
    assert given.evaluation.inputs.dtype == torch.uint8
    assert given.calibration is not None
    assert given.calibration.dtype == torch.uint8
    with torch.no_grad():
        before, after = (s.module(s.evaluation.inputs[:64]) for s in (loaded, given) if s.evaluation)
    # Pixels of sixteenths, enlarged, are not bytes: half a step of 1/255 is lost.
    assert torch.equal(before.argmax(1), after.argmax(1))
    assert float((before - after).abs().max()) < 0.05 * float(before.abs().max())


def test_options_from_python_are_checked() -> None:
    with pytest.raises(BadInputError, match="--output must be"):
        pipeline.check(pipeline.Options(answer="best"), Path("nowhere"))  # type: ignore[arg-type]


def test_steps_of_weights_may_be_small(tmp_path: Path) -> None:
    """ExecuTorch's quantiser has steps of 2^-12 at least: a kernel with 1/255 of pixels in it would be mostly zero."""
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3)).eval()
    with torch.no_grad():
        next(iter(net)).weight.mul_(0.1)
    images = torch.rand(16, 3, 16, 16)
    worst = {}
    for input_image in (False, True):
        bundle = deploy(
            net, images[:1], out=tmp_path / str(input_image), name="c", formats="executorch", precisions=["int8"],
            preprocessing=Preprocessing(), input_image=input_image, calibrate=images,
        )  # fmt: skip
        rows = bundle.parity_at_export.rows()
        worst[input_image] = next(r["sqnr_db"] for r in rows if r["hop"] == "conversion" and r["case"] == "example")
    assert worst[True] > worst[False] - 3, worst
