"""The trained sample: its data, its training, its card."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import Answer
from safetensors.torch import load_file

from edgeattn.errors import MissingError
from edgeattn.sample_models import digits
from edgeattn.sample_models.digits import data, train

CARD = (Path(digits.__file__).parent / "README.md").read_text()


@pytest.fixture(scope="module")
def held_out() -> data.Part:
    return data.load("held_out")


@pytest.fixture(scope="module")
def training() -> data.Part:
    return data.load("training")


@pytest.fixture
def threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_split_is_fixed_and_shares_nothing(training: data.Part, held_out: data.Part) -> None:
    digest = hashlib.sha256(held_out.indices.numpy().tobytes()).hexdigest()
    assert digest == "2fbaae31b8c6aad12464a07771b64269876d904bfed86f77a63c8265fa201621"
    assert sorted([*training.indices.tolist(), *held_out.indices.tolist()]) == list(range(1797))
    pictures = torch.cat([training.images, held_out.images]).flatten(1)
    assert len({picture.numpy().tobytes() for picture in pictures}) == 1797
    for part in (training, held_out):
        shares = torch.bincount(part.labels) / len(part.labels)
        assert bool(((shares > 0.095) & (shares < 0.105)).all())


def test_images_are_what_the_manifest_says(held_out: data.Part) -> None:
    from sklearn.datasets import load_digits

    assert held_out.images.shape == (data.HELD_OUT, 3, data.SIDE, data.SIDE)
    assert (float(held_out.images.min()), float(held_out.images.max())) == (0, 1)
    assert torch.equal(held_out.images[:, 0], held_out.images[:, 2])
    small = torch.nn.functional.avg_pool2d(held_out.images[:, :1], 8).flatten(1)
    given = torch.from_numpy(load_digits().data[held_out.indices]).float() / 16
    # Averaged back, an enlarged picture is close to what it was, but for the blur of bilinear interpolation.
    assert float(torch.corrcoef(torch.stack([small.flatten(), given.flatten()]))[0, 1]) > 0.95


def test_the_committed_weights_are_as_good_as_the_card_says(training: data.Part, held_out: data.Part) -> None:
    network, inputs, _ = digits.build()
    assert torch.equal(inputs["image"], held_out.images[:1])
    for name, part in (("held out", held_out), ("training", training)):
        right = int((train.predictions(network, part.images) == part.labels).sum())
        said = re.search(rf"Accuracy, {name} \| \**(\d+) of (\d+) right, ([\d.]+) %", CARD)
        assert said, name
        assert (right, len(part.labels)) == (int(said[1]), int(said[2]))
        assert float(said[3]) == round(100 * right / len(part.labels), 2)
        assert right >= 0.98 * len(part.labels)


def test_the_card_has_the_size_and_the_file_is_small() -> None:
    size = digits.WEIGHTS.stat().st_size
    assert size < 2_000_000
    assert f"{size:,} bytes" in CARD
    assert f"{sum(p.numel() for p in digits.model().parameters()):,} parameters" in CARD


def test_other_weights_are_not_as_good(held_out: data.Part) -> None:
    """The check above can fail: the same model with one layer's weights at random."""
    torch.manual_seed(1)
    network = digits.build()[0]
    torch.nn.init.kaiming_normal_(network.stages[2][1].project[0].weight)
    assert int((train.predictions(network, held_out.images) == held_out.labels).sum()) < 0.9 * data.HELD_OUT


def test_training_repeats_and_moves_the_weights(training: data.Part) -> None:
    few = data.Part(training.images[:128], training.labels[:128], training.indices[:128])
    before = torch.get_rng_state()
    one, two = train.train(few, epochs=2), train.train(few, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    torch.manual_seed(train.SEED)
    fresh = digits.model()
    assert not torch.equal(fresh.stem[0].weight, one.stem[0].weight)
    assert not one.training


@pytest.mark.usefixtures("threads_kept")
def test_the_script_writes_weights_and_says_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {name: data.load(name) for name in ("training", "held_out")}
    few = {name: data.Part(p.images[:64], p.labels[:64], p.indices[:64]) for name, p in parts.items()}
    monkeypatch.setattr(data, "load", few.__getitem__)
    train.main(["--epochs", "1", "--out", str(tmp_path / "w.safetensors")])
    assert load_file(tmp_path / "w.safetensors").keys() == digits.model().state_dict().keys()
    assert os.listdir(tmp_path) == ["w.safetensors"]
    out = capsys.readouterr().out
    right = re.search(r"held-out: (\d+) of 64 right", out)
    assert right
    assert out.count("read as") == 64 - int(right[1])


def test_without_scikit_learn(edgeattn: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn.datasets", "sklearn.model_selection"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingError):
        data.load("training")
    answer = edgeattn("export", "digits", "--out", tmp_path / "b")
    assert answer.code == 3
    assert "scikit-learn is not installed; install it with: pip install 'edgeattn[demo]'" in answer.err
    assert not list(tmp_path.iterdir())
