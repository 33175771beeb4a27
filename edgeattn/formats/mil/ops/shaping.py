"""Another shape for the same elements; shapes themselves; tensors made from a shape alone."""

import torch
from torch import Tensor

from edgeattn.formats.mil.registry import axes_of, ints, named, op


@op
def reshape(x: Tensor, shape: Tensor) -> Tensor:
    """0 keeps the length of that axis, -1 takes what is left."""
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(ints(shape))])


@op
def reshape_like(
    x: Tensor,
    ref_tensors: tuple[Tensor, ...],
    begins: tuple[Tensor, ...],
    ends: tuple[Tensor, ...],
    end_masks: tuple[Tensor, ...],
) -> Tensor:
    shape: list[int] = []
    for ref, begin, end, open_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += ref.shape[int(begin) : None if open_end else int(end)]
    return x.reshape(shape)


@op
def flatten2d(x: Tensor, axis: Tensor | int = 1) -> Tensor:
    return x.reshape(torch.Size(x.shape[: int(axis)]).numel(), -1)


@op
def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(a % (x.dim() + axes.numel()) for a in ints(axes)):
        x = x.unsqueeze(axis)
    return x


@op
def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Axes that are not of length one stay, as in PyTorch."""
    return x.squeeze(tuple(axes_of(axes, x.dim())))


@op
def transpose(x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(ints(perm))


@op
def shape(x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch.int32)


@op
def fill(shape: Tensor, value: Tensor | float = 0.0) -> Tensor:
    return torch.as_tensor(value).expand(ints(shape)).clone()


@op
def fill_like(ref_tensor: Tensor, value: Tensor | float = 0.0) -> Tensor:
    return torch.as_tensor(value).expand(ref_tensor.shape).clone()


@named("range_1d")
def sequence(end: Tensor, start: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


@op
def one_hot(
    indices: Tensor,
    one_hot_vector_size: Tensor,
    axis: Tensor | int = -1,
    on_value: Tensor | int = 1,
    off_value: Tensor | int = 0,
) -> Tensor:
    """An index outside the vector gives ``off_value`` everywhere."""
    dim = int(axis) % (indices.dim() + 1)
    positions = torch.arange(int(one_hot_vector_size)).reshape(-1, *[1] * (indices.dim() - dim))
    return torch.where(indices.unsqueeze(dim) == positions, torch.as_tensor(on_value), torch.as_tensor(off_value))


@op
def band_part(x: Tensor, lower: Tensor | int = -1, upper: Tensor | int = -1) -> Tensor:
    rows, columns = torch.arange(x.shape[-2])[:, None], torch.arange(x.shape[-1])
    band = torch.ones(x.shape[-2:], dtype=torch.bool)
    if lower >= 0:
        band &= rows - columns <= lower
    if upper >= 0:
        band &= columns - rows <= upper
    return torch.where(band, x, torch.zeros_like(x))
