"""What a module does with its example inputs: which BatchNorm reads which convolution, and how large each map is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Observation:
    """By path. ``pairs`` are (convolution, BatchNorm) of one parent, each called once, the second on the first's
    output; ``sizes`` are the (H, W) of modules that were called once and gave one tensor of rank 4."""

    pairs: tuple[tuple[str, str], ...]
    sizes: dict[str, tuple[int, int]]


def observe(module: nn.Module, inputs: Sequence[Tensor]) -> Observation:
    """Run ``module`` once, without changing it."""
    calls: Counter[str] = Counter()
    made_by: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []
    sizes: dict[str, tuple[int, int]] = {}

    def after(path: str, part: nn.Module) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            calls[path] += 1
            if isinstance(output, Tensor) and output.dim() == 4:
                sizes[path] = (output.shape[2], output.shape[3])
            if type(part) is nn.BatchNorm2d and given and id(given[0]) in made_by:
                source = made_by[id(given[0])][0]
                if source.rpartition(".")[0] == path.rpartition(".")[0]:
                    pairs.append((source, path))
            if type(part) is nn.Conv2d:
                made_by[id(output)] = (path, output)  # held, so that no other tensor gets this id

        return part.register_forward_hook(hook)

    handles = [after(path, part) for path, part in module.named_modules()]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    once = {path for path, number in calls.items() if number == 1}
    return Observation(
        tuple(pair for pair in pairs if once.issuperset(pair)),
        {path: size for path, size in sizes.items() if path in once},
    )
