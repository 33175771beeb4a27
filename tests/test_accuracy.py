"""Accuracy after export, from the pure score to the commands."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Answer
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from test_export import replace_file
from test_models import check_files

from edgeattn.bundle import golden
from edgeattn.bundle import manifest as bundles
from edgeattn.errors import ArtifactError
from edgeattn.parity.accuracy import predictions, score, wilson

Command = Callable[..., Answer]
HELD_OUT = "evaluation/held_out.safetensors"


def one_hot(classes: list[int]) -> np.ndarray:
    return np.eye(10, dtype=np.float32)[classes]


def test_score_counts_right_and_alike_apart() -> None:
    labels = np.array([0, 1, 2, 3])
    result = score(reference=one_hot([0, 1, 9, 3]), candidate=one_hot([0, 7, 2, 3]), labels=labels, precision="fp32")
    assert (result.n, result.correct, result.reference_correct, result.agreeing) == (4, 3, 3, 2)
    assert not result.passed
    assert result.reason == "2 of 4 answers are not the reference's"


def test_the_same_wrong_answers_pass_and_other_right_ones_do_not() -> None:
    labels, wrong = np.array([0, 1]), one_hot([5, 6])
    assert score(reference=wrong, candidate=wrong, labels=labels, precision="fp32").passed
    assert not score(reference=wrong, candidate=one_hot([0, 1]), labels=labels, precision="fp32").passed


def test_one_answer_of_few_may_differ_where_some_may() -> None:
    labels = np.arange(10)
    wrong = np.roll(labels, 1)
    for number, precision, passes in ((1, "fp16", True), (2, "fp16", False), (1, "fp32", False), (1, "int8", True)):
        answers = np.where(labels < number, wrong, labels)
        result = score(
            reference=one_hot(list(labels)), candidate=one_hot(list(answers)), labels=labels, precision=precision
        )
        assert result.passed == passes, (number, precision)


def dense(classes: np.ndarray) -> np.ndarray:
    """[n, H, W] -> logits [n, 10, H, W]."""
    return np.moveaxis(np.eye(10, dtype=np.float32)[classes], -1, 1)


def test_pixels_are_scored_by_the_mean_iou() -> None:
    labels = np.array([[[0, 0], [1, 1]]])
    answers = np.array([[[0, 1], [1, 1]]])
    result = score(reference=dense(labels), candidate=dense(answers), labels=labels, precision="int8")
    assert (result.n, result.correct, result.reference_correct, result.agreeing) == (4, 3, 4, 3)
    assert result.miou == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.reference_miou == 1
    assert not result.passed
    # What is not judged counts nowhere.
    result = score(
        reference=dense(labels),
        candidate=dense(answers),
        labels=np.where(answers == labels, labels, -1),
        precision="fp32",
    )
    assert (result.n, result.miou, result.passed) == (3, 1, True)


def test_a_class_of_few_pixels_counts_as_much_as_the_others() -> None:
    labels = np.zeros((1, 100, 100), np.int64)
    labels[0, 0, :5] = 1
    almost = labels.copy()
    almost[0, 50, 50] = 2
    assert score(reference=dense(labels), candidate=dense(almost), labels=0 * labels, precision="fp32").passed
    almost[0, 50, 51] = 2
    assert not score(reference=dense(labels), candidate=dense(almost), labels=0 * labels, precision="fp32").passed
    result = score(reference=dense(labels), candidate=dense(0 * labels), labels=labels, precision="int8")
    assert result.agreeing == 9995
    assert not result.passed
    assert "mIoU is 49.9" in result.reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_answer(value: float) -> None:
    broken = one_hot([3, 4])
    broken[1, 0] = value
    assert predictions(broken).tolist() == [3, -1]
    labels = np.array([3, 4])
    assert score(reference=one_hot([3, 4]), candidate=broken, labels=labels, precision="fp32").agreeing == 1
    assert not score(reference=broken, candidate=broken, labels=labels, precision="fp32").passed


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_stored_as_bytes_and_come_back(channels: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, channels, 8, 8), np.uint8)
    images = np.repeat(pixels.astype(np.float32) / np.float32(255), 3 // channels, axis=1)
    whole = golden.HeldOut(images, np.arange(4), np.eye(4, dtype=np.float32))
    whole.write(tmp_path / "h")
    assert load_file(tmp_path / "h")["inputs.pixels"].shape == pixels.shape
    assert np.array_equal(golden.HeldOut.read(tmp_path / "h").inputs, images)
    assert np.array_equal(golden.HeldOut.read(tmp_path / "h").first(2).labels, [0, 1])


@pytest.mark.parametrize("spoil", [np.nan, -1 / 255, 1.5 / 255, 256 / 255, 1e30, np.nextafter(np.float32(1), 0)])
def test_what_is_no_pixel_is_stored_as_it_is(spoil: float, tmp_path: Path) -> None:
    images = np.zeros((2, 3, 4, 4), np.float32)
    images[1, 2, 3, 3] = spoil
    golden.HeldOut(images, np.arange(2), np.eye(2, dtype=np.float32)).write(tmp_path / "h")
    assert np.array_equal(golden.HeldOut.read(tmp_path / "h").inputs, images, equal_nan=True)


def test_bytes_of_no_image_are_said(tmp_path: Path) -> None:
    rest = {"labels": np.arange(2), "reference.fp32": np.eye(2, dtype=np.float32)}
    for wrong in (np.zeros((2, 3, 4), np.uint8), np.zeros((2, 2, 4, 4), np.uint8), np.zeros((2, 3, 4, 4), np.int8)):
        save_file({"inputs.pixels": wrong, **rest}, tmp_path / "h")
        with pytest.raises(ArtifactError, match="no bytes of images"):
            golden.HeldOut.read(tmp_path / "h")


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_holds_the_share(counts: tuple[int, int]) -> None:
    correct, n = counts
    low, high = wilson(correct, n)
    assert -1e-12 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1 + 1e-12


def test_wilsons_interval_is_the_published_one() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, and 0 of 20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.fixture
def bundle(made_digits: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(made_digits, tmp_path / "b"))


def test_every_artifact_answers_as_the_reference(
    edgeattn: Command, made_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)  # a bundle that is made is checked without it
    answer = edgeattn("parity", made_digits, "--json")
    assert answer.code == 0
    rows = answer.document["accuracy"]
    assert {"onnxruntime", "litert"} <= {row["runtime"] for row in rows}
    for row in rows:
        assert row["passed"]
        assert row["n"] == row["agreeing"] == 360
        assert row["correct"] == row["reference_correct"] >= 0.98 * 360
    people = edgeattn("parity", made_digits).out
    assert "Accuracy on the held-out inputs" in people
    assert "360 of 360" in people


def test_the_manifest_names_data_and_preprocessing(edgeattn: Command, made_digits: Path) -> None:
    manifest = json.loads((made_digits / "manifest.json").read_text())
    assert manifest["evaluation"]["path"] == HELD_OUT
    assert manifest["preprocessing"]["image_size"] == [64, 64]
    assert manifest["preprocessing"]["scale"] == 1 / 16
    assert len(manifest["parity"]["accuracy"]) >= 2
    tensors = load_file(made_digits / HELD_OUT)
    assert {name: x.shape for name, x in tensors.items()} == {
        "inputs": (360, 3, 64, 64), "labels": (360,), "reference.fp32": (360, 10),
    }  # fmt: skip
    assert tensors["labels"].dtype == np.int64
    check_files(edgeattn, made_digits, "digits")
    assert "handwritten digits" in edgeattn("models").out


def test_another_weight_is_seen(edgeattn: Command, bundle: Path) -> None:
    """A weight whose output channels stand in reverse: only the answers tell how bad that is."""
    model = onnx.load(bundle / "digits-fp32.onnx")
    weight = next(t for t in model.graph.initializer if len(t.dims) > 1 and 10 in t.dims)
    values = onnx.numpy_helper.to_array(weight)
    turned = np.flip(values, axis=list(values.shape).index(10)).copy()
    weight.CopyFrom(onnx.numpy_helper.from_array(turned, weight.name))
    replace_file(bundle, "digits-fp32.onnx", model.SerializeToString())
    answer = edgeattn("parity", bundle, "--json")
    assert answer.code == 1
    rows = {row["candidate"]: row for row in answer.document["accuracy"]}
    assert rows["digits-fp32.onnx"]["correct"] < 0.2 * 360
    assert not rows["digits-fp32.onnx"]["passed"]
    assert rows["digits-fp32.tflite"]["passed"]
    assert "answers are not the reference's" in edgeattn("parity", bundle).out


def tamper(bundle: Path, change: Callable[[dict[str, np.ndarray]], None], *, with_hash: bool) -> None:
    path = bundle / HELD_OUT
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    if with_hash:
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["evaluation"] = vars(bundles.describe(bundle, path))
        (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_one_other_answer_of_the_reference_fails(edgeattn: Command, bundle: Path) -> None:
    tamper(
        bundle, lambda tensors: tensors["reference.fp32"].__setitem__(7, -tensors["reference.fp32"][7]), with_hash=True
    )
    answer = edgeattn("parity", bundle, "--json")
    assert answer.code == 1
    assert {row["agreeing"] for row in answer.document["accuracy"]} == {359}
    assert all(row["passed"] for row in answer.document["rows"])


def test_other_labels_show_as_a_drop_of_both(edgeattn: Command, bundle: Path) -> None:
    tamper(
        bundle, lambda tensors: tensors["labels"].__setitem__(slice(0, 60), 9 - tensors["labels"][:60]), with_hash=True
    )
    rows = edgeattn("parity", bundle, "--json").document["accuracy"]
    assert all(row["correct"] == row["reference_correct"] == 300 for row in rows)


def test_a_file_that_was_changed_or_lost_is_refused(edgeattn: Command, bundle: Path) -> None:
    tamper(bundle, lambda tensors: tensors["labels"].fill(0), with_hash=False)
    answer = edgeattn("parity", bundle)
    assert answer.code == 2
    assert "its hash differs" in answer.err
    (bundle / HELD_OUT).unlink()
    assert "is missing" in edgeattn("parity", bundle).err


def test_a_bundle_without_evaluation_loads(edgeattn: Command, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["evaluation"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    answer = edgeattn("parity", bundle, "--json")
    assert answer.code == 0
    assert answer.document["accuracy"] == []
    assert "Accuracy" not in edgeattn("parity", bundle).out


def test_an_artifact_of_another_output_answers_nothing(edgeattn: Command, bundle: Path) -> None:
    model = onnx.load(bundle / "digits-fp32.onnx")
    for node in model.graph.node:
        node.output[:] = ["z" if name == "y" else name for name in node.output]
    model.graph.output[0].name = "z"
    replace_file(bundle, "digits-fp32.onnx", model.SerializeToString())
    rows = {row["candidate"]: row for row in edgeattn("parity", bundle, "--json").document["accuracy"]}
    assert not rows["digits-fp32.onnx"]["passed"]
    assert rows["digits-fp32.onnx"]["correct"] == rows["digits-fp32.onnx"]["agreeing"] == 0
    assert rows["digits-fp32.tflite"]["passed"]


USERS = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
    def forward(self, x): return self.linear(x)
class Two(Net):
    def forward(self, x, other): return self.linear(x + other)
x, labels = torch.linspace(-1, 1, 20).reshape(5, 4), torch.tensor([0, 1, 2, 1, 0])
good = {"inputs": x, "labels": labels}
def fine(): return Net(), x[:1], {**good, "preprocessing": {"scale": 2, "mean": [0.5]}}
def two(): return Two(), (x[:1], x[:1]), good
def batch(): return Net(), x[:2], good
def tensor(): return Net(), x[:1], x
def without_labels(): return Net(), x[:1], {"inputs": x}
def wide(): return Net(), x[:1], {**good, "inputs": torch.zeros(5, 6)}
def double(): return Net(), x[:1], {**good, "inputs": x.double()}
def few(): return Net(), x[:1], {**good, "labels": labels[:4]}
def none(): return Net(), x[:1], {"inputs": x[:0], "labels": labels[:0]}
def real(): return Net(), x[:1], {**good, "labels": labels.float()}
def high(): return Net(), x[:1], {**good, "labels": labels + 1}
def odd(): return Net(), x[:1], {**good, "preprocessing": {"mean": x}}
"""


