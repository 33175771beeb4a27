"""Bias correction: what rounding a weight to eight bits adds to a layer's mean output is taken off its bias.

Weights are rounded once and for all, and what they read has a mean (SiLU's output is seldom negative): so their errors
do not average out over the pixels as those of activations do, and a mean over the map, or a context sum, keeps them
whole (Nagel et al., arXiv 1906.04721, section 4.2).
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.lowering.observe import watching


def rounded(weight: Tensor, levels: int = 127) -> Tensor:
    """[out, ...] -> the same, each output channel rounded to ``levels`` steps on either side of zero."""
    scale = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-30) / levels
    scale = scale.reshape(-1, *[1] * (weight.dim() - 1))
    return torch.round(weight.detach() / scale) * scale


def correct_biases(module: nn.Module, inputs: Iterable[tuple[Tensor, ...]]) -> nn.Module:
    """A copy of ``module`` whose layers have, with rounded weights, the mean outputs that they have now.

    Args:
        module: in evaluation mode; its convolutions and linear layers are looked at.
        inputs: positional ones, of a calibration set.
    """
    result = copy.deepcopy(module)
    shifts: dict[str, list[Tensor]] = {}
    layers: dict[str, nn.Conv2d | nn.Linear] = {}

    def look(path: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            return
        (x,), layers[path] = inputs, layer
        lost = layer.weight - rounded(layer.weight)
        if isinstance(layer, nn.Linear):
            shift = F.linear(x, lost).flatten(0, -2).mean(0)
        else:
            y = F.conv2d(x, lost, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            shift = y.mean(dim=(0, 2, 3))
        shifts.setdefault(path, []).append(shift)

    with watching(result, look), torch.no_grad():
        for given in inputs:
            result(*given)
    for path, found in shifts.items():
        shift, layer = torch.stack(found).mean(0), layers[path]
        layer.bias = nn.Parameter(shift if layer.bias is None else layer.bias.detach() + shift, requires_grad=False)
    return result
