"""The layout of a module's inputs and outputs, if it is not the layout inside."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class ChannelsFirstEdges(nn.Module):
    """Channels-first outside, channels-last inside: one transpose for each tensor of rank 4."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return _outputs(self.inner(*(to_channels_last(x) for x in inputs)), to_channels_first)


class ChannelsLastEdges(nn.Module):
    """Channels-last outside, channels-first inside: one transpose for each tensor of rank 4."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return _outputs(self.inner(*(to_channels_first(x) for x in inputs)), to_channels_last)


def to_channels_last(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H, W, C]; other ranks have no layout and stay."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


def to_channels_first(x: Tensor) -> Tensor:
    """[B, H, W, C] -> [B, C, H, W]; other ranks have no layout and stay."""
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def _outputs(result: Any, change: Callable[[Tensor], Tensor]) -> Tensor | tuple[Tensor, ...]:
    if isinstance(result, Tensor):
        return change(result)
    return tuple(change(value) for value in (result.values() if isinstance(result, dict) else result))
