"""Outputs of integers and booleans: the places of the largest values, what is above a threshold; and ties."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import Answer
from test_export import replace_hash
from torch import Tensor, nn

from edgeattn import deploy
from edgeattn.bundle.golden import GoldenCase
from edgeattn.errors import ArtifactError
from edgeattn.export import rounding
from edgeattn.parity.metrics import compare

CHOICES: dict[str, Callable[[Tensor], Tensor]] = {
    "places of the largest": lambda y: y.flatten(1).topk(5)[1],
    "places in order": lambda y: y.mean((2, 3)).sort(1)[1],
    "the largest": lambda y: y.argmax(1),
    "above zero": lambda y: y - y.mean() > 0,
}


class Chooser(nn.Module):
    """Of a constant picture, all values but those of the edge tie."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.choose = nn.Conv2d(3, 4, 3, padding=1, bias=False), CHOICES[name]

    def forward(self, image: Tensor) -> Tensor:
        return self.choose(self.conv(image))


X = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CHOICES)
def test_ties_are_no_difference(name: str, tmp_path: Path) -> None:
    formats = ("onnx", "coreml") if name == "places in order" else ("onnx", "coreml", "tflite")  # litert-torch: no sort
    made = deploy(Chooser(name), X, out=tmp_path / "b", formats=formats)
    assert made.passed, made.parity_at_export.report.rows


def test_another_choice_is_a_difference(edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    deploy(Chooser("places of the largest"), X, out=tmp_path / "b", formats="onnx")
    assert edgeattn("parity", tmp_path / "b").code == 0
    path = next((tmp_path / "b").glob("*.onnx"))
    model = onnx.load(path)
    (top,) = [node for node in model.graph.node if node.op_type == "TopK"]
    next(a for a in top.attribute if a.name == "largest").i = 0
    onnx.save(model, path)
    replace_hash(tmp_path / "b", path.name)
    answer = edgeattn("parity", tmp_path / "b", "--json")
    assert answer.code == 1
    assert any(row["case"] == "example" and not row["passed"] for row in answer.document["rows"])


def test_what_rounding_decides_is_found() -> None:
    values = torch.tensor([[1.0, 3.0, 3.0, 2.0]])

    class Sums(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = x @ torch.eye(4, dtype=x.dtype)
            return y.argmax(1), y.sort(1)[1], y > 2.5

    outputs = dict(zip("abc", (v.numpy() for v in Sums()(values)), strict=True))
    found = rounding.unsettled(Sums(), {"x": values}, list("abc"), outputs, outputs)
    assert found.keys() == {"a", "b"}  # no value is near 2.5
    assert found["a"].tolist() == [True]
    assert found["b"].tolist() == [[False, False, True, True]]


def test_what_is_settled_is_compared() -> None:
    truth, mask = np.array([4, 7, 9]), np.array([False, True, False])
    given = {"oracle": truth, "reference": truth, "precision": "fp32"}
    assert not compare(**given, candidate=np.array([4, 8, 9])).passed
    assert compare(**given, candidate=np.array([4, 8, 9]), unsettled=mask).passed
    assert not compare(**given, candidate=np.array([5, 7, 9]), unsettled=mask).passed
    assert compare(**given, candidate=truth, unsettled=mask).shown
    assert not compare(**given, candidate=truth, unsettled=np.ones(3, bool)).shown


@pytest.mark.parametrize("mask", [np.ones((1, 4), bool), np.ones((1, 5), np.uint8)])
def test_a_mask_that_is_not_one_is_refused(mask: np.ndarray, tmp_path: Path) -> None:  # type: ignore[type-arg]
    made = deploy(Chooser("places of the largest"), X, out=tmp_path / "b", formats="onnx")
    assert made.passed
    path = tmp_path / "b/golden/constant.safetensors"
    case = GoldenCase.read(path)
    assert case.unsettled["y"].all()
    case.unsettled["y"] = mask
    case.write(tmp_path / "c.safetensors")
    with pytest.raises(ArtifactError, match="no booleans for 'y'"):
        GoldenCase.read(tmp_path / "c.safetensors")
