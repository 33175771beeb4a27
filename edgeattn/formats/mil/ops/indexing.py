"""Elements by index: slices, gather and scatter, sorting."""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeattn.formats.mil.registry import ints, op


def _ranges(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None,
    begin_mask: Tensor | None,
    end_mask: Tensor | None,
    squeeze_mask: Tensor | None,
) -> tuple[list[range], list[int]]:
    """The indices that a slice takes on each axis, by Python's rules, and the axes that it drops."""

    def mask(values: Tensor | None) -> Sequence[bool]:
        return [False] * x.dim() if values is None else values.tolist()

    strides = [1] * x.dim() if stride is None else ints(stride)
    opens, closes, drops = mask(begin_mask), mask(end_mask), mask(squeeze_mask)
    ranges = []
    for axis, (first, last, step) in enumerate(zip(ints(begin), ints(end), strides, strict=True)):
        size = x.shape[axis]
        if drops[axis]:
            index = 0 if opens[axis] else first + size * (first < 0)
            ranges.append(range(index, index + 1))
            continue
        bounds = slice(None if opens[axis] else first, None if closes[axis] else last, step)
        ranges.append(range(*bounds.indices(size)))
    return ranges, [axis for axis in range(x.dim()) if drops[axis]]


@op
def slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    ranges, dropped = _ranges(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    for axis, indices in enumerate(ranges):
        if indices.step < 0:
            x = x.index_select(axis, torch.tensor(indices, dtype=torch.int64))
        elif indices != range(x.shape[axis]):
            x = x[(slice(None),) * axis + (slice(indices.start, indices.stop, indices.step),)]
    return x.squeeze(tuple(dropped)) if dropped else x


@op
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    ranges, _ = _ranges(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    grid = torch.meshgrid(*(torch.tensor(indices, dtype=torch.int64) for indices in ranges), indexing="ij")
    changed = x.clone()
    changed[grid] = update.reshape(grid[0].shape)
    return changed


@op
def slice_by_size(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    """A size of -1 takes all that is left."""
    for axis, (first, count) in enumerate(zip(ints(begin), ints(size), strict=True)):
        start = first % x.shape[axis] if first < 0 else first
        x = x.narrow(axis, start, x.shape[axis] - start if count == -1 else count)
    return x


def _wrapped(indices: Tensor, size: int) -> Tensor:
    """Non-negative indices; iOS 15 and 16 allow negative ones, which count from the end."""
    signed = indices.long()
    return torch.where(signed < 0, signed + size, signed)


@op
def gather(
    x: Tensor,
    indices: Tensor,
    axis: Tensor | int = 0,
    batch_dims: Tensor | int = 0,
    validate_indices: Tensor | bool = False,
) -> Tensor:
    dim, batch = int(axis) % x.dim(), int(batch_dims)
    if batch > 0:
        rows = [gather(a, b, dim - 1, batch - 1) for a, b in zip(x, indices, strict=True)]
        return torch.stack(rows)
    taken = x.index_select(dim, _wrapped(indices, x.shape[dim]).flatten())
    return taken.reshape(*x.shape[:dim], *indices.shape, *x.shape[dim + 1 :])


@op
def gather_along_axis(
    x: Tensor, indices: Tensor, axis: Tensor | int = 0, validate_indices: Tensor | bool = False
) -> Tensor:
    return torch.gather(x, int(axis), _wrapped(indices, x.shape[int(axis)]))


@op
def gather_nd(
    x: Tensor, indices: Tensor, batch_dims: Tensor | int = 0, validate_indices: Tensor | bool = False
) -> Tensor:
    if batch_dims > 0:
        return torch.stack([gather_nd(a, b, int(batch_dims) - 1) for a, b in zip(x, indices, strict=True)])
    return x[_coordinates(x, indices)]


def _coordinates(x: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
    return tuple(_wrapped(part, size) for part, size in zip(indices.unbind(-1), x.shape, strict=False))


def _positions(data: Tensor) -> Tensor:
    """The flat position of each element: gathered like the data, the positions that a scatter writes."""
    return torch.arange(data.numel()).reshape(data.shape)


def _scattered(data: Tensor, positions: Tensor, updates: Tensor, mode: str) -> Tensor:
    """``data`` with the elements at ``positions`` combined with ``updates``; equal ones are combined in turn."""
    flat, at, new = data.flatten(), positions.flatten(), updates.flatten()
    if mode == "update":
        flat = flat.scatter(0, at, new)
    elif mode in ("add", "sub"):
        flat = flat.scatter_add(0, at, new if mode == "add" else -new)
    elif mode == "div":
        divisor = torch.ones_like(flat).scatter_reduce(0, at, new, "prod")
        flat = flat / divisor if data.is_floating_point() else torch.div(flat, divisor, rounding_mode="trunc")
    else:
        flat = flat.scatter_reduce(0, at, new, {"mul": "prod", "max": "amax", "min": "amin"}[mode])
    return flat.reshape(data.shape)


@op
def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: Tensor | int = 0,
    mode: str = "add",
    validate_indices: Tensor | bool = False,
) -> Tensor:
    return _scattered(data, gather(_positions(data), indices, axis), updates, mode)


@op
def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: Tensor | int = 0,
    mode: str = "add",
    validate_indices: Tensor | bool = False,
) -> Tensor:
    return _scattered(data, gather_along_axis(_positions(data), indices, axis), updates, mode)


@op
def scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str = "add",
    validate_indices: Tensor | bool = False,
) -> Tensor:
    return _scattered(data, gather_nd(_positions(data), indices), updates, mode)


@op
def argsort(x: Tensor, axis: Tensor | int = -1, ascending: Tensor | bool = False) -> Tensor:
    return torch.argsort(x, stable=True, dim=int(axis), descending=not ascending)


@op
def topk(
    x: Tensor,
    k: Tensor | int = 1,
    axis: Tensor | int = -1,
    ascending: Tensor | bool = False,
    sort: Tensor | bool = True,
    return_indices: Tensor | bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Tensor, Tensor] | Tensor:
    """Of equal elements the first comes first; -1 takes all. The result is sorted, also if ``sort`` is false."""
    count = x.shape[int(axis)] if k == -1 else int(k)
    indices = argsort(x, axis, ascending).narrow(int(axis), 0, count)
    values = torch.gather(x, int(axis), indices)
    return (values, indices) if return_indices else values


@op
def non_zero(x: Tensor) -> Tensor:
    return torch.nonzero(x)
