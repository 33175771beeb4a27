"""1x1 projections: made from weights, as constants, and recognised. The building blocks of every rewrite."""

import torch
from torch import Tensor, nn


def conv(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A 1x1 convolution from weight [out, in] and bias [out]."""
    projection = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=bias is not None)
    projection.weight = constant(weight[:, :, None, None])
    if bias is not None:
        projection.bias = constant(bias)
    return projection


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer from weight [out, in] and bias [out]."""
    projection = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    projection.weight = constant(weight)
    if bias is not None:
        projection.bias = constant(bias)
    return projection


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Whether it is a 1x1 convolution over all channels, with neither stride nor padding."""
    return conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding in ((0, 0), 0) and conv.groups == 1


def constant(value: Tensor) -> nn.Parameter:
    """A copy that is never trained, and lies in the order of its dimensions."""
    return nn.Parameter(value.detach().clone(memory_format=torch.contiguous_format), requires_grad=False)


def put(root: nn.Module, path: str, part: nn.Module) -> None:
    """Replace the module at ``path`` by ``part``."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, part)
