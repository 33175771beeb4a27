"""A module as litert-torch converts it best: with named inputs and outputs, and its means channels-last."""

from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgeattn.lowering import is_spatial_mean


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
