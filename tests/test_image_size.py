"""``--image-size``: the example image at another size than the model's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Answer

from edgeattn.errors import BadInputError
from edgeattn.export import source

Command = Callable[..., Answer]

MODELS = """
import torch
from torch import nn

class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 4, 1), nn.Parameter(torch.zeros(1, 4, 8, 8))
    def forward(self, image): return self.conv(image) + self.table

class Two(nn.Module):
    def forward(self, a, b): return a.sum() + b.sum()

IMAGE = torch.randn(1, 3, 8, 8)
def convolution(): return nn.Conv2d(3, 4, 1), IMAGE
def low(): return nn.Conv2d(3, 4, 1).half(), {"pixels": IMAGE.half()}
def bytes_(): return Two(), {"b": (IMAGE * 50).to(torch.uint8).clamp(max=255), "a": torch.zeros(1, 7)}
def positions(): return Positions(), IMAGE
def two(): return Two(), (IMAGE, IMAGE)
def no_image(): return nn.Linear(8, 4), torch.zeros(1, 8)
def alone(): return nn.Conv2d(3, 4, 1)
def labelled(): return nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGE, {
    "inputs": torch.randn(2, 3, 8, 8), "labels": torch.tensor([0, 1])}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "m.py").write_text(MODELS)
    return tmp_path


def test_the_image_is_made_anew(folder: Path) -> None:
    made = source.load("m.py:convolution", image_size="16x12")
    assert made.outputs["y"].shape == (1, 4, 16, 12)
    assert torch.equal(made.inputs["input"], source.load("m.py:convolution", image_size="16x12").inputs["input"])
    low = source.load("m.py:low", image_size="16")
    assert (low.inputs["pixels"].shape, low.inputs["pixels"].dtype) == ((1, 3, 16, 16), torch.float32)
    other = source.load("m.py:bytes_", image_size="16")
    assert {name: (tuple(x.shape), x.dtype) for name, x in other.inputs.items()} == {
        "a": ((1, 7), torch.float32),
        "b": ((1, 3, 16, 16), torch.uint8),
    }


def test_a_sample_is_built_for_it() -> None:
    linformer = ["width=0.5", "attention=linformer", "num_classes=4"]
    made = source.load("mobilevitv2", linformer, image_size="64")
    assert made.arguments["image_size"] == 64
    assert made.inputs["image"].shape == (1, 3, 64, 64)
    oblong = source.load("mobilevitv2", ["width=0.5", "num_classes=4"], image_size="64x96")
    assert "image_size" not in oblong.arguments
    assert oblong.inputs["image"].shape == (1, 3, 64, 96)
    with pytest.raises(BadInputError, match=r"the module at 64x96 fails on its example inputs"):
        source.load("mobilevitv2", linformer, image_size="64x96")


def test_it_is_exported_at_that_size(folder: Path, edgeattn: Command) -> None:
    answer = edgeattn("export", "m.py:convolution", "--image-size", "16x12", "--format", "onnx", "--out", "b", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["manifest"]["inputs"][0]["shape"] == [1, 3, 16, 12]


@pytest.mark.parametrize(
    ("factory", "size", "said"),
    [
        ("convolution", "0", "--image-size takes a side such as 256, or height x width such as 192x256, not '0'"),
        ("convolution", "16,16", "--image-size takes a side such as 256"),
        ("convolution", "16x", "--image-size takes a side such as 256"),
        ("positions", "16x12", "the module at 16x12 fails on its example inputs (image [1, 3, 16, 12]): RuntimeError"),
        (
            "two",
            "16",
            "--image-size needs one image [1, 3, H, W] among the inputs; two takes [1, 3, 8, 8], [1, 3, 8, 8]",
        ),
        ("no_image", "16", "--image-size needs one image [1, 3, H, W] among the inputs; no_image takes [1, 8]"),
        ("alone", "16", "alone is a module without example inputs"),
        ("labelled", "16", "the evaluation inputs of labelled are [3, 8, 8] torch.float32 each"),
    ],
)
def test_what_is_refused(factory: str, size: str, said: str, folder: Path, edgeattn: Command) -> None:
    answer = edgeattn("export", f"m.py:{factory}", "--image-size", size, "--format", "onnx", "--out", "b")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("edgeattn: ")
    assert answer.err.count("\n") == 1
    assert said in answer.err
    assert {p.name for p in folder.iterdir()} == {"m.py"}


def test_one_size_is_enough(folder: Path, edgeattn: Command) -> None:
    sizes = ("--image-size", "16", "--input-shape", "1,3,8,8")
    answer = edgeattn("export", "m.py:convolution", *sizes, "--out", "b")
    assert answer.code == 2
    assert "--image-size and --input-shape both say how large the input is: give one of them" in answer.err
