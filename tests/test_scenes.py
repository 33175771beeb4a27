"""The sample with dense outputs: its scenes, its training, its card, and what parity says of its pixels."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Answer
from safetensors.torch import load_file

from edgeattn.bundle import manifest as bundles
from edgeattn.parity.accuracy import mean_iou
from edgeattn.sample_models import scenes
from edgeattn.sample_models.fashion import data as clothes
from edgeattn.sample_models.scenes import data, train

CARD = (Path(scenes.__file__).parent / "README.md").read_text()


@pytest.fixture(scope="module")
def held_out() -> data.Scenes:
    return data.draw(100, clothes.carried("held_out"), scenes.HELD_OUT_SEED)


def test_scenes_are_drawn_by_their_seed(held_out: data.Scenes) -> None:
    again, other = (data.draw(3, clothes.carried("held_out"), seed) for seed in (scenes.HELD_OUT_SEED, 2))
    assert torch.equal(again.images, held_out.images[:3])
    assert torch.equal(again.classes, held_out.classes[:3])
    assert not torch.equal(other.images, again.images)
    assert held_out.images.shape == (100, 128, 128)
    assert held_out.classes.shape == (100, 32, 32)
    shares = np.bincount(held_out.classes.flatten().numpy(), minlength=len(data.LABELS)) / held_out.classes.numel()
    assert (shares > 0.005).all()
    assert 0.5 < shares[0] < 0.9


def test_a_garment_lies_where_its_class_is() -> None:
    white = clothes.Pictures(np.full((1, 28, 28), 255, np.uint8), np.array([4], np.uint8))
    scene = data.draw(1, white, 0)
    middle = data.STRIDE // 2
    pixels = scene.images[0, middle :: data.STRIDE, middle :: data.STRIDE]
    assert torch.equal(pixels == 255, scene.classes[0] == 5)


def test_the_committed_weights_are_as_good_as_the_card_says(held_out: data.Scenes) -> None:
    said = re.search(r"mIoU, held out \| \**([\d.]+) %", CARD)
    assert said
    network = scenes.trained()
    found = train.miou(network, held_out)
    assert round(100 * found, 2) == pytest.approx(float(said[1]), abs=0.02)
    with torch.no_grad():
        answers = network(clothes.images(held_out.images)).argmax(1).numpy()
    assert mean_iou(answers, held_out.classes.numpy(), len(data.LABELS)) == pytest.approx(found, abs=1e-3)
    torch.nn.init.kaiming_normal_(network.high.weight)
    assert train.miou(network, held_out) < found / 2


def test_the_card_has_the_size_and_the_file_is_small() -> None:
    size = scenes.WEIGHTS.stat().st_size
    assert size < 2_600_000
    assert f"{size:,} bytes" in CARD
    assert all(x.dtype in (torch.float16, torch.int64) for x in load_file(scenes.WEIGHTS).values())


def test_training_repeats_and_moves_the_weights() -> None:
    some = clothes.carried("calibration")
    before = torch.get_rng_state()
    one, two = (train.train(some, epochs=2, scenes=32) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not one.training


def test_pixels_are_judged_in_every_format(edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    out = tmp_path / "b"
    options = ("--arg", "held_out=4", "--precision", "fp32", "--precision", "fp16", "--out", out)
    answer = edgeattn("export", "scenes", *options)
    assert answer.code == 0, answer.err + answer.out
    assert "mIoU" in answer.out
    formats = {artifact.format for artifact in bundles.load(out).manifest.artifacts}
    assert formats == {"coreai", "coreml", "executorch", "onnx", "tflite"}
    rows = edgeattn("parity", out, "--held-out", 2, "--json").document["accuracy"]
    assert {row["n"] for row in rows} == {2 * 32 * 32}
    for row in rows:
        assert row["agreeing"] >= (1 if "fp32" in row["candidate"] else 0.998) * row["n"], row
        assert row["reference_miou"] > 0.3
        assert abs(row["miou"] - row["reference_miou"]) < (1e-9 if "fp32" in row["candidate"] else 0.005), row
    markdown = tmp_path / "m.md"
    edgeattn("parity", out, "--held-out", 1, "--markdown", markdown)
    assert "mIoU" in markdown.read_text()
    assert edgeattn("export", "scenes", "--arg", "held_out=0", "--out", tmp_path / "c").code == 2


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("torch.zeros(2, 8, 8, dtype=torch.int64)", ""),
        ("torch.tensor([[[-1] * 8] * 8, [[-1] * 7 + [4]] * 8])", ""),
        ("torch.full((2, 8, 8), -1)", "all are -1"),
        (
            "torch.zeros(2, 4, 8, dtype=torch.int64)",
            "one int64 label for each of the 8x8 pixels that it gives for each",
        ),
        ("torch.zeros(2, dtype=torch.int64)", "one int64 label for each of the 8x8 pixels that it gives for each"),
        ("torch.full((2, 8, 8), 5)", "must be from 0 to 4, or -1 where a pixel is not judged"),
        ("torch.full((2, 8, 8), -2)", "must be from 0 to 4, or -1 where a pixel is not judged"),
    ],
)
def test_labels_of_pixels_are_checked(edgeattn: Callable[..., Answer], tmp_path: Path, labels: str, said: str) -> None:
    model = tmp_path / "m.py"
    model.write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n    x = torch.rand(2, 3, 8, 8)\n"
        f"    return nn.Conv2d(3, 5, 1), x[:1], {{'inputs': x, 'labels': {labels}}}\n"
    )
    answer = edgeattn("export", f"{model}:build", "--format", "onnx", "--out", tmp_path / "b")
    assert answer.code == (2 if said else 0), answer.err
    assert said in answer.err
