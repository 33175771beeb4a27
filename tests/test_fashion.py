"""The sample that was trained on Fashion-MNIST: its data, its training, its card."""

import gzip
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Answer
from PIL import Image
from safetensors.torch import load_file

from edgeattn.errors import BadInputError, MissingError
from edgeattn.sample_models import fashion
from edgeattn.sample_models.fashion import data, train

CARD = (Path(fashion.__file__).parent / "README.md").read_text()
needs_all = pytest.mark.skipif(not data.FOLDER.is_dir(), reason="install it: apt-get install -y dataset-fashion-mnist")


@needs_all
def test_the_parts_share_nothing() -> None:
    parts = [data.load(part) for part in ("training", "validation", "held_out")]
    assert [len(part.labels) for part in parts] == [55_000, 5_000, 10_000]
    # 43 pictures of Fashion-MNIST are in it more than once; none of those is in two of the parts by our doing.
    held_out = {picture.tobytes() for picture in parts[2].pixels}
    assert sum(picture.tobytes() in held_out for picture in parts[0].pixels) <= 20
    assert np.bincount(parts[2].labels).tolist() == [1000] * 10


@needs_all
@pytest.mark.parametrize("part", ["held_out", "calibration"])
def test_what_is_carried_is_the_beginning(part: data.Part) -> None:
    carried, whole = data.carried(part), data.load(part)
    number = len(carried.labels)
    assert number == {"held_out": 500, "calibration": 128}[part]
    assert np.array_equal(carried.pixels, whole.pixels[:number])
    assert np.array_equal(carried.labels, whole.labels[:number])
    assert data.CARRIED.stat().st_size < 400_000


def test_without_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "none"
    assert len(data.load("held_out", nowhere).labels) == 500
    with pytest.raises(MissingError, match="apt-get install dataset-fashion-mnist"):
        data.load("training", nowhere)


@pytest.mark.parametrize("model", ["fashion", "scenes"])
def test_without_pillow(tmp_path: Path, model: str) -> None:
    code = "import sys; sys.modules['PIL'] = None; from edgeattn.cli.main import main; main()"
    command = [sys.executable, "-c", code, "export", model, "--out", str(tmp_path / "b")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "pip install 'edgeattn[demo]'" in done.stderr) == (3, True), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"\0\0\x08\x03" + bytes(20))])
def test_a_broken_data_set_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(BadInputError, match="is no file of Fashion-MNIST"):
        data.load("held_out", tmp_path)


def test_inputs_are_what_an_app_would_make() -> None:
    pixels = data.carried("held_out").pixels[:3]
    (picture, *_) = data.inputs(pixels)
    enlarged = Image.fromarray(pixels[0]).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(picture.numpy(), np.asarray(enlarged).transpose(2, 0, 1).astype(np.float32) / 255)


def test_a_small_network_that_is_half_trained_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = data.carried("calibration")
    monkeypatch.setattr(data, "load", lambda *_: few)
    whole, begun, resumed = (train.learner(2) for _ in range(3))
    before = torch.get_rng_state()
    figures = list(train.train(whole, 2, tmp_path / "a"))
    assert torch.equal(torch.get_rng_state(), before)
    assert [one["epoch"] for one in figures] == [1, 2]
    list(train.train(begun, 1, tmp_path / "b"))
    assert [one["epoch"] for one in train.train(resumed, 2, tmp_path / "b")] == [2]
    one, two, other = (x.average.state_dict() for x in (whole, resumed, begun))
    assert all(torch.equal(x, y) for x, y in zip(one.values(), two.values(), strict=True))
    assert not torch.equal(one["stem.0.weight"], other["stem.0.weight"])


def test_augmented_pictures_are_still_pictures() -> None:
    images = data.inputs(data.carried("held_out").pixels[:64])
    one, two = (train.augment(images, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert one.shape == images.shape
    assert (float(one.min()), float(one.max())) == (0, 1)
    assert torch.equal(one[:, 0], one[:, 2])
    assert not torch.equal(one, two)
    assert torch.equal(one, train.augment(images, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("number", [500, pytest.param(10_000, marks=needs_all)])
def test_the_committed_weights_are_as_good_as_the_card_says(number: int) -> None:
    said = re.search(rf"Accuracy, {number:,} held out \| \**([\d.]+) %", CARD)
    assert said
    found = train.accuracy(fashion.trained(), data.load("held_out")[:number])
    assert round(100 * found, 2) == float(said[1])
    assert found >= 0.935


def test_other_weights_are_not_as_good() -> None:
    """The check above can fail: the same model with one layer's weights at random."""
    network = fashion.trained()
    torch.manual_seed(1)
    torch.nn.init.kaiming_normal_(network.stages[2][1].project[0].weight)
    assert train.accuracy(network, data.carried("held_out")) < 0.9


def test_the_card_has_the_size_and_the_file_is_small() -> None:
    size = fashion.WEIGHTS.stat().st_size
    assert size < 2_500_000
    assert f"{size:,} bytes" in CARD
    assert f"{sum(p.numel() for p in fashion.model().parameters()):,} parameters" in CARD
    assert all(x.dtype in (torch.float16, torch.int64) for x in load_file(fashion.WEIGHTS).values())


def test_exported_and_judged(edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    options = ("--arg", "held_out=300", "--format", "onnx", "--format", "tflite", "--out", tmp_path / "b")
    assert edgeattn("export", "fashion", *options).code == 0
    answer = edgeattn("parity", tmp_path / "b", "--json")
    assert answer.code == 0
    rows = answer.document["accuracy"]
    assert [(row["n"], row["agreeing"]) for row in rows] == [(300, 300)] * 2
    assert all(row["correct"] > 0.9 * 300 for row in rows)
    # Bytes, and those of a grey picture once: a twelfth of float32.
    assert (tmp_path / "b" / "evaluation" / "held_out.safetensors").stat().st_size < 1.1 * 300 * 64 * 64
    fewer = edgeattn("parity", tmp_path / "b", "--held-out", 20, "--json").document["accuracy"]
    assert [(row["n"], row["agreeing"]) for row in fewer] == [(20, 20)] * 2
    assert edgeattn("parity", tmp_path / "b", "--held-out", 0).code == 2
    assert edgeattn("export", "fashion", "--arg", "held_out=0", "--out", tmp_path / "c").code == 2
