"""Where a graph has a SiLU, x * sigmoid(x): as one operator, or as two."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_SIGMOIDS = ("sigmoid", "logistic")


@dataclass(frozen=True)
class Step:
    """An operator: its kind, the names of the tensors that it reads, and of the first one that it gives."""

    kind: str
    inputs: tuple[str, ...]
    output: str


def parts_of_silu(steps: Iterable[Step]) -> set[str]:
    """What sigmoids give, and products of a tensor with its own sigmoid."""
    sigmoids: dict[str, str] = {}
    products: dict[str, tuple[str, ...]] = {}
    for step in steps:
        if step.kind.lower() in _SIGMOIDS:
            sigmoids[step.output] = step.inputs[0]
        elif step.kind.lower() == "mul":
            products[step.output] = step.inputs

    def is_silu(one: str, other: str) -> bool:
        return sigmoids.get(one) == other or sigmoids.get(other) == one

    return sigmoids.keys() | {output for output, inputs in products.items() if is_silu(*inputs)}


def read_by_silu_alone(steps: Iterable[Step], outputs: Collection[str]) -> set[str]:
    """Names of tensors that go into a SiLU, be it one operator or a product with the sigmoid, and nowhere else.

    ``outputs`` are those of the graph.
    """
    readers: defaultdict[str, list[Step]] = defaultdict(list)
    for step in steps:
        for name in set(step.inputs):
            readers[name].append(step)

    def is_silu(found: list[Step]) -> bool:
        kinds = {step.kind.lower(): step for step in found}
        sigmoid = next((kinds[kind] for kind in _SIGMOIDS if kind in kinds), None)
        if len(found) == 1:
            return "silu" in kinds
        return len(found) == 2 and sigmoid is not None and "mul" in kinds and sigmoid.output in kinds["mul"].inputs

    return {name for name, found in readers.items() if is_silu(found)} - set(outputs)
