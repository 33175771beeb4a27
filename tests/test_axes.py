"""Named axes: reshapes and permutations are only other names, and a cut is seen by all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeattn.lowering.axes import Axis, flat, fresh, leaves, pairs, regroup, size, sizes
from edgeattn.lowering.ops import Constant, View, aligned, viewed


def shape_of(dims: tuple[tuple[Axis, ...], ...]) -> list[int]:
    return [size(leaves(group)) for group in dims]


def test_a_dimension_of_one_has_no_axis() -> None:
    assert [len(group) for group in fresh((1, 3, 1, 2))] == [0, 1, 0, 1]


def test_a_cut_is_seen_in_every_tensor_that_has_the_axis() -> None:
    (axis,) = flat(fresh((24,)))
    dims = regroup([axis], (2, 3, 4))
    assert dims is not None
    assert shape_of(dims) == [2, 3, 4]
    assert leaves([axis]) == flat(dims)
    # Cut again, in one of the parts.
    again = regroup(flat(dims), (2, 3, 2, 2))
    assert again is not None
    assert sizes([axis]) == [2, 3, 2, 2]
    assert repr(axis).count("*") == 3


def test_axes_that_fit_are_joined_and_not_cut() -> None:
    dims = fresh((4, 6, 5))
    joined = regroup(flat(dims), (24, 5))
    assert joined == ((*dims[0], *dims[1]), dims[2])
    assert all(axis.parts is None for axis in flat(dims))


@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((4, 6), (6, 4)),  # 6 is 4 and half of an axis
        ((3, 5), (5, 3)),
        ((6,), (4, 2)),  # too many
        ((6,), (2, 2)),  # too few
        ((6,), (2,)),
        ((10, 3), (4, 5)),
        ((0,), (0,)),
        ((2, 0), (0, 2)),
        ((0,), (2, 0)),
    ],
)
def test_what_cannot_be_cut_so(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert regroup(flat(fresh(shape)), other) is None


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        ((6,), (6,), [6]),
        ((2, 12), (6, 4), [2, 3, 4]),
        ((24,), (2, 3, 4), [2, 3, 4]),
        ((2, 3, 4), (24,), [2, 3, 4]),
        ((), (), []),
    ],
)
def test_two_groups_are_cut_alike(first: tuple[int, ...], second: tuple[int, ...], common: list[int]) -> None:
    a, b = flat(fresh(first)), flat(fresh(second))
    both = pairs(a, b)
    assert both is not None
    assert [x.size for x, _ in both] == [y.size for _, y in both] == common
    assert leaves(a) == tuple(x for x, _ in both)
    assert leaves(b) == tuple(y for _, y in both)


@pytest.mark.parametrize(
    ("first", "second"), [((4, 6), (6, 4)), ((2, 3), (3, 2)), ((6,), (4,)), ((6,), (2,)), ((2,), ())]
)
def test_two_groups_that_cannot_be_cut_alike(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    assert pairs(flat(fresh(first)), flat(fresh(second))) is None


def test_a_group_is_paired_with_itself() -> None:
    group = flat(fresh((2, 3)))
    assert pairs(group, group) == [(axis, axis) for axis in group]
    assert all(axis.parts is None for axis in group)


@settings(max_examples=200)
@given(st.data())
def test_a_chain_of_reshapes_and_permutations(data: st.DataObject) -> None:
    """The values of a view are PyTorch's; the operator that it is a view of never moves."""
    factors = data.draw(st.lists(st.sampled_from([1, 2, 2, 3, 4]), min_size=1, max_size=6))
    x = torch.arange(torch.Size(factors).numel(), dtype=torch.float64).reshape(factors)
    op = Constant(value=x, dims=fresh(factors))
    dims, y = op.dims, x
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(y.dim())))
            dims, y = tuple(dims[i] for i in order), y.permute(order)
        else:
            shape = data.draw(reshapes(tuple(y.shape)))
            cut = regroup(flat(dims), shape)
            if cut is None:  # across an axis: nothing is said of it, and nothing is lost
                assert torch.equal(viewed(op.evaluate(), View(op, dims, tuple(y.shape))), y)
                continue
            dims, y = cut, y.reshape(shape)
        assert shape_of(dims) == list(y.shape)
        assert set(flat(dims)) == set(op.axes)
        assert torch.equal(viewed(op.evaluate(), View(op, dims, tuple(y.shape))), y)


@st.composite
def reshapes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with two dimensions joined, one cut, or one of length 1 put in; or any other, by the prime factors."""
    kind = draw(st.sampled_from(["join", "cut", "one", "any"]))
    at = draw(st.integers(0, len(shape) - 1))
    if kind == "join" and at:
        return (*shape[: at - 1], shape[at - 1] * shape[at], *shape[at + 1 :])
    if kind == "one":
        return (*shape[:at], 1, *shape[at:])
    if kind == "any":
        rest, primes = torch.Size(shape).numel(), []
        while rest > 1:
            primes.append(2 if rest % 2 == 0 else 3)
            rest //= primes[-1]
        return tuple(draw(st.permutations(primes)))
    divisor = draw(st.sampled_from([n for n in range(1, shape[at] + 1) if shape[at] % n == 0]))
    return (*shape[:at], divisor, shape[at] // divisor, *shape[at + 1 :])


def test_a_value_is_broadcast_over_the_axes_that_it_lacks() -> None:
    a, b, c = (Axis(n) for n in (2, 3, 4))
    x = torch.randn(3, 2)
    assert torch.equal(aligned(x, [b, a], [a, c, b]), x.T[:, None, :])
