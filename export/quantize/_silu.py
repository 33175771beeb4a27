"""Finds SiLU, x * sigmoid(x), in a graph: as one operator or as two."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_SIGMOIDS = ("sigmoid", "logistic")


@dataclass(frozen=True)
class Step:
    """An operator: its kind, the names of its inputs, and the name of its first output."""

    kind: str
    inputs: tuple[str, ...]
    output: str


def parts_of_silu(steps: Iterable[Step]) -> set[str]:
    """Outputs of sigmoids, and of products of a tensor with its own sigmoid."""
    sigmoids: dict[str, str] = {}
    products: dict[str, tuple[str, ...]] = {}
    for step in steps:
        if step.kind.lower() in _SIGMOIDS:
            sigmoids[step.output] = step.inputs[0]
        elif step.kind.lower() == "mul":
            products[step.output] = step.inputs

    def is_silu(a: str, b: str) -> bool:
        return sigmoids.get(a) == b or sigmoids.get(b) == a

    return sigmoids.keys() | {output for output, inputs in products.items() if is_silu(*inputs)}


def read_by_silu_alone(steps: Iterable[Step], outputs: Collection[str]) -> set[str]:
    """Names of the tensors that only a SiLU reads, as one operator or as a product with the sigmoid.

    ``outputs`` are the graph's outputs; they are read from outside.
    """
    readers: defaultdict[str, list[Step]] = defaultdict(list)
    for step in steps:
        for name in set(step.inputs):
            readers[name].append(step)

    def is_silu(steps: list[Step]) -> bool:
        kinds = {step.kind.lower(): step for step in steps}
        sigmoid = next((kinds[kind] for kind in _SIGMOIDS if kind in kinds), None)
        if len(steps) == 1:
            return "silu" in kinds
        return len(steps) == 2 and sigmoid is not None and "mul" in kinds and sigmoid.output in kinds["mul"].inputs

    return {name for name, steps in readers.items() if is_silu(steps)} - set(outputs)
