"""Where does an error begin? Pure functions over the values inside a module and inside the artifact made from it.

A *layer* here is one value that a lowered module computes on its example input, kept as a sample of its elements: in
float64, the oracle, and in float32, whose own error is the noise floor. The tensor of an artifact that holds the same
value is matched by its elements, because no format keeps all of PyTorch's names.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from edgeattn.parity.metrics import Array, Comparison, compare, relative_error

Positions = npt.NDArray[np.integer]

# Enough for stable statistics of a layer, little enough to keep hundreds of layers in a few megabytes.
SAMPLE_MIN, SAMPLE_MAX = 512, 2048
# A tensor that is further off than this is another value, and not the same value with an error.
SAME_VALUE = 1e-3
# The order of a value's axes in an artifact: the same, or with the channels moved.
ORDERS = ("same", "channels_last", "channels_first")


@dataclass(frozen=True)
class Layer:
    """One value of a lowered module.

    Args:
        name: the module's path, or ``PATH.function()`` for what a module computes without a submodule.
        op: the module's class, or the function.
        source: the line that computes it, ``FILE:LINE CODE``.
        inputs: the layers that it is computed from, by their numbers.
        shape: of the whole value.
        positions: the sampled elements, in the value's own order.
        oracle: these elements in float64.
        reference: the same in float32.
    """

    name: str
    op: str
    source: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    positions: Positions
    oracle: Array
    reference: Array


@dataclass(frozen=True)
class Match:
    """The tensor of an artifact that holds a layer's value, and one of :data:`ORDERS`."""

    tensor: str
    order: str


def sample(shape: tuple[int, ...]) -> Positions:
    """Positions in a flattened array of ``shape``; the same ones every time.

    Every channel is sampled, whichever axis the channels are: the positions are a Latin hypercube, which visits each
    index of an axis equally often, about 4 times up to a length of 512, at least once up to 2,048.
    """
    count = int(np.clip(4 * max(shape, default=1), SAMPLE_MIN, SAMPLE_MAX))
    if prod(shape) <= count:
        return np.arange(prod(shape), dtype=np.int32)
    random = np.random.default_rng(0)
    axes = tuple(random.permutation(np.resize(random.permutation(n), count)) for n in shape)
    return np.unique(np.ravel_multi_index(axes, shape)).astype(np.int32)


def is_consistent(layer: Layer) -> bool:
    """Whether the samples fit the shape, one in each precision: a file may hold anything."""
    positions, size = layer.positions, prod(layer.shape)
    same_shape = positions.shape == layer.oracle.shape == layer.reference.shape and positions.ndim == 1
    inside = positions.dtype.kind in "iu" and bool(((positions >= 0) & (positions < size)).all())
    return same_shape and inside and all(isinstance(n, int) and n >= 0 for n in layer.shape)


def positions_in(layer: Layer, order: str) -> Positions:
    """The sampled positions in a flattened array that holds the layer in ``order``."""
    if order == "same" or len(layer.shape) < 3:
        return layer.positions
    axes = list(range(len(layer.shape)))
    axes = [axes[0], *axes[2:], 1] if order == "channels_last" else [axes[0], axes[-1], *axes[1:-1]]
    indices = np.unravel_index(layer.positions, layer.shape)
    positions: Positions = np.ravel_multi_index(tuple(indices[a] for a in axes), tuple(layer.shape[a] for a in axes))
    return positions


def judge(layer: Layer, match: Match, value: Array, precision: str) -> Comparison:
    """Compare the whole tensor ``value`` of an artifact with the layer, in units of the layer's own noise floor."""
    if value.size != prod(layer.shape):
        return Comparison.failure(f"{value.size} elements instead of {prod(layer.shape)}")
    candidate = value.reshape(-1)[positions_in(layer, match.order)].astype(layer.reference.dtype)
    return compare(oracle=layer.oracle, reference=layer.reference, candidate=candidate, precision=precision)


