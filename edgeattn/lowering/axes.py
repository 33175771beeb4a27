"""Named axes: what a reshape or a permutation does to a tensor is only a change of names, and moves nothing.

A dimension of a tensor is a *group* of axes, the slowest first. A reshape cuts axes or joins groups, a permutation puts
groups into another order; both leave the axes, and so the values, where they are. An axis that is cut is cut in every
tensor that has it: all of them read its parts.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from math import prod


class Axis:
    """A direction of a tensor of at least two values; an axis that is cut or joined to another reads as its parts."""

    __slots__ = ("parts", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: tuple[Axis, ...] | None = None

    def __repr__(self) -> str:
        return f"{self.size}@{id(self) & 0xFFFF:x}" if self.parts is None else "*".join(map(repr, self.parts))


Group = tuple[Axis, ...]


def fresh(shape: Iterable[int]) -> tuple[Group, ...]:
    """A new axis for every dimension of ``shape``; a dimension of length 1 needs none."""
    return tuple((Axis(int(n)),) if n != 1 else () for n in shape)


def leaves(axes: Iterable[Axis]) -> Group:
    """The axes, each one that was cut as its parts."""
    result: list[Axis] = []
    for axis in axes:
        result += (axis,) if axis.parts is None else leaves(axis.parts)
    return tuple(result)


def flat(dims: Iterable[Group]) -> Group:
    """All axes of all groups, in order."""
    return leaves(axis for group in dims for axis in group)


def without(dims: Iterable[Group], gone: Container[Axis]) -> tuple[Group, ...]:
    """The dimensions without some axes."""
    return tuple(tuple(axis for axis in leaves(group) if axis not in gone) for group in dims)


def size(group: Iterable[Axis]) -> int:
    """The number of values along a group."""
    return prod(axis.size for axis in group)


def sizes(axes: Iterable[Axis]) -> list[int]:
    """The length of each axis."""
    return [axis.size for axis in leaves(axes)]


def regroup(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[Group, ...] | None:
    """The axes in groups with the lengths of ``shape``, cut where they have to be; None if they cannot be cut so."""
    rest = list(leaves(axes))
    dims = []
    for length in shape:
        group: list[Axis] = []
        while length > 1:
            if not rest:
                return None
            axis = rest.pop(0)
            if axis.size > length:
                if axis.size % length:
                    return None
                axis.parts = (Axis(length), Axis(axis.size // length))
                axis, remainder = axis.parts
                rest.insert(0, remainder)
            if not axis.size or length % axis.size:
                return None
            length //= axis.size
            group.append(axis)
        dims.append(tuple(group))
    return None if rest else tuple(dims)


def pairs(first: Group, second: Group) -> list[tuple[Axis, Axis]] | None:
    """Two groups of one length, cut until their axes have the same lengths, as pairs; None if they cannot be."""
    left, right, result = list(leaves(first)), list(leaves(second)), []
    while left and right:
        a, b = left.pop(0), right.pop(0)
        if a.size != b.size:
            longer, shorter, rest = (a, b, left) if a.size > b.size else (b, a, right)
            if longer.size % shorter.size:
                return None
            longer.parts = (Axis(shorter.size), Axis(longer.size // shorter.size))
            rest.insert(0, longer.parts[1])
            a, b = (longer.parts[0], b) if longer is a else (a, longer.parts[0])
        result.append((a, b))
    return None if left or right else result
