"""1x1 projections with given weights, as constants: what both layouts of every rewrite are built from."""

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


def constant(value: Tensor) -> nn.Parameter:
    """A copy that is never trained."""
    return nn.Parameter(value.detach().clone(), requires_grad=False)


def put(root: nn.Module, path: str, part: nn.Module) -> None:
    """Put ``part`` in the place of the module at ``path``."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, part)
