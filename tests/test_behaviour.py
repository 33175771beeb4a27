"""Modules that are no function of their inputs are told what they do; those that change an input are given copies."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn import deploy
from edgeattn.errors import BadInputError
from edgeattn.export import source
from edgeattn.export.source import behaviour


class Net(nn.Module):
    """A convolution, and a habit."""

    def __init__(self, habit: "Callable[[Net, Tensor], Tensor]") -> None:
        super().__init__()
        self.conv, self.habit, self.calls = nn.Conv2d(3, 4, 3, padding=1), habit, 0
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("kept", torch.zeros(4, 1, 1), persistent=False)
        self.table: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        return self.habit(self, self.conv(image))


def _counts(net: Net, y: Tensor) -> Tensor:
    net.get_buffer("seen").add_(1)
    return y


def _averages(net: Net, y: Tensor) -> Tensor:
    net.kept = 0.9 * net.get_buffer("kept") + y.mean((0, 2, 3))[:, None, None] + 1
    return y


def _drifts(net: Net, y: Tensor) -> Tensor:
    net.conv.bias.add_(1e-3)  # type: ignore[union-attr]
    return y


def _counts_in_python(net: Net, y: Tensor) -> Tensor:
    net.calls += 1
    return y * net.calls


def _table(net: Net, y: Tensor) -> Tensor:
    if net.table is None:
        net.table = torch.ones_like(y)
    return y + net.table


@pytest.mark.parametrize(
    ("habit", "said"),
    [
        (_counts, "changes its own state (seen)"),
        (_averages, "changes its own state (kept)"),
        (_drifts, "changes its own state (conv.bias)"),
        (lambda net, y: F.dropout(y, 0.1), "draws random numbers"),
        (lambda net, y: y + 0.01 * torch.randn_like(y), "draws random numbers"),
        (lambda net, y: y + random.random(), "draws random numbers"),
        (lambda net, y: y * np.random.rand(), "draws random numbers"),
        (lambda net, y: torch.bernoulli(torch.full_like(y, 0.5)) * y, "draws random numbers"),
        (_counts_in_python, "keeps a state outside of its buffers, or reads a clock"),
        (
            lambda net, y: y + time.perf_counter_ns() % 1_000_003,
            "keeps a state outside of its buffers, or reads a clock",
        ),
    ],
)
def test_a_module_that_is_no_function_is_told_what_it_does(habit: Callable[[Net, Tensor], Tensor], said: str) -> None:
    with pytest.raises(BadInputError) as refused:
        source.from_module(Net(habit), torch.rand(1, 3, 8, 8))
    assert said in str(refused.value)


@pytest.mark.parametrize("habit", [_table, lambda net, y: y.relu_(), lambda net, y: y])
def test_what_is_a_function_passes(habit: Callable[[Net, Tensor], Tensor]) -> None:
    made = source.from_module(Net(habit), torch.rand(1, 3, 8, 8))
    assert made.notes == ()


class Normalising(nn.Module):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change, self.conv = change, nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.conv(self.change(image))
        return y


def _first_channel(x: Tensor) -> Tensor:
    x[:, 0] = x[:, 0] * 2 - 1
    return x


@pytest.mark.parametrize(
    "change",
    [lambda x: x.sub_(0.5).div_(0.25), F.relu_, lambda x: x.clamp_(-1, 1), _first_channel],
    ids=["normalises", "relu", "clamps", "a view"],
)
def test_an_input_that_is_changed_in_place(change: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 8, 8)  # a ReLU and a clamp change no value of it
    given = image.clone()
    bundle = deploy(Normalising(change), image, out=tmp_path / "b")
    assert torch.equal(image, given)
    assert bundle.passed
    assert not bundle.refused
    assert "changes image in place" in bundle.notes[0]


def test_only_what_is_changed_is_named() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b.mul_(2)

    inputs = {"a": torch.ones(2), "b": torch.ones(2)}
    assert behaviour.changed_inputs(Two(), inputs) == ["b"]
    assert inputs["b"].tolist() == [1, 1]


def test_the_command(edgeattn: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "import torch\n"
        "class Noisy(torch.nn.Module):\n"
        "    def forward(self, x): return torch.nn.functional.dropout(x)\n"
        "def make(): return Noisy(), torch.ones(1, 4)\n"
    )
    answer = edgeattn("export", f"{tmp_path}/noisy.py:make", "--out", tmp_path / "b")
    assert answer.code == 2  # type: ignore[attr-defined]
    assert "draws random numbers" in answer.err  # type: ignore[attr-defined]
    assert not (tmp_path / "b").exists()
