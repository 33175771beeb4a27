"""Train the digits sample: ``python -m edgeattn.sample_models.digits.train`` writes weights.safetensors and prints its
figures.

The weights are those of the last step: the held-out digits choose nothing.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from edgeattn.sample_models.digits import WEIGHTS, data, model
from edgeattn.sample_models.mobilevitv2 import MobileViTv2
from edgeattn.system import files

EPOCHS, BATCH, RATE, DECAY, SMOOTHING = 40, 64, 4e-3, 0.05, 0.1
# The largest rotation (radians), shift (in half sides of the picture) and zoom of an image, in both directions.
ROTATION, SHIFT, ZOOM = 0.2, 0.15, 0.1
SEED, THREADS = 0, 2


def augment(images: Tensor) -> Tensor:
    """[n, 3, H, W] -> the same, each image rotated, shifted and zoomed a little, at random; the border is black."""
    turn, x, y, zoom = (torch.rand(4, len(images)) * 2 - 1) * torch.tensor([ROTATION, SHIFT, SHIFT, ZOOM])[:, None]
    cos, sin = torch.cos(turn) * (1 + zoom), torch.sin(turn) * (1 + zoom)
    matrix = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train(part: data.Part, *, epochs: int = EPOCHS) -> MobileViTv2:
    """A model trained on ``part`` with AdamW and one cycle of the learning rate, repeatable by its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = model().train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
        # The last, smaller batch is left out: its BatchNorm statistics would be poorer than the others'.
        whole = len(part.labels) // BATCH * BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * whole // BATCH)
        for _ in range(epochs):
            for batch in torch.randperm(len(part.labels))[:whole].reshape(-1, BATCH):
                logits = network(augment(part.images[batch]))
                loss = F.cross_entropy(logits, part.labels[batch], label_smoothing=SMOOTHING)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
    return network.eval()


def predictions(network: MobileViTv2, images: Tensor) -> Tensor:
    """The digit [n] that the model reads in each image."""
    with torch.no_grad():
        logits: Tensor = network(images)
    return logits.argmax(1)


def write(network: MobileViTv2, path: Path) -> None:
    """Save the weights, whole or not at all."""
    files.write(path, save(network.state_dict()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the digits sample.")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args(arguments)
    # Sums over another number of threads round differently, and give other weights.
    torch.set_num_threads(THREADS)
    training, held_out = data.load("training"), data.load("held_out")
    start = time.perf_counter()
    network = train(training, epochs=options.epochs)
    seconds = time.perf_counter() - start
    write(network, options.out)

    for name, part in (("training", training), ("held-out", held_out)):
        right = int((predictions(network, part.images) == part.labels).sum())
        print(f"{name}: {right} of {len(part.labels)} right, {right / len(part.labels):.2%}")
    predicted = predictions(network, held_out.images)
    for index, label, digit in zip(held_out.indices, held_out.labels, predicted, strict=True):
        if label != digit:
            print(f"  digit {int(index)} of scikit-learn's: {int(label)} read as {int(digit)}")
    size = options.out.stat().st_size
    print(f"{seconds:.0f} s on {THREADS} threads, torch {torch.__version__}; {options.out} has {size:,} bytes")


if __name__ == "__main__":
    main()
