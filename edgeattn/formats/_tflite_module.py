"""A module as litert-torch converts it best: with named inputs and outputs, and its means channels-last."""

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def is_spatial_mean(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether this call is the mean over H and W of a [B, C, H, W], with or without keeping the axes."""
    if not (args and isinstance(args[0], Tensor) and args[0].dim() == 4):
        return False
    name = getattr(func, "__name__", "")
    if name == "adaptive_avg_pool2d":
        size = args[1] if len(args) > 1 else kwargs.get("output_size")
        return size in (1, (1, 1), [1, 1])
    if name != "mean" or set(kwargs) - {"dim", "keepdim"}:
        return False
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    return isinstance(dims, tuple | list) and sorted(d % 4 for d in dims) == [2, 3]


def with_dense_tensors(module: nn.Module) -> nn.Module:
    """The module, of which a copy is changed where a tensor does not lie in the order of its dimensions.

    litert-torch 0.10 takes two such tensors of one shape for the same constant, whatever their values.
    """
    if all(tensor.is_contiguous() for part in module.modules() for tensor in _tensors(part).values()):
        return module
    module = copy.deepcopy(module)
    for part in module.modules():
        for name, tensor in _tensors(part).items():
            if not tensor.is_contiguous():
                if name in part.__dict__:
                    setattr(part, name, tensor.detach().contiguous())
                else:
                    tensor.data = tensor.data.contiguous()
    return module


def _tensors(part: nn.Module) -> dict[str, Tensor]:
    """The parameters, buffers and plain attributes of one module that are tensors."""
    own = {**dict(part.named_parameters(recurse=False)), **dict(part.named_buffers(recurse=False)), **part.__dict__}
    return {name: value for name, value in own.items() if isinstance(value, Tensor)}


class _SpatialMeans(TorchFunctionMode):
    """Writes the mean over a map channels-last, keeping its axes: the converter transposes before any other mean."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if is_spatial_mean(func, args, kwargs):
            return args[0].permute(0, 2, 3, 1).mean(dim=(1, 2), keepdim=True).reshape(result.shape)
        return result


class NamedSignature(nn.Module):
    """The converter takes the names of a signature from keyword arguments and from the keys of a dict."""

    def __init__(self, module: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.outputs = module, outputs

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        with _SpatialMeans():
            result = self.module(*inputs.values())
        values = (result,) if isinstance(result, Tensor) else tuple(result)
        return dict(zip(self.outputs, values, strict=True))
