"""A form for runtimes that also add in fp16, as XNNPACK does on ARM: the same function, with digits and range kept.

fp16 has 11 bits and ends at 65,504. A sum of K products that is added one by one loses about sqrt(K / 6) half units in
its last place; in parts of k, sqrt(k / 6) and the few additions of the parts. A square is beyond the range from 256 on.
"""

import copy

import torch
from torch import Tensor, nn

from edgeattn.lowering.forms import normalise_half, normalise_last
from edgeattn.lowering.map_forms import NormaliseMap
from edgeattn.lowering.projections import conv, is_pointwise, linear, put

# Sums of LONG terms or more are added in parts of PART. Measured on MobileViTv2-1.0: docs/precisions.md.
LONG, PART = 256, 64


class SummedInParts(nn.Module):
    """A linear layer, or a 1x1 convolution, whose sum over the input channels is added part by part."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        is_linear = isinstance(layer, nn.Linear)
        self.axis, make = (-1, linear) if is_linear else (1, conv)
        matrices = torch.split(layer.weight.detach().flatten(1), PART, dim=1)
        biases = [layer.bias, *[None] * (len(matrices) - 1)]
        self.parts = nn.ModuleList(make(matrix, bias) for matrix, bias in zip(matrices, biases, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """The output of the layer."""
        # Slices, and no split, which ExecuTorch's XNNPACK lacks.
        pieces = [
            x.narrow(self.axis, at, min(PART, x.shape[self.axis] - at)) for at in range(0, x.shape[self.axis], PART)
        ]
        result: Tensor = self.parts[0](pieces[0])
        for part, piece in zip(self.parts[1:], pieces[1:], strict=True):
            result = result + part(piece)
        return result


def for_half(module: nn.Module) -> nn.Module:
    """A copy of a lowered ``module``: long sums in parts, and norms over values that are scaled to 1 first.

    Args:
        module: in evaluation mode.
    """
    result = copy.deepcopy(module)
    for path, part in list(result.named_modules()):
        if getattr(part, "normalise", None) is normalise_last:
            part.normalise = normalise_half
        if isinstance(part, NormaliseMap):
            part.halves = True
        if isinstance(part, nn.Linear | nn.Conv2d) and _is_long(part):
            put(result, path, SummedInParts(part))
    return result.eval()


def _is_long(layer: nn.Linear | nn.Conv2d) -> bool:
    if isinstance(layer, nn.Linear):
        return layer.in_features >= LONG
    return layer.in_channels >= LONG and is_pointwise(layer)
