"""Damage to an exported file, done on purpose: pure functions on its weights, and their list.

Each format has one file here, which edits a saved file: an :class:`Editor`.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edgeattn.system.plugins import Registry

T = TypeVar("T")
Array = npt.NDArray[np.floating]

# Kinds of Edit: changes of an operator, not of a weight.
SOFTMAX = "softmax over another axis"
RELU = "relu dropped"
SUBTRACTION = "addition became subtraction"
EPSILON = "epsilon of a norm a hundredfold"
EPSILON_FACTOR = 100


@dataclass(frozen=True)
class Weight:
    """A floating constant of a file: ``role`` is ``weight`` or ``bias``, ``axis`` the one of its output channels."""

    name: str
    value: Array
    role: str
    axis: int = 0


@dataclass(frozen=True)
class Edit:
    """A change of the operator number ``index`` of a file; ``place`` is its name for people."""

    kind: str
    index: int
    place: str


@dataclass(frozen=True)
class Mutation:
    """A change of one weight: to an array of the same shape and type, or None where it does not apply.

    ``unchanged`` says why the change can leave a weight as it is.
    """

    name: str
    role: str
    change: Callable[[Weight, np.random.Generator], Array | None]
    unchanged: str = "it stays as it is"


@dataclass(frozen=True)
class Mutant:
    """One file to make. If ``unchanged`` is set there is no file: it is the reason why the mutation changes nothing."""

    mutation: str
    place: str
    replaced: dict[str, Array] = field(default_factory=dict)
    edit: Edit | None = None
    unchanged: str = ""


def scaled(weight: Weight, _: np.random.Generator) -> Array:
    return np.asarray(weight.value * 1.01, weight.value.dtype)


def zeroed(weight: Weight, _: np.random.Generator) -> Array:
    return np.zeros_like(weight.value)


def channels_exchanged(weight: Weight, random: np.random.Generator) -> Array | None:
    if weight.value.shape[weight.axis] < 2:
        return None
    value = np.moveaxis(weight.value.copy(), weight.axis, 0)
    i, j = random.choice(len(value), 2, replace=False)
    value[[i, j]] = value[[j, i]]
    return np.moveaxis(value, 0, weight.axis)


def channel_silenced(weight: Weight, random: np.random.Generator) -> Array:
    value = np.moveaxis(weight.value.copy(), weight.axis, 0)
    value[random.integers(len(value))] = 0
    return np.moveaxis(value, 0, weight.axis)


def transposed(weight: Weight, _: np.random.Generator) -> Array | None:
    """Over the first two axes of equal length: channels of a square kernel, or the sides of a depthwise one."""
    shape = weight.value.shape
    for i in range(len(shape)):
        for j in range(i + 1, len(shape)):
            if shape[i] == shape[j] > 1:
                return np.swapaxes(weight.value, i, j)
    return None


def largest_negated(weight: Weight, _: np.random.Generator) -> Array:
    value = weight.value.copy()
    value.flat[np.abs(value).argmax()] *= -1
    return value


def rounded_to_half(weight: Weight, _: np.random.Generator) -> Array | None:
    return None if weight.value.dtype == np.float16 else weight.value.astype(np.float16).astype(weight.value.dtype)


def one_set_to_nan(weight: Weight, random: np.random.Generator) -> Array:
    value = weight.value.copy()
    value.flat[random.integers(value.size)] = np.nan
    return value


def stale(weight: Weight, random: np.random.Generator) -> Array:
    """The weights of a checkpoint a little earlier in training: relative noise of 1e-3."""
    noise = 1 + 1e-3 * random.standard_normal(weight.value.shape)
    return np.asarray(weight.value * noise, weight.value.dtype)


MUTATIONS = (
    Mutation("weight scaled by 1.01", "weight", scaled, "it is zero"),
    Mutation("two output channels exchanged", "weight", channels_exchanged, "the two are equal"),
    Mutation("output channel set to zero", "weight", channel_silenced, "it is zero already"),
    Mutation("square weight transposed", "weight", transposed, "it is symmetric"),
    Mutation("largest weight negated", "weight", largest_negated, "it is zero"),
    Mutation("weight rounded to fp16", "weight", rounded_to_half, "it equals its own rounding"),
    Mutation("one weight NaN", "weight", one_set_to_nan),
    Mutation("stale weight", "weight", stale, "it is zero"),
    Mutation("bias set to zero", "bias", zeroed, "it is zero already"),
    Mutation("bias scaled by 1.01", "bias", scaled, "it is zero"),
)
EXCHANGE = "two weights exchanged"


def exchanged(weight: Weight, weights: Iterable[Weight]) -> dict[str, Array]:
    """Both values, if a later weight has the same role, shape and type: mostly key and value of one layer.

    Numbers are left alone: a mean's count and its inverse, say, do the same in either order.
    """
    if weight.value.size == 1:
        return {}
    after = False
    for other in weights:
        fits = other.role == weight.role and other.value.shape == weight.value.shape
        if after and fits and other.value.dtype == weight.value.dtype:
            return {weight.name: other.value, other.name: weight.value}
        after = after or other.name == weight.name
    return {}


def mutants(weights: Sequence[Weight], edits: Sequence[Edit], per_kind: int) -> tuple[Mutant, ...]:
    """At most ``per_kind`` mutants of each kind, spread over the depth of the graph; the same ones every time."""
    chosen: list[Mutant] = []
    for mutation in MUTATIONS:
        changed = [(w, _seeded(mutation, w)) for w in weights if w.role == mutation.role]
        suitable = [(w, value) for w, value in changed if value is not None]
        different = [(w, value) for w, value in suitable if not same(w.value, value)]
        chosen += [Mutant(mutation.name, w.name, {w.name: value}) for w, value in spread(different, per_kind)]
        if suitable and not different:
            chosen.append(Mutant(mutation.name, f"all {len(suitable)}", unchanged=mutation.unchanged))
    pairs = [pair for w in weights if w.role == "weight" and (pair := exchanged(w, weights))]
    different_pairs = [pair for pair in pairs if not same(*pair.values())]
    chosen += [Mutant(EXCHANGE, " and ".join(pair), pair) for pair in spread(different_pairs, per_kind)]
    for kind in (SOFTMAX, RELU, SUBTRACTION, EPSILON):
        chosen += [Mutant(kind, e.place, edit=e) for e in spread([e for e in edits if e.kind == kind], per_kind)]
    return tuple(chosen)


def same(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> bool:
    """Whether two arrays have the same bits."""
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def spread(values: Sequence[T], number: int) -> list[T]:
    """The first, the last, and evenly spaced ones between them: at most ``number``."""
    if len(values) <= number:
        return list(values)
    return [values[round(i)] for i in np.linspace(0, len(values) - 1, number)]


def _seeded(mutation: Mutation, weight: Weight) -> Array | None:
    return mutation.change(weight, np.random.default_rng(zlib.crc32(f"{mutation.name} {weight.name}".encode())))


class Editor(Protocol):
    """Edits saved files of one format, whose name it has."""

    def weights(self, path: Path) -> tuple[Weight, ...]:
        """The floating constants of a file, in the order of the graph."""
        ...

    def edits(self, path: Path) -> tuple[Edit, ...]:
        """The possible changes of its operators, in the order of the graph."""
        ...

    def write(
        self, source: Path, target: Path, replaced: Mapping[str, Array] | None = None, edit: Edit | None = None
    ) -> None:
        """A copy of ``source`` with other values of some weights, or with one operator changed.

        Raises:
            ValueError: the edit does not apply to the operator.
        """
        ...


EDITORS: Registry[Editor] = Registry(__name__, "editor")
