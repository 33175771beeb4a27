"""Reductions. Sums are kept in fp32 whatever the program's type; integers are reduced exactly."""

from collections.abc import Callable

import torch
from torch import Tensor

from edgeattn.formats.mil.registry import axes_of, named


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: torch.logsumexp(x, axes, keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_prod": _prod,
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
}
# The results of these need not be integers; MIL casts them, which truncates the fraction.
_FRACTIONS = ("reduce_l2_norm", "reduce_log_sum", "reduce_log_sum_exp", "reduce_mean")


def _register(name: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    @named(name)
    def reduce(x: Tensor, axes: Tensor | None = None, keep_dims: Tensor | bool = False) -> Tensor:
        exact = x.double() if name in _FRACTIONS and not x.is_floating_point() else x
        return function(exact, axes_of(axes, x.dim()), bool(keep_dims)).to(x.dtype)


for _name, _function in _REDUCTIONS.items():
    _register(_name, _function)


def _register_position(name: str, function: Callable[..., Tensor]) -> None:
    @named(name)
    def position(
        x: Tensor, axis: Tensor | int = -1, keep_dims: Tensor | bool = False, output_dtype: str = "int32"
    ) -> Tensor:
        return function(x, int(axis), keepdim=bool(keep_dims))


_register_position("reduce_argmax", torch.argmax)
_register_position("reduce_argmin", torch.argmin)
