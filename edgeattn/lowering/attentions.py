"""The separable attention layers of a network, and their scores on other inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeattn.lowering.axes import Group, flat, leaves, size, sizes
from edgeattn.lowering.network import Network, origin
from edgeattn.lowering.ops import Input, Op, Opaque, Softmax, aligned
from edgeattn.lowering.passes.attention import is_separable
from edgeattn.lowering.proof import doubled
from edgeattn.lowering.rewrite import Understood, of_two


@dataclass(frozen=True)
class Scores:
    """The scores of one layer, named by the path of its module.

    Args:
        path: the module's; unique.
        logits: before the softmax, in any order.
        weights: behind it: [h, w] over the map that the layer sees, for the first sample and the first query channel;
            None where that map is not known.
    """

    path: str
    logits: Tensor
    weights: Tensor | None


def scores(understood: Understood, inputs: Sequence[Tensor]) -> list[Scores]:
    """The scores of every separable attention of a network, in the order of computation; none if there is none."""
    if understood.graph is None:
        return []
    network, _ = understood.network()
    if understood.dynamic_batch:
        inputs = of_two(inputs)
    found = [op for op in network.ops if isinstance(op, Softmax) and is_separable(network, op)]
    if not found:
        return []
    values = _run(network, inputs, found)
    result: list[Scores] = []
    for op in found:
        path, taken = origin(op)[0], {s.path for s in result}
        number = 1
        while (unique := path if number == 1 else f"{path} #{number}") in taken:
            number += 1
        result.append(Scores(unique, values[op.inputs[0]], _map(network, op, values[op])))
    return result


def _run(network: Network, inputs: Sequence[Tensor], wanted: Sequence[Op]) -> dict[Op, Tensor]:
    """The values of some operators, and of all before them."""
    needed: set[Op] = set()
    stack = list(wanted)
    while stack:
        op = stack.pop()
        if op not in needed:
            needed.add(op)
            stack += op.inputs
    values: dict[Op, Tensor] = {}
    exact = doubled(inputs)
    with torch.no_grad():
        for op in network.ops:
            if op in needed:
                if isinstance(op, Input):
                    values[op] = exact[op.number].reshape(sizes(op.axes))
                else:
                    values[op] = op.evaluate(*(values[x] for x in op.inputs))
    return values


def _map(network: Network, op: Softmax, value: Tensor) -> Tensor | None:
    """The weights over the map [B, C, H, W] that they are computed from."""
    for source in network.ops:
        if not isinstance(source, Opaque) or not source.is_map:
            continue
        places: Group = leaves(flat(source.dims[2:]))
        if set(leaves(op.over)) <= set(places) <= set(op.axes):
            rest = [axis for axis in op.axes if axis not in places]
            ordered = aligned(value, op.axes, [*rest, *places]).reshape(-1, size(places))
            return ordered[0].reshape(*(size(leaves(group)) for group in source.dims[2:]))
    return None
