"""The cases of the ops that move elements and compute nothing, and of those on truth values and indices."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mil_cases import C, Case, on_x, t

COLUMNS = np.array([[1, 0, 2], [2, 2, 0], [0, 1, 1], [3, 3, 3], [4, 0, 2]], np.int32)
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def _of(name: str, function: Any, **arguments: Any) -> Case:
    return (lambda v: {"x": getattr(v, name), **arguments}, lambda a: function(getattr(a, name)))


def _blocks_first(x: torch.Tensor, b: int) -> torch.Tensor:
    """TensorFlow's space_to_depth, element by element."""
    parts = [x[..., i::b, j::b] for i in range(b) for j in range(b)]
    return torch.cat(parts, 1)


def _spread(x: np.ndarray) -> np.ndarray:
    """Four channels to one of twice the size, element by element."""
    image = np.zeros((x.shape[0], 1, 2 * x.shape[2], 2 * x.shape[3]), x.dtype)
    for channel in range(4):
        image[:, 0, channel // 2 :: 2, channel % 2 :: 2] = x[:, channel]
    return image


_SHAPES: dict[str, Case] = {
    "reshape": on_x(lambda x: x.reshape(2, 24, 6, 1), shape=[0, -1, 6, 1]),
    "reshape_like": (
        lambda v: {"x": v.x, "ref_tensors": (v.x, v.y), "begins": (0, 2), "ends": (2, 0), "end_masks": (False, True)},
        lambda a: a.x,
    ),
    "flatten2d": on_x(lambda x: x.reshape(8, 36), axis=2),
    "expand_dims": _of("matrix", lambda x: x[:, None, :, None], axes=[1, -1]),
    "squeeze": _of("cube", lambda x: x[0], axes=[0]),
    "transpose": on_x(lambda x: x.permute(0, 2, 3, 1), perm=[0, 2, -1, 1]),
    "shape": on_x(lambda x: np.array([2, 4, 6, 6], np.int32)),
    "fill": (lambda v: {"shape": [2, 3], "value": 1.5}, lambda a: np.full((2, 3), 1.5, np.float32)),
    "fill_like": (lambda v: {"ref_tensor": v.matrix, "value": 7}, lambda a: np.full((5, 7), 7, np.int32)),
    "range_1d": (lambda v: {"start": 2, "end": 9, "step": 3}, lambda a: np.arange(2, 9, 3, np.int32)),
    "one_hot": (lambda v: {"indices": v.i, "one_hot_vector_size": 4}, lambda a: np.eye(4, dtype=np.int32)[a.i]),
    "one_hot/first": (
        lambda v: {"indices": v.i, "one_hot_vector_size": 4, "axis": 0, "on_value": 2.0, "off_value": -1.0},
        lambda a: (np.eye(4, dtype=np.float32)[a.i] * 3 - 1).T,
    ),
    "band_part": on_x(lambda x: x.tril(1).triu(-2), lower=2, upper=1),
    "band_part/upper": on_x(lambda x: x.triu(), lower=0),
    "concat": (lambda v: {"values": (v.x, v.y, v.p), "axis": 1}, lambda a: np.concatenate([a.x, a.y, a.p], 1)),
    "concat/interleave": (
        lambda v: {"values": (v.x, v.y), "axis": 1, "interleave": True},
        lambda a: np.stack([a.x, a.y], 2).reshape(2, 8, 6, 6),
    ),
    "stack": (lambda v: {"values": (v.n, v.m), "axis": -1}, lambda a: np.stack([a.n, a.m], -1)),
    "split": on_x(lambda x: x.split(2, 1), axis=1, num_splits=2),
    "split/sizes": on_x(lambda x: x.split([1, 3, 2], -1), axis=-1, split_sizes=[1, 3, 2]),
    "tile": _of("matrix", lambda x: np.tile(x, (2, 3)), reps=[2, 3]),
    "reverse": on_x(lambda x: x.flip(1, 3), axes=[1, -1]),
    "reverse/all": _of("matrix", lambda x: x[::-1, ::-1]),
    "reverse_sequence": (
        lambda v: {"x": v.n, "lengths": v.i, "seq_axis": 1, "batch_axis": 0},
        lambda a: np.stack([np.r_[row[:k][::-1], row[k:]] for row, k in zip(a.n, a.i, strict=True)]),
    ),
    "pad": on_x(lambda x: F.pad(x, (1, 2, 0, 1), value=0.5), pad=[0, 1, 1, 2], constant_val=0.5),
    "pad/reflect": on_x(lambda x: F.pad(x, (3, 2, 5, 1), mode="reflect"), pad=[5, 1, 3, 2], mode="reflect"),
    "pad/replicate": on_x(lambda x: F.pad(x, (3, 2, 1, 0), mode="replicate"), pad=[1, 0, 3, 2], mode="replicate"),
    "sliding_windows": _of(
        "matrix", lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, 1)[:, ::2], axis=1, size=3, stride=2
    ),
    "pixel_shuffle": on_x(lambda x: F.pixel_shuffle(x, 2), upscale_factor=2),
    "pixel_unshuffle": on_x(lambda x: F.pixel_unshuffle(x, 3), downscale_factor=np.uint32(3)),
    "space_to_depth": on_x(lambda x: _blocks_first(x, 3), block_size=3),
    "depth_to_space": (lambda v: {"x": v.x, "block_size": 2}, lambda a: _spread(a.x)),
    "space_to_batch": on_x(
        lambda x: torch.cat([F.pad(x, (2, 2, 1, 2))[:, :, i::3, j::2] for i in range(3) for j in range(2)]),
        block_shape=[3, 2], paddings=[[1, 2], [2, 2]],
    ),
    "batch_to_space": (
        lambda v: {"x": v.x, "block_shape": [1, 2], "crops": [[1, 0], [0, 2]]},
        lambda a: np.stack([a.x[0], a.x[1]], -1).reshape(1, 4, 6, 12)[:, :, 1:, :-2],
    ),
}  # fmt: skip

