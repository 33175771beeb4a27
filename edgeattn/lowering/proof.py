"""Proof by computation: the values of every operator in float64, on the example and on random inputs.

A rewrite is made only if what it puts in has the values of what it takes out, on both.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgeattn.lowering.ops import Op

# Of the largest value; float64 rounds at 1e-16, and a sum of thousands of terms loses three more digits.
LIMIT = 1e-10


def equal(expected: Any, found: Any, limit: float = LIMIT) -> bool:
    """Whether two values, or two lists of them, are the same function's, up to float64's rounding."""
    if isinstance(expected, list | tuple):
        return len(expected) == len(found) and all(
            equal(a, b, limit) for a, b in zip(expected, found, strict=True) if a is not None and b is not None
        )
    if not isinstance(expected, Tensor) or not isinstance(found, Tensor):
        return bool(expected == found)
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    if not expected.is_floating_point():
        return torch.equal(expected, found)
    if not expected.numel():
        return True
    finite = torch.isfinite(expected)
    if not torch.equal(finite, torch.isfinite(found)):
        return False
    largest = float(expected[finite].abs().max()) if bool(finite.any()) else 0.0
    difference = (expected - found)[finite].abs()
    return not difference.numel() or float(difference.max()) <= limit * largest + 1e-290


class Values:
    """The values of the nodes of a graph, and of the operators made from them, on several sets of inputs."""

    def __init__(self, graph: fx.GraphModule, inputs: Sequence[Sequence[Tensor]]) -> None:
        self.number = len(inputs)
        self._values: dict[Hashable, list[Any]] = {}
        with torch.no_grad():
            for example in inputs:
                for node, value in _run(graph, example).items():
                    self._values.setdefault(node, []).append(value)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def of(self, key: Hashable) -> list[Any]:
        """The value on each set of inputs."""
        return self._values[key]

    def set(self, key: Hashable, values: list[Any]) -> None:
        self._values[key] = values

    def forget(self, key: Hashable) -> None:
        self._values.pop(key, None)

    def compute(self, op: Op) -> list[Any]:
        """The values of an operator, from those of its inputs."""
        with torch.no_grad():
            values = [op.evaluate(*(self.of(x)[i] for x in op.inputs)) for i in range(self.number)]
        self._values[op] = values
        return values


def _run(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> dict[fx.Node, Any]:
    interpreter = fx.Interpreter(graph, garbage_collect_values=False)
    interpreter.run(*inputs)
    return dict(interpreter.env)


def doubled(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Inputs in float64; integers stay as they are."""
    return [x.double() if x.is_floating_point() else x for x in inputs]


def random_like(inputs: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """Inputs of the same shapes and spread; integers stay as they are, since not every one may be valid."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        spread = float(x.std()) if x.numel() > 1 else 0.0
        return torch.randn(x.shape, generator=generator, dtype=x.dtype) * (spread or 1.0) + x.mean()

    return [drawn(x) for x in inputs]
