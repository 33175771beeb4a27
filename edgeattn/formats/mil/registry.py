"""The ops of ML programs by name. One op is one small function, its parameters named as MIL names them.

An op computes on tensors in fp32 (on integers and booleans exactly) and does not round: its result is rounded to the
declared type by ``edgeattn.formats.mil.program``. Optional parameters have MIL's own defaults.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])

OPS: dict[str, Callable[..., Any]] = {}


def op(function: Function) -> Function:
    """Register ``function`` under its own name, which is the op's."""
    return named(function.__name__)(function)


def named(name: str) -> Callable[[Function], Function]:
    """Register under another name: MIL's, where that is a built-in of Python."""

    def register(function: Function) -> Function:
        OPS[name] = function
        return function

    return register


def ints(values: Tensor) -> list[int]:
    """A small integer tensor of parameters (axes, sizes) as Python numbers."""
    return [int(v) for v in values.flatten().tolist()]


def axes_of(axes: Tensor | None, rank: int) -> list[int]:
    """Axes as non-negative numbers; all axes for None."""
    return list(range(rank)) if axes is None else [axis % rank for axis in ints(axes)]