_PLACES: dict[str, Case] = {
    "slice_by_index": on_x(lambda x: x[:, 1:3, ::2, -2:], begin=[0, 1, 0, -2], end=[0, 3, 5, 0], stride=[1, 1, 2, 1],
                            end_mask=[True, False, False, True]),
    "slice_by_index/backwards": on_x(lambda x: x[:, :, [5, 3]].flip(3)[..., :3], begin=[0, 0, -1, 0],
                                      end=[2, 4, 1, 2], stride=[1, 1, -2, -1], begin_mask=[True, True, False, True]),
    "slice_by_index/squeeze": on_x(lambda x: x[1, :, -1], begin=[1, 0, -1, 0], end=[0, 0, 0, 0],
                                    end_mask=[False, True, False, True], squeeze_mask=[True, False, True, False]),
    "slice_by_size": on_x(lambda x: x[:, 1:3, 2:, 5:], begin=[0, 1, 2, -1], size=[2, 2, -1, 1]),
    "gather": on_x(lambda x: x[:, [[2, 0], [1, 1]]], indices=np.array([[2, 0], [1, 1]], np.int32), axis=1),
    "gather/batch": (
        lambda v: {"x": v.x, "indices": np.array([[2, 0], [1, 1]], np.int32), "axis": 1, "batch_dims": 1},
        lambda a: np.stack([a.x[0, [2, 0]], a.x[1, [1, 1]]]),
    ),
    "gather/scalar": (lambda v: {"x": v.n, "indices": np.int32(2), "axis": 1}, lambda a: a.n[:, 2]),
    "gather_along_axis": _of("matrix", lambda x: np.take_along_axis(x, COLUMNS, 1), indices=COLUMNS, axis=1),
    "gather_nd": (lambda v: {"x": v.n, "indices": v.ij}, lambda a: a.n[a.ij[..., 0], a.ij[..., 1]]),
    "gather_nd/batch": (
        lambda v: {"x": v.x, "indices": np.array([[1], [3]], np.int32), "batch_dims": 1},
        lambda a: np.stack([a.x[0, 1], a.x[1, 3]]),
    ),
    "scatter": (
        lambda v: {"data": v.n, "indices": v.i, "updates": v.m, "axis": 0, "mode": "update"}, lambda a: a.m[[1, 2, 0]]
    ),
    "scatter_along_axis": (
        lambda v: {"data": v.matrix, "indices": COLUMNS, "updates": COLUMNS.astype(np.float32), "axis": 1,
                   "mode": "max"},
        lambda a: t(a.matrix).scatter_reduce(1, t(COLUMNS).long(), t(COLUMNS).float(), "amax"),
    ),
    "scatter_nd": (
        lambda v: {"data": v.n, "indices": v.ij, "updates": np.array([[1, 2], [3, 4]], np.int32), "mode": "sub"},
        lambda a: a.n - np.array([[4, 1, 0, 0], [0, 3, 0, 0], [0, 0, 0, 2]], np.int32),
    ),
    "argsort": on_x(lambda x: x.argsort(1), axis=1, ascending=True),
    "argsort/down": on_x(lambda x: x.argsort(3, descending=True)),
    "slice_update": (
        lambda v: {"x": v.n, "update": v.m, "begin": [2, 0], "end": [0, 4], "stride": [-1, 1],
                   "end_mask": [True, False]},
        lambda a: a.m[::-1],
    ),
    "slice_update/part": (
        lambda v: {"x": v.matrix, "update": ROWS, "begin": [1, -3], "end": [5, 0], "stride": [2, 1],
                   "end_mask": [False, True]},
        lambda a: np.concatenate([a.matrix[:1], np.c_[a.matrix[1:2, :4], ROWS[:1]], a.matrix[2:3],
                                  np.c_[a.matrix[3:4, :4], ROWS[1:]], a.matrix[4:]]),
    ),
    "topk": on_x(lambda x: x.topk(3, 2), k=3, axis=2),
    "topk/values": on_x(lambda x: x.topk(2, 1, largest=False).values, k=2, axis=1, ascending=True,
                        return_indices=False),
    "non_zero": (lambda v: {"x": v.n}, lambda a: np.argwhere(a.n)),
}  # fmt: skip

