"""Compressed weights: constants, which are decompressed once, when a program is loaded.

iOS 16's ops hold packed bits and a shape, iOS 18's have types of fewer than eight bits and work block by block.
"""

import torch
from torch import Tensor

from edgeattn.formats.mil.ops.elementwise import cast
from edgeattn.formats.mil.ops.quantization import dequantize
from edgeattn.formats.mil.registry import ints, op
from edgeattn.formats.mil.values import unpack


@op
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    return cast(source_val, output_dtype)


@op
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Tensor) -> Tensor:
    return dequantize(quantized_data, scale, zero_point, axis)


@op
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    values = data.float()
    if offset is not None:
        values = values - _repeated(offset, data.shape).float()
    return values * _repeated(scale, data.shape)


@op
def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: Tensor | None = None, vector_axis: Tensor | None = None
) -> Tensor:
    """Each index picks an entry (a number, or a vector along ``vector_axis``) of its block's own table."""
    if shape is not None:
        indices = _unpacked(indices, (len(lut) - 1).bit_length(), ints(shape))
        lut = lut.reshape(*[1] * indices.dim(), -1, 1)
    entries, length = lut.shape[-2:]
    table = _repeated(lut, (*indices.shape, entries, length))
    picked = indices.long()[..., None, None].expand(*indices.shape, 1, length)
    vectors = torch.gather(table, -2, picked).squeeze(-2)
    if vector_axis is None or length == 1:
        return vectors.reshape(indices.shape)
    axis = int(vector_axis) % indices.dim()
    return vectors.movedim(-1, axis + 1).flatten(axis, axis + 1)


@op
def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Tensor | None = None) -> Tensor:
    if shape is not None:
        mask = _unpacked(mask, 1, ints(shape))
    dense = torch.zeros(mask.shape, dtype=nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


@op
def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    dense = constexpr_lut_to_dense(
        constexpr_sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis
    )
    mask = indices_mask
    if vector_axis is not None:
        mask = mask.repeat_interleave(lut.shape[-1], int(vector_axis))
    return mask, dense[mask != 0]


@op
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    dense = constexpr_blockwise_shift_scale(constexpr_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def _repeated(values: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Each entry as often as its block is long, along every axis."""
    for axis, (blocks, length) in enumerate(zip(values.shape, shape, strict=True)):
        if blocks not in (1, length):
            values = values.repeat_interleave(length // blocks, axis)
    return values.expand(shape)


def _unpacked(packed: Tensor, bits: int, shape: list[int]) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.from_numpy(unpack(packed.numpy(), bits, count)).reshape(shape)
