"""Random inputs that two artifacts both take: their sizes, layouts, types and steps, from what they declare.

An input is drawn once, as values that both can hold, and given to each in its own form.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError
from edgeattn.formats.graph import Graph, Op
from edgeattn.layout import Layout
from edgeattn.parity.battery import SEED
from edgeattn.parity.metrics import Array

# Axes of the first artifact, in the order of the second.
Order = tuple[int, ...]
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
# Integers of an input that no table is looked up by, and passes over a table's rows, at most.
_FEW_INTEGERS, _MOST_PASSES = 100, 64


@dataclass(frozen=True)
class Edge:
    """An input or output of an artifact.

    ``layout`` is the layout of its four axes where the artifact's bundle says it; ``shape`` has None for a free axis.
    Where ``scale`` is set it holds steps, and a value is ``scale * (step - zero_point)``.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    layout: str | None = None
    scale: float | None = None
    zero_point: int = 0

    @property
    def kind(self) -> str:
        """float (steps too), integer or bool."""
        if self.scale is not None or self.dtype.startswith("float"):
            return "float"
        return "bool" if self.dtype == "bool" else "integer" if "int" in self.dtype else self.dtype


@dataclass(frozen=True)
class Side:
    """One of the two artifacts: its name for a message, its edges, and the layout that its format usually has."""

    name: str
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    layout: Layout


@dataclass(frozen=True)
class Pair:
    """An input of both artifacts, with its size in the first, and its axes in the order of the second."""

    first: Edge
    second: Edge
    shape: tuple[int, ...]
    order: Order


def pairs(a: Side, b: Side, sizes: Mapping[str, tuple[int, ...]]) -> tuple[Pair, ...]:
    """The inputs of ``a``, each with that of ``b``: of the same name, or the only one of each.

    Args:
        sizes: of inputs with free axes, by their names in ``a``, in its layout.

    Raises:
        BadInputError: they do not take the same inputs, an axis is free in both and has no size, or a layout cannot
            be told.
    """
    seconds = _by_name(a, b, a.inputs, b.inputs, "takes")
    for name in sizes:
        if name not in seconds:
            raise BadInputError(f"--shape {name}: there is no such input; {a.name} takes {', '.join(seconds)}")
    return tuple(_pair(a, b, first, seconds[first.name], sizes.get(first.name)) for first in a.inputs)


def output_names(a: Side, b: Side) -> dict[str, str]:
    """The outputs of ``b`` by those of ``a``, as :func:`pairs`.

    Raises:
        BadInputError: they do not give the same outputs.
    """
    return {first: second.name for first, second in _by_name(a, b, a.outputs, b.outputs, "gives").items()}


def _by_name(a: Side, b: Side, first: Sequence[Edge], second: Sequence[Edge], verb: str) -> dict[str, Edge]:
    if len(first) == len(second) == 1:
        return {first[0].name: second[0]}
    by_name = {edge.name: edge for edge in second}
    if {edge.name for edge in first} != by_name.keys() or len(first) != len(second):
        names = [", ".join(edge.name for edge in edges) or "nothing" for edges in (first, second)]
        raise BadInputError(f"{a.name} {verb} {names[0]}, but {b.name} {verb} {names[1]}")
    return {edge.name: by_name[edge.name] for edge in first}


def _pair(a: Side, b: Side, first: Edge, second: Edge, size: tuple[int, ...] | None) -> Pair:
    kinds = {first.kind, second.kind}
    if not kinds <= {"float", "integer", "bool"}:
        raise BadInputError(f"{a.name} takes {first.name} as {first.dtype}, and {b.name} as {second.dtype}: no numbers")
    shape = first.shape
    if size is not None:
        if not _fits(size, shape):
            raise BadInputError(f"--shape {first.name}: {a.name} takes {_text(shape)}, not {_text(size)}")
        shape = size
    order = _input_order(a, b, first, second, shape)
    # An axis that is free in one may be fixed in the other.
    other: dict[int, int | None] = dict(zip(order, second.shape, strict=True))
    full = tuple(other[axis] if n is None else n for axis, n in enumerate(shape))
    if None in full:
        example = f"{first.name}={','.join('N' if n is None else str(n) for n in full)}"
        raise BadInputError(
            f"{a.name} and {b.name} leave axes of {first.name} free, {_text(full)}: "
            f"say which size to compare them at: --shape {example}, with a number for each N"
        )
    return Pair(first, second, tuple(n for n in full if n is not None), order)


def _text(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if n is None else str(n) for n in shape)}]"