class Matcher:
    """Matches each layer with a tensor of an artifact; tensors are added once, in the order of execution."""

    def __init__(self, layers: Sequence[Layer], precision: str) -> None:
        self._layers, self._precision = layers, precision
        self._best: dict[str, tuple[float, Match, bool]] = {}
        self._by_size: dict[int, list[tuple[Layer, dict[str, Positions]]]] = {}
        for layer in layers:
            orders = {bytes(positions_in(layer, order)): order for order in reversed(ORDERS)}  # the first of equal ones
            positions = {order: positions_in(layer, order) for order in orders.values()}
            self._by_size.setdefault(prod(layer.shape), []).append((layer, positions))

    def add(self, tensor: str, value: Array) -> None:
        if not np.issubdtype(value.dtype, np.floating):
            return
        flat = value.reshape(-1)
        for layer, positions_by_order in self._by_size.get(value.size, ()):
            for order, positions in positions_by_order.items():
                error = relative_error(reference=layer.oracle, candidate=flat[positions])
                # Strictly better only: of a value and its reshaped copies the first counts.
                if error <= SAME_VALUE and error < self._best.get(layer.name, (np.inf,))[0]:
                    match = Match(tensor, order)
                    within = judge(layer, match, value, self._precision).passed
                    self._best[layer.name] = (error, match, within)

    def matches(self) -> dict[str, Match]:
        """By layer. If the outputs pass, a value that is off by more than its noise is another value that happens to be
        near; if they fail, it may be where the error begins."""
        sound = all(self._best.get(n, (0, 0, False))[2] for n in outputs(self._layers))
        return {name: match for name, (_, match, within) in self._best.items() if within or not sound}


def outputs(layers: Sequence[Layer]) -> tuple[str, ...]:
    """The names of the layers that are the module's outputs."""
    return tuple(layer.name for layer in layers if layer.op == "output")


@dataclass(frozen=True)
class Sources:
    """What a layer is computed from: the nearest layers that a tensor matches, and those between that none does."""

    matched: tuple[str, ...]
    unmatched: tuple[str, ...]


def sources(layers: Sequence[Layer], name: str, matched: Container[str]) -> Sources:
    """The :class:`Sources` of the layer ``name``, given the names of the matched ones."""
    numbers = {layer.name: i for i, layer in enumerate(layers)}
    reached, queue = set[int](), [numbers[name]]
    while queue:
        for i in set(layers[queue.pop()].inputs) - reached:
            reached.add(i)
            if layers[i].name not in matched:
                queue.append(i)
    names = [layers[i].name for i in sorted(reached)]
    return Sources(tuple(n for n in names if n in matched), tuple(n for n in names if n not in matched))


def reaching_outputs(layers: Sequence[Layer], over: Container[str], matched: Container[str]) -> frozenset[str]:
    """The layers ``over`` their limit whose error reaches an output that is over its limit: no layer on the path is
    within its limit.

    The floor of a value of few elements is a matter of chance: the mean of a million values, summed in another order,
    may be off by a thousand times PyTorch's error, and still be nothing beside the values that it is subtracted from.
    """
    reached: set[str] = set()
    queue = [name for name in outputs(layers) if name in over]
    while queue:
        reached.add(name := queue.pop())
        queue += [n for n in sources(layers, name, matched).matched if n in over and n not in reached]
    return frozenset(reached)


def lost(layers: Sequence[Layer], matches: Container[str]) -> tuple[str, ...]:
    """Where the values of an artifact with wrong outputs leave the module's: the unmatched layers whose sources
    all match, with no matched layer between them and such an output."""
    first: set[str] = set()
    for output in outputs(layers):
        if output not in matches:
            path = {output, *sources(layers, output, matches).unmatched}
            first |= {name for name in path if not sources(layers, name, matches).unmatched}
    return tuple(layer.name for layer in layers if layer.name in first)
