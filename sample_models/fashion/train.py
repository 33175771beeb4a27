"""Train the fashion sample: ``python -m edgeattn.sample_models.fashion.train`` writes weights.safetensors.

It goes on where it was stopped, from the last whole epoch. The weights are a moving average at the last step; the
held-out pictures choose nothing, and are read once, at the end.
"""

import argparse
import copy
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.sample_models import _halves
from edgeattn.sample_models.fashion import WEIGHTS, data, model, trained
from edgeattn.sample_models.mobilevitv2 import MobileViTv2
from edgeattn.system import files

EPOCHS, BATCH, RATE, DECAY, SMOOTHING = 30, 128, 3e-3, 0.05, 0.1
# Of the average of the weights, each step.
AVERAGE = 0.999
# Pixels of 64: two of the picture's own 28.
SHIFT = 5
# The share of pictures with a rectangle cut out, and its sides, as shares of the picture's.
CUT, SIDES = 0.5, (0.15, 0.5)
SEED, THREADS = 0, 1


@dataclass(frozen=True)
class Learner:
    """All that changes in training."""

    network: MobileViTv2
    average: MobileViTv2
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in self.__dataclass_fields__}

    def load(self, state: dict[str, Any]) -> None:
        for name in self.__dataclass_fields__:
            getattr(self, name).load_state_dict(state[name])


def learner(steps: int) -> Learner:
    """At its beginning, repeatable by its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        # oneDNN's convolutions are faster on channels-last.
        network = model().train()
        for weight in network.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    return Learner(network, copy.deepcopy(network).eval(), optimiser, schedule)


def augment(images: Tensor, random: torch.Generator) -> Tensor:
    """[n, 3, H, W] -> the same: mirrored, shifted, a rectangle of noise in some, each image at random."""
    number, _, height, width = images.shape
    mirrored = torch.where(_chosen(number, 0.5, random), images.flip(3), images)
    padded = F.pad(mirrored, [SHIFT] * 4)
    y, x = torch.randint(2 * SHIFT + 1, (2, number), generator=random)
    rows = (y[:, None] + torch.arange(height))[:, None, :, None]
    columns = (x[:, None] + torch.arange(width))[:, None, None, :]
    shifted = padded[torch.arange(number)[:, None, None, None], torch.arange(3)[:, None, None], rows, columns]

    least, most = SIDES
    sides = least + (most - least) * torch.rand((2, number), generator=random)
    starts = torch.rand((2, number), generator=random) * (1 - sides)
    inside = [
        (places >= start[:, None]) & (places < (start + side)[:, None])
        for places, start, side in (
            (torch.arange(height) / height, starts[0], sides[0]),
            (torch.arange(width) / width, starts[1], sides[1]),
        )
    ]
    cut = inside[0][:, None, :, None] & inside[1][:, None, None, :] & _chosen(number, CUT, random)
    noise = torch.rand((number, 1, height, width), generator=random)
    return torch.where(cut, noise, shifted)


def _chosen(number: int, share: float, random: torch.Generator) -> Tensor:
    return (torch.rand(number, generator=random) < share)[:, None, None, None]


def train_epoch(at: Learner, large: Tensor, labels: Tensor, epoch: int) -> float:
    """One pass over the pictures [n, 64, 64] (uint8), in an order of its own; the mean loss."""
    random = torch.Generator().manual_seed(SEED + 1 + epoch)
    # The last, smaller batch is left out: its BatchNorm statistics would be poorer than the others'.
    whole = len(labels) // BATCH * BATCH
    batches, total = torch.randperm(len(labels), generator=random)[:whole].reshape(-1, BATCH), 0.0
    for batch in batches:
        images = augment(data.images(large[batch]), random).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(at.network(images), labels[batch], label_smoothing=SMOOTHING)
        at.optimiser.zero_grad()
        torch.autograd.backward(loss)
        at.optimiser.step()
        at.schedule.step()
        step = at.schedule.last_epoch
        follow(at.average, at.network, min(AVERAGE, step / (step + 10)))
        total += float(loss.detach())
    return total / len(batches)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """The average goes a step towards the network; far, where ``decay`` is small."""
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)


@torch.no_grad()
def accuracy(network: MobileViTv2, pictures: data.Pictures) -> float:
    """Top-1."""
    right = 0
    for start in range(0, len(pictures.labels), 500):
        some = pictures[start : start + 500]
        right += int((network(data.inputs(some.pixels)).argmax(1) == some.classes()).sum())
    return right / len(pictures.labels)


def train(at: Learner, epochs: int, folder: Path) -> Iterator[dict[str, float]]:
    """From the last checkpoint in ``folder`` to the end; after each epoch its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, figures = folder / "checkpoint.pt", []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        figures = state.pop("figures")
        at.load(state)
    pictures, validation = data.load("training"), data.load("validation")
    large, labels = data.enlarge(pictures.pixels), pictures.classes()
    for epoch in range(len(figures), epochs):
        start = time.perf_counter()
        loss = train_epoch(at, large, labels, epoch)
        figures.append({
            "epoch": epoch + 1,
            "loss": round(loss, 4),
            "validation": round(accuracy(at.average, validation), 4),
            "seconds": round(time.perf_counter() - start, 1),
        })  # fmt: skip
        content = io.BytesIO()
        torch.save(at.state() | {"figures": figures}, content)
        files.write(checkpoint, content.getvalue())
        yield figures[-1]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the fashion sample.")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--folder", type=Path, default=Path("build/fashion"), help="of checkpoint and curve")
    options = parser.parse_args(arguments)
    # Sums over another number of threads round differently, and give other weights.
    torch.set_num_threads(THREADS)
    at = learner(options.epochs * (len(data.load("training").labels) // BATCH))
    for figures in train(at, options.epochs, options.folder):
        print(figures, flush=True)
    _halves.write(at.average, options.out)

    held_out = data.load("held_out")
    print(f"held-out: {accuracy(trained(options.out), held_out):.2%} of {len(held_out.labels)}")
    print(f"{THREADS} thread, torch {torch.__version__}; {options.out} has {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