def _fits(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    return len(one) == len(other) and all(n is None or m is None or n == m for n, m in zip(one, other, strict=True))


def _input_order(a: Side, b: Side, first: Edge, second: Edge, shape: tuple[int | None, ...]) -> Order:
    order = known_order(first, second)
    if order is None:
        same = tuple(range(len(shape)))
        orders = [o for o in (same, *((TO_LAST, TO_FIRST) if len(shape) == 4 else ())) if _permuted(shape, o, second)]
        # In a cube of channels, pixels and patches any order fits. Two files of one kind of format have the same.
        if len(orders) > 1 and a.layout != b.layout and set(shape[1:]) != {1}:
            raise BadInputError(
                f"{first.name} is {_text(shape)} in {a.name} and {b.name}: the shape does not tell channels-first "
                "from channels-last; compare them where their bundle is, or at another size"
            )
        order = orders[0] if orders else None
    if order is None or not _permuted(shape, order, second):
        raise BadInputError(
            f"{b.name} takes {second.name} as {_text(second.shape)}, and {a.name} takes {first.name} as {_text(shape)}"
        )
    return order


def _permuted(shape: tuple[int | None, ...], order: Order, second: Edge) -> bool:
    return len(order) == len(second.shape) and _fits(tuple(shape[axis] for axis in order), second.shape)


def known_order(first: Edge, second: Edge) -> Order | None:
    """The order of four axes that the bundles of the two artifacts say; None if they do not."""
    if len(first.shape) != 4 or len(second.shape) != 4 or first.layout is None or second.layout is None:
        return None
    if first.layout == second.layout:
        return 0, 1, 2, 3
    return TO_LAST if second.layout == "channels_last" else TO_FIRST


def cases(inputs: Sequence[Pair], most: int) -> Iterator[tuple[str, Arrays, Arrays]]:
    """What the inputs are, and those of both artifacts, seeded: one pass, or several, in which integers go through all
    numbers below ``most``, as far as a bound of passes reaches."""
    random = np.random.default_rng(SEED)
    integers = [prod(pair.shape) for pair in inputs if _is_integer(pair)]
    passes = min(_MOST_PASSES, ceil(most / max(1, max(integers)))) if integers else 1
    what = "normal" if all({pair.first.dtype, pair.second.dtype} == {"float32"} for pair in inputs) else "random"
    for number in range(passes):
        drawn = {pair.first.name: (_drawn(pair, number, most, random), pair) for pair in inputs}
        name = f"{what}, seed {SEED}" + (f", worst of {passes} passes" if passes > 1 else "")
        first = {name: _as(value, pair.first) for name, (value, pair) in drawn.items()}
        second = {
            pair.second.name: np.ascontiguousarray(_as(value, pair.second).transpose(pair.order))
            for value, pair in drawn.values()
        }
        yield name, first, second


def _is_integer(pair: Pair) -> bool:
    """Whether one of the two takes integers, which may be rows of a table, and neither takes booleans."""
    return "integer" in (kinds := (pair.first.kind, pair.second.kind)) and "bool" not in kinds


def _drawn(pair: Pair, number: int, most: int, random: np.random.Generator) -> Array:
    """Values that both can hold, in float64 or int64."""
    edges = pair.first, pair.second
    if any(edge.kind == "bool" for edge in edges):
        return random.integers(2, size=pair.shape)
    if _is_integer(pair):
        limits = [np.iinfo(edge.dtype) for edge in edges if edge.kind == "integer"]
        low, high = max(limit.min for limit in limits), min(limit.max for limit in limits)
        if high <= 255:  # pixels, say: no index, and any value may come
            return random.integers(low, high + 1, pair.shape)
        count = prod(pair.shape)
        return random.permutation((np.arange(count) + number * count) % min(most, high)).reshape(pair.shape)
    stepped = [edge for edge in edges if edge.scale is not None]
    if not stepped:
        half = any(edge.dtype == "float16" for edge in edges)
        return random.standard_normal(pair.shape).astype(np.float16 if half else np.float32)
    # On the coarser steps of the two: eight standard deviations fill what they reach, as a calibrated range does.
    edge = max(stepped, key=lambda e: e.scale or 0)
    limit = np.iinfo(edge.dtype)
    spread = (limit.max - limit.min) / 8
    steps = np.round(random.standard_normal(pair.shape) * spread + (limit.max + limit.min) / 2)
    return (np.clip(steps, limit.min, limit.max) - edge.zero_point) * np.float64(edge.scale or 1)


def _as(value: Array, edge: Edge) -> Array:
    if edge.scale is not None:
        limits = np.iinfo(edge.dtype)
        steps = np.round(np.asarray(value, np.float64) / edge.scale) + edge.zero_point
        return np.clip(steps, limits.min, limits.max).astype(edge.dtype)
    return value.astype(edge.dtype)


def values(array: Array, edge: Edge | None) -> Array:
    """An output's values: of its steps, where it holds steps."""
    if edge is None or edge.scale is None or array.dtype != edge.dtype:
        return array
    return (array.astype(np.float64) - edge.zero_point) * edge.scale


def most_integers(*graphs: Graph) -> int:
    """One more than the largest row number of every table that an input may look up; without a table, a few."""
    tables = (_rows(op) for graph in graphs for op in graph.ops)
    return min((n for n in tables if n), default=_FEW_INTEGERS)


def _rows(op: Op) -> int:
    """The length of the table that this operator looks up by computed indices; 0 if it is none."""
    kind = op.kind.lower().replace("_", "")
    table = 1 if kind == "embeddinglookup" else 0
    if not kind.startswith(("gather", "embeddinglookup")) or len(op.inputs) < 2 or op.category == "layout":
        return 0
    shape = op.inputs[table].shape
    return shape[0] or 0 if len(shape) > 1 else 0
