"""Train the scenes sample: ``python -m edgeattn.sample_models.scenes.train`` writes weights.safetensors.

It begins with the weights of the fashion sample. Every epoch has scenes of its own; the held-out ones are drawn once,
at the end.
"""

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from edgeattn.sample_models import _halves, fashion
from edgeattn.sample_models.fashion import data as clothes
from edgeattn.sample_models.fashion.train import follow
from edgeattn.sample_models.scenes import HELD_OUT_SEED, WEIGHTS, data, trained
from edgeattn.sample_models.scenes.model import Segmenter

EPOCHS, SCENES, BATCH, RATE, DECAY = 16, 2048, 32, 2e-3, 0.02
# Of the average of the weights, each step.
AVERAGE = 0.98
SEED, THREADS = 100, 1


def train(pictures: clothes.Pictures, epochs: int = EPOCHS, scenes: int = SCENES) -> Segmenter:
    """A network trained on scenes of these garments, repeatable by its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = Segmenter().train()
        of_backbone = fashion.trained().state_dict()
    network.backbone.load_state_dict({n: x for n, x in of_backbone.items() if not n.startswith("classifier.")})
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * (scenes // BATCH))
    average = copy.deepcopy(network).eval()
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        drawn = data.draw(scenes, pictures, SEED + epoch)
        for first in range(0, scenes // BATCH * BATCH, BATCH):
            some = slice(first, first + BATCH)
            images = clothes.images(drawn.images[some]).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(images), drawn.classes[some].long())
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            follow(average, network, min(AVERAGE, schedule.last_epoch / (schedule.last_epoch + 10)))
            total += float(loss.detach())
        print(
            f"epoch {epoch + 1}: loss {total / (scenes // BATCH):.4f}, {time.perf_counter() - start:.0f} s", flush=True
        )
    return average


@torch.no_grad()
def miou(network: Segmenter, scenes: data.Scenes) -> float:
    """The mean over classes of intersection over union."""
    number = len(data.LABELS)
    answers = torch.cat([network(clothes.images(image[None])).argmax(1) for image in scenes.images])
    counts = torch.bincount((scenes.classes.long() * number + answers).flatten(), minlength=number**2)
    table = counts.reshape(number, number)
    return float((table.diag() / (table.sum(0) + table.sum(1) - table.diag())).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the scenes sample.")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    _halves.write(train(clothes.load("training"), options.epochs), options.out)
    held_out = data.draw(100, clothes.carried("held_out"), HELD_OUT_SEED)
    print(f"held-out: mIoU {miou(trained(options.out), held_out):.2%} on {len(held_out.images)} scenes")
    print(f"{THREADS} thread, torch {torch.__version__}; {options.out} has {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
