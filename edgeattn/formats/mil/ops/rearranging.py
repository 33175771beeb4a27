"""Elements joined, repeated, padded, turned round, and moved between channels, batch and space."""

import torch
from torch import Tensor

from edgeattn.formats.mil.registry import axes_of, ints, op


@op
def concat(values: tuple[Tensor, ...], axis: Tensor, interleave: Tensor | bool = False) -> Tensor:
    if values[0].dim() == 0:
        return torch.stack(values)
    if interleave:
        dim = int(axis) % values[0].dim()
        return torch.stack(values, dim + 1).flatten(dim, dim + 1)
    return torch.cat(values, int(axis))


@op
def stack(values: tuple[Tensor, ...], axis: Tensor) -> Tensor:
    return torch.stack(values, int(axis))


@op
def split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, ints(split_sizes), int(axis))
    if num_splits is None:
        raise ValueError("neither num_splits nor split_sizes is given")
    return torch.split(x, x.shape[int(axis)] // int(num_splits), int(axis))


@op
def tile(x: Tensor, reps: Tensor) -> Tensor:
    return x.repeat(ints(reps))


@op
def reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.flip(axes_of(axes, x.dim()))


@op
def reverse_sequence(x: Tensor, lengths: Tensor, seq_axis: Tensor | int = 0, batch_axis: Tensor | int = 0) -> Tensor:
    """The first ``lengths[b]`` steps of each sequence, turned round."""
    moved = x.movedim((int(batch_axis), int(seq_axis)), (0, 1)).clone()
    for sequence, length in zip(moved, ints(lengths), strict=True):
        sequence[:length] = sequence[:length].flip(0)
    return moved.movedim((0, 1), (int(batch_axis), int(seq_axis)))


@op
def pad(x: Tensor, pad: Tensor, mode: str = "constant", constant_val: Tensor | float = 0.0) -> Tensor:
    """(before, after) for each of the last axes."""
    amounts = ints(pad)
    first = x.dim() - len(amounts) // 2
    for axis, before, after in zip(range(first, x.dim()), amounts[::2], amounts[1::2], strict=True):
        x = _pad_axis(x, axis, before, after, mode, constant_val)
    return x


def _pad_axis(x: Tensor, axis: int, before: int, after: int, mode: str, value: Tensor | float) -> Tensor:
    if before == after == 0:
        return x
    length = x.shape[axis]
    if mode == "constant":
        filling = torch.as_tensor(value, dtype=x.dtype)
        blocks = [filling.expand(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (before, after)]
        return torch.cat([blocks[0], x, blocks[1]], axis)
    indices = torch.arange(-before, length + after)
    if mode == "reflect":
        indices = indices.abs()
        indices = length - 1 - (length - 1 - indices).abs()
    return x.index_select(axis, indices.clamp(0, length - 1))


@op
def sliding_windows(x: Tensor, axis: Tensor, size: Tensor, stride: Tensor | int = 1) -> Tensor:
    dim = int(axis) % x.dim()
    return x.unfold(dim, int(size), int(stride)).movedim(-1, dim + 1)


@op
def pixel_shuffle(x: Tensor, upscale_factor: Tensor) -> Tensor:
    return torch.pixel_shuffle(x, int(upscale_factor))


@op
def pixel_unshuffle(x: Tensor, downscale_factor: Tensor) -> Tensor:
    return torch.pixel_unshuffle(x, int(downscale_factor))


@op
def depth_to_space(x: Tensor, block_size: Tensor) -> Tensor:
    """TensorFlow's order of the channels: the offset inside the block comes first."""
    b = int(block_size)
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, b, b, channels // (b * b), height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * b, width * b)


@op
def space_to_depth(x: Tensor, block_size: Tensor) -> Tensor:
    b = int(block_size)
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // b, b, width // b, b)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // b, width // b)


@op
def space_to_batch(x: Tensor, block_shape: Tensor, paddings: Tensor) -> Tensor:
    """The offset inside the block becomes the outer part of the batch."""
    block_height, block_width = ints(block_shape)
    x = pad(x, paddings.flatten())
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // block_height, block_height, width // block_width, block_width)
    return blocks.permute(3, 5, 0, 1, 2, 4).reshape(-1, channels, height // block_height, width // block_width)


@op
def batch_to_space(x: Tensor, block_shape: Tensor, crops: Tensor) -> Tensor:
    block_height, block_width = ints(block_shape)
    _, channels, height, width = x.shape
    blocks = x.reshape(block_height, block_width, -1, channels, height, width).permute(2, 3, 4, 0, 5, 1)
    whole = blocks.reshape(-1, channels, height * block_height, width * block_width)
    top, bottom, left, right = ints(crops)
    return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]


@op
def cumsum(
    x: Tensor, axis: Tensor | int = 0, exclusive: Tensor | bool = False, reverse: Tensor | bool = False
) -> Tensor:
    dim = int(axis)
    x = x.flip(dim) if reverse else x
    sums = x.cumsum(dim)
    if exclusive:
        sums = torch.cat([torch.zeros_like(sums.narrow(dim, 0, 1)), sums.narrow(dim, 0, x.shape[dim] - 1)], dim)
    return sums.flip(dim) if reverse else sums