def test_a_users_own_labels(edgeattn: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(USERS)
    answer = edgeattn("export", f"{tmp_path}/mine.py:fine", "--format", "onnx", "--out", tmp_path / "b", "--json")
    assert answer.code == 0, answer.err
    manifest = answer.document["manifest"]
    told = manifest["preprocessing"]
    assert (told["scale"], told["mean"], told["std"], told["channels"]) == (2, [0.5], [1, 1, 1], "RGB")
    assert manifest["parity"]["accuracy"][0]["n"] == manifest["parity"]["accuracy"][0]["agreeing"] == 5


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("two", "needs one input of batch 1, and logits [1, classes]"),
        ("batch", "needs one input of batch 1"),
        ("tensor", "a dict of tensors: inputs and labels"),
        ("without_labels", "a dict of tensors: inputs and labels"),
        ("wide", "are [6] torch.float32 each, but the model takes [4] torch.float32"),
        ("double", "are [4] torch.float64 each"),
        ("few", "one int64 label for each"),
        ("none", "one int64 label for each"),
        ("real", "one int64 label for each"),
        ("high", "must be from 0 to 2"),
        ("odd", "the preprocessing of odd: mean"),
    ],
)
def test_labels_that_cannot_be_used(factory: str, said: str, edgeattn: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(USERS)
    answer = edgeattn("export", f"{tmp_path}/mine.py:{factory}", "--out", tmp_path / "b")
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "b").exists()
