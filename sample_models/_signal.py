"""Random weights that carry a signal from the input to the output, as trained ones do."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def settle(model: nn.Module, image_size: int, *, pictures: int = 2) -> None:
    """Give random weights the two properties of trained ones that keep an error small on its way through.

    BatchNorms get the statistics of some pictures (without them the signal dies out), and depthwise kernels are
    positive, like a blur: with random signs they take edges of edges, and 1 % of noise behind the stem becomes 20 %
    of the logits, where the trained digits sample makes 0.1 % of it. In float64: the weights do not depend on threads.

    Args:
        model: in place; it is left in training mode.
        image_size: side of the pictures [pictures, 3, image_size, image_size].
        pictures: their number; a BatchNorm behind a global mean sees as many values of each channel, and no more.
    """
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.Conv2d) and part.groups > 1:
                part.weight.abs_()
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = None  # the mean over all batches: here a single one
        model.double().train()(_pictures(pictures, image_size))
        model.float()


def _pictures(number: int, side: int) -> Tensor:
    """[number, 3, side, side] of smooth noise from about -1 to 1: half as strong in each octave, as photographs are."""
    octaves = [2**n for n in range(1, side.bit_length()) if 2**n <= side] or [1]
    waves = (torch.randn(number, 3, n, n, dtype=torch.float64) / n**0.5 for n in octaves)
    return sum((F.interpolate(wave, size=(side, side), mode="bilinear") for wave in waves), torch.zeros(())) / 2
