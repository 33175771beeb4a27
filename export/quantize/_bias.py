"""Bias correction: subtracts from a bias the shift of the mean output that rounding the weights to eight bits causes.

The rounding error of a weight is fixed, and its input has a nonzero mean (SiLU's output is seldom negative). So the
errors of weights do not average out over the pixels, as those of activations do: a mean over the map, or a context sum,
preserves them (Nagel et al., arXiv 1906.04721, section 4.2).
"""

import copy
from collections.abc import Collection, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.lowering.observe import watching


def rounded(weight: Tensor, levels: int = 127) -> Tensor:
    """[out, ...] -> [out, ...]: each output channel rounded to ``levels`` steps on either side of zero."""
    scale = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-30) / levels
    scale = scale.reshape(-1, *[1] * (weight.dim() - 1))
    return torch.round(weight.detach() / scale) * scale


def correct_biases(module: nn.Module, inputs: Iterable[tuple[Tensor, ...]], own: Collection[str] = ()) -> nn.Module:
    """A copy of ``module`` whose layers, with rounded weights, have the mean outputs of the original.

    Args:
        module: in evaluation mode; its convolutions and linear layers are corrected.
        inputs: the positional inputs of a calibration set.
        own: paths of the layers whose biases stay as they are, since their weights are not rounded.
    """
    result = copy.deepcopy(module)
    shifts: dict[str, list[Tensor]] = {}
    layers: dict[str, nn.Conv2d | nn.Linear] = {}

    def record(path: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not isinstance(layer, nn.Conv2d | nn.Linear) or path in own:
            return
        (x,), layers[path] = inputs, layer
        error = layer.weight - rounded(layer.weight)
        if isinstance(layer, nn.Linear):
            shift = F.linear(x, error).flatten(0, -2).mean(0)
        else:
            y = F.conv2d(x, error, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            shift = y.mean(dim=(0, 2, 3))
        shifts.setdefault(path, []).append(shift)

    with watching(result, record), torch.no_grad():
        for args in inputs:
            result(*args)
    for path, layer_shifts in shifts.items():
        shift, layer = torch.stack(layer_shifts).mean(0), layers[path]
        layer.bias = nn.Parameter(shift if layer.bias is None else layer.bias.detach() + shift, requires_grad=False)
    return result
