"""The export without the lowering; notes, paths and inputs as the user knows them."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import SMALL, Answer
from torch import Tensor, nn

import edgeattn as package
from edgeattn import LinearSelfAttention
from edgeattn.bundle import manifest as bundles
from edgeattn.errors import BadInputError
from edgeattn.export import pipeline, source
from edgeattn.lowering import lower
from edgeattn.parity import layer_file
from edgeattn.runtimes.litert import RUNTIME, as_declared

Command = Callable[..., Answer]


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_no_lowering(edgeattn: Command, tmp_path: Path) -> None:
    out = tmp_path / "b"
    answer = edgeattn("export", "attention", *SMALL, "--format", "onnx", "--no-lowering", "--out", out)
    assert answer.code == 0, answer.err
    assert "exported as it is, as asked" in answer.out
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["lowering"] == {"channels_first": []}
    assert manifest["lowered"] is False
    assert edgeattn("parity", out).code == 0
    module, x = LinearSelfAttention(32).eval(), torch.randn(1, 32, 4, 16)
    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    assert program is not None
    stock = Counter(node.op_type for node in program.model_proto.graph.node)
    assert kinds(out / "attention-fp32.onnx") == stock


def test_no_lowering_from_python(made_bundle: Path, tmp_path: Path) -> None:
    module, x = LinearSelfAttention(32).eval(), torch.randn(1, 32, 4, 16)
    bundle = package.deploy(module, x, out=tmp_path / "b", formats="onnx", lowering=False)
    assert bundle.passed
    assert not any(bundle.manifest.lowering.values())
    assert "as asked" in str(bundle)
    assert "as asked" not in str(package.Bundle.open(made_bundle))
    rows = {(row["hop"], row["case"]) for row in bundle.manifest.parity["rows"]}
    lowered = {(row["hop"], row["case"]) for row in bundles.load(made_bundle).manifest.parity["rows"]}
    assert rows == lowered


class Nested(nn.Module):
    """What it returns is nested, so that it is wrapped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.attention = LinearSelfAttention(8)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = torch.relu(self.stem(x))
        return {"first": self.attention(y.flatten(2).unsqueeze(2)), "rest": [y]}


@pytest.mark.parametrize("lowering", [True, False])
def test_paths_are_the_users_own(lowering: bool, tmp_path: Path) -> None:
    made = source.from_module(Nested().eval(), torch.randn(1, 3, 4, 4))
    options = pipeline.Options(formats=("onnx",), lowering=lowering)
    done = pipeline.export(made, options, tmp_path / "b")
    assert done.report.passed
    manifest = done.bundle.manifest
    assert manifest.layers is not None
    names = [layer.name for layer in layer_file.read(done.bundle.path(manifest.layers["channels_first"]))]
    assert any(name.startswith("attention") for name in names), names
    assert not any(name.startswith("model") for name in names), names
    changes = manifest.lowering["channels_first"]
    assert bool(changes) is lowering
    assert all(not change.path.startswith("model") and change.before != "InOrder" for change in changes), changes
    assert not lowering or any(change.path == "attention" for change in changes), changes


class Branching(Nested):
    def forward(self, x: Tensor) -> dict[str, Any]:
        return super().forward(x if float(x.sum()) > 0 else -x)


def test_a_model_that_is_not_lowered_has_its_own_name() -> None:
    made = source.from_module(Branching().eval(), torch.randn(1, 3, 4, 4))
    (change,) = pipeline.understand(made.module, tuple(made.inputs.values()), root="model").lowered(
        "channels_first"
    ).changes  # fmt: skip
    assert (change.path, change.before) == ("", "Branching")


def test_notes_are_kept(tmp_path: Path) -> None:
    module = nn.Conv2d(3, 4, 1).to(torch.bfloat16)
    bundle = package.deploy(module, torch.randn(1, 3, 4, 4), out=tmp_path / "b", formats="onnx")
    (note,) = package.Bundle.open(tmp_path / "b").notes
    assert "bfloat16" in note
    assert bundle.notes == (note,)
    assert f"Note: {note}" in " ".join(str(bundle).split())


class Step(nn.Module):
    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        return x * step


def test_one_number_has_no_free_batch(tmp_path: Path) -> None:
    inputs = (torch.randn(2, 3), torch.tensor(2.0))
    with pytest.raises(BadInputError, match="--dynamic-batch: the input step has no batch"):
        package.deploy(Step(), inputs, out=tmp_path / "b", formats="onnx", dynamic_batch=True)
    assert not (tmp_path / "b").exists()
    (change,) = lower(Step().eval(), layout="channels_first", inputs=inputs, dynamic_batch=True).changes
    assert change.reason == "not lowered: an input without dimensions has no batch"


class Lookup(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 8)

    def forward(self, words: Tensor) -> Tensor:
        return torch.relu(self.table(words))


def test_integers_are_taken_in_the_type_that_the_file_declares(tmp_path: Path) -> None:
    words = torch.tensor([[1, 2, 3, 9]], dtype=torch.int32)
    bundle = package.deploy(Lookup(), words, out=tmp_path / "b", formats="tflite")
    assert bundle.passed
    (file,) = (artifact.path for artifact in bundle.artifacts)
    with RUNTIME.open(file) as session:
        wide, narrow = ({"words": words.numpy().astype(kind)} for kind in (np.int64, np.int32))
        for name, value in session.run(wide).items():
            assert np.array_equal(value, session.run(narrow)[name])


def test_integers_that_do_not_fit_are_left_alone() -> None:
    large, floats = np.array([2**40]), np.array([1.0])
    assert as_declared(large, np.int32) is large
    assert as_declared(floats, np.int32) is floats
    assert as_declared(np.array([-1]), np.int32).dtype == np.int32
    assert as_declared(np.array([-1]), np.uint8).dtype == np.int64