_TRUTH: dict[str, Case] = {
    **{f"logical_{name}": (lambda v: {"x": v.truth, "y": v.other}, function) for name, function in {
        "and": lambda a: a.truth & a.other, "or": lambda a: a.truth | a.other, "xor": lambda a: a.truth ^ a.other,
    }.items()},
    "logical_not": (lambda v: {"x": v.truth}, lambda a: ~a.truth),
    "select": (lambda v: {"cond": v.truth, "a": v.x, "b": v.y}, lambda a: np.where(a.truth, a.x, a.y)),
    "scaled_dot_product_attention": (
        lambda v: {"query": v.x, "key": v.y, "value": v.p},
        lambda a: F.scaled_dot_product_attention(t(a.x), t(a.y), t(a.p)),
    ),
    "scaled_dot_product_attention/mask": (
        lambda v: {"query": v.x, "key": v.y, "value": v.p, "attn_mask": v.x},
        lambda a: F.scaled_dot_product_attention(t(a.x), t(a.y), t(a.p), t(a.x)),
    ),
    "scaled_dot_product_attention/truth": (
        lambda v: {"query": v.x, "key": v.y, "value": v.p, "attn_mask": np.tri(6, dtype=bool)},
        lambda a: F.scaled_dot_product_attention(t(a.x), t(a.y), t(a.p), is_causal=True),
    ),
    "dequantize": (
        lambda v: {"input": v.steps, "scale": np.float32(0.5), "zero_point": np.int8(3)},
        lambda a: (a.steps.astype(np.float32) - 3) * 0.5,
    ),
    "dequantize/channels": (
        lambda v: {"input": v.steps, "scale": np.abs(C), "axis": 1},
        lambda a: a.steps.astype(np.float32) * np.abs(C).reshape(4, 1, 1),
    ),
}  # fmt: skip

CASES = {**_TRUTH, **_SHAPES, **_PLACES}
