"""Ops of mil_reference whose attributes interact, over random shapes and attributes; and the rounding of fp16."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mil_programs import observe, save
from torch import Tensor

import edgeattn.formats.mil.ops  # noqa: F401 - its ops register themselves
from edgeattn.formats.mil.registry import OPS

few = settings(max_examples=25, derandomize=True, deadline=None)
seeds = st.integers(0, 2**16)


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@few
@given(st.data())
def test_slices_are_numpys(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    rank = len(shape)
    lists = {name: data.draw(st.lists(st.booleans(), min_size=rank, max_size=rank))
             for name in ("begin_mask", "end_mask", "squeeze_mask")}  # fmt: skip
    begin = [data.draw(st.integers(-n, n - 1)) for n in shape]
    end = [data.draw(st.integers(-n - 1, n + 1)) for n in shape]
    stride = [data.draw(st.sampled_from([-2, -1, 1, 2, 3])) for _ in shape]
    x = np.arange(np.prod(shape)).reshape(shape)
    index = tuple(
        (0 if lists["begin_mask"][i] else begin[i])
        if lists["squeeze_mask"][i]
        else slice(None if lists["begin_mask"][i] else begin[i], None if lists["end_mask"][i] else end[i], stride[i])
        for i in range(rank)
    )
    arguments = {"begin": ints(*begin), "end": ints(*end), "stride": ints(*stride)}
    arguments |= {name: torch.tensor(mask) for name, mask in lists.items()}
    found = OPS["slice_by_index"](torch.from_numpy(x), **arguments)
    np.testing.assert_array_equal(found.numpy(), x[index])
    assume(x[index].size)
    update = np.asarray(-np.ones_like(x[index]))
    changed = OPS["slice_update"](torch.from_numpy(x), torch.from_numpy(update), **arguments)
    expected = x.copy()
    expected[index] = update
    np.testing.assert_array_equal(changed.numpy(), expected)


@few
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.sampled_from([1, 2]),
    st.sampled_from(["valid", "same", "same_lower", "custom"]), st.lists(st.integers(0, 2), min_size=6, max_size=6),
    seeds,
)  # fmt: skip
def test_convolutions(
    rank: int, stride: int, dilation: int, groups: int, pad_type: str, pad: list[int], seed: int
) -> None:
    """Against PyTorch's kernel on an input that is padded by NumPy, by TensorFlow's rule for ``same``."""
    sizes, kernel = [7, 6, 5][:rank], [3, 2, 1][:rank]
    x, weight, bias = normal(seed, 2, 4, *sizes), normal(seed, 6, 4 // groups, *kernel), normal(seed, 6)
    widths = [(0, 0)] * rank
    if pad_type == "custom":
        widths = [(pad[2 * i], pad[2 * i + 1]) for i in range(rank)]
    elif pad_type != "valid":
        totals = [
            max((int(np.ceil(n / stride)) - 1) * stride + (k - 1) * dilation + 1 - n, 0)
            for n, k in zip(sizes, kernel, strict=True)
        ]
        widths = [(n // 2, n - n // 2) if pad_type == "same" else (n - n // 2, n // 2) for n in totals]
    padded = torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), *widths]))
    steps = {"stride": stride, "dilation": dilation, "groups": groups}
    expected = (F.conv1d, F.conv2d, F.conv3d)[rank - 1](padded, weight, bias, **steps)
    found = OPS["conv"](
        x, weight, bias, strides=ints(*[stride] * rank), dilations=ints(*[dilation] * rank), groups=ints(groups),
        pad_type=pad_type, pad=ints(*pad[: 2 * rank]),
    )  # fmt: skip
    torch.testing.assert_close(found, expected)
    if "same" in pad_type:
        assert list(found.shape[2:]) == [-(-n // stride) for n in sizes]


@few
@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 3), st.integers(0, 1), st.booleans(), st.booleans(), seeds)
def test_pooling_is_pytorchs(
    rank: int, kernel: int, stride: int, pad: int, ceil_mode: bool, exclude: bool, seed: int
) -> None:
    assume(2 * pad <= kernel)
    x = normal(seed, 2, 3, *[7, 9][:rank])
    common = {"kernel_sizes": ints(*[kernel] * rank), "strides": ints(*[stride] * rank), "pad_type": "custom",
              "pad": ints(*[pad] * 2 * rank), "ceil_mode": torch.tensor(ceil_mode)}  # fmt: skip
    largest = (F.max_pool1d, F.max_pool2d)[rank - 1](x, kernel, stride, pad, ceil_mode=ceil_mode)
    assume(OPS["max_pool"](x, **common).shape == largest.shape or pad > 0)
    torch.testing.assert_close(OPS["max_pool"](x, **common), largest)
    mean = (F.avg_pool1d, F.avg_pool2d)[rank - 1](x, kernel, stride, pad, ceil_mode, not exclude)
    found = OPS["avg_pool"](x, **common, exclude_padding_from_average=torch.tensor(exclude))
    torch.testing.assert_close(found, mean)


@few
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data(), seeds)
def test_reductions(shape: list[int], data: st.DataObject, seed: int) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1))
    signs = [data.draw(st.booleans()) for _ in axes]
    given_axes = ints(*(a - len(shape) if s else a for a, s in zip(axes, signs, strict=True)))
    keep, x = data.draw(st.booleans()), normal(seed, *shape)
    numpys = {"reduce_sum": np.sum, "reduce_mean": np.mean, "reduce_max": np.max, "reduce_min": np.min,
              "reduce_prod": np.prod}  # fmt: skip
    for name, function in numpys.items():
        expected = function(x.numpy().astype(np.float64), axis=tuple(axes), keepdims=keep)
        np.testing.assert_allclose(OPS[name](x, given_axes, torch.tensor(keep)), expected, rtol=1e-5, atol=1e-6)


GRIDS = {  # As coremltools documents them.
    "STRICT_ALIGN_CORNERS": lambda n, m, i: i * (n - 1) / max(m - 1, 1),
    "ALIGN_CORNERS": lambda n, m, i: i * (n - 1) / (m - 1) if m > 1 else (n - 1) / 2,
    "DEFAULT": lambda n, m, i: i * (n - n / m) / max(m - 1, 1),
    "OFFSET_CORNERS": lambda n, m, i: 0.5 * max(1, n - 1) / m + i * max(1, n - 1) / m,
    "UNALIGN_CORNERS": lambda n, m, i: i * n / m + 0.5 * n / m - 0.5,
}


@few
@given(st.sampled_from(list(GRIDS)), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), seeds)
def test_bilinear_samples(mode: str, height: int, width: int, tall: int, wide: int, seed: int) -> None:
    image = normal(seed, height, width).numpy()
    for axis, (old, new) in enumerate(((height, tall), (width, wide))):
        points = [GRIDS[mode](old, new, i) for i in range(new)]  # np.interp clamps at both ends, as MIL does
        image = np.apply_along_axis(lambda row, p=points, n=old: np.interp(p, np.arange(n), row), axis, image)
    x = normal(seed, height, width)[None]
    found = OPS["resize_bilinear"](x, ints(tall)[0], ints(wide)[0], mode)
    np.testing.assert_allclose(found[0], image, rtol=1e-5, atol=1e-5)
    both = OPS["resize"](x, ints(tall, wide), torch.tensor(2), "LINEAR", mode)
    assert torch.equal(both, found)


@few
@given(st.lists(st.integers(2, 5), min_size=1, max_size=4), st.data())
def test_padding_is_numpys(shape: list[int], data: st.DataObject) -> None:
    mode, edge = data.draw(st.sampled_from([("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge")]))
    pairs = [(data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))) for n in shape]
    x = np.arange(np.prod(shape)).reshape(shape)
    found = OPS["pad"](torch.from_numpy(x), ints(*(n for pair in pairs for n in pair)), mode, torch.tensor(0.0))
    np.testing.assert_array_equal(found, np.pad(x, pairs, edge))


@few
@given(st.sampled_from(["update", "add", "sub", "mul", "div", "max", "min"]), st.integers(0, 2), st.data(), seeds)
def test_scatter_and_gather(mode: str, axis: int, data: st.DataObject, seed: int) -> None:
    """One by one: repeated places are combined, except where the last of them wins."""
    x = normal(seed, 3, 4, 5)
    unique = mode == "update"
    places = data.draw(st.lists(st.integers(-x.shape[axis], x.shape[axis] - 1), min_size=1, max_size=4,
                                unique_by=(lambda n: n % x.shape[axis]) if unique else None))  # fmt: skip
    updates = normal(seed + 1, *[len(places) if i == axis else n for i, n in enumerate(x.shape)]).abs() + 0.5
    combine = {"update": lambda a, b: b, "add": np.add, "sub": np.subtract, "mul": np.multiply,
               "div": np.divide, "max": np.maximum, "min": np.minimum}[mode]  # fmt: skip
    expected = np.moveaxis(x.numpy().copy(), axis, 0)
    for place, row in zip(places, np.moveaxis(updates.numpy(), axis, 0), strict=True):
        expected[place] = combine(expected[place], row)
    expected = np.moveaxis(expected, 0, axis)
    found = OPS["scatter"](x, ints(*places), updates, ints(axis)[0], mode)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    whole = ints(*places).reshape([-1 if i == axis else 1 for i in range(3)]).expand(updates.shape)
    along = OPS["scatter_along_axis"](x, whole, updates, ints(axis)[0], mode)
    np.testing.assert_allclose(along, expected, rtol=1e-5)
    if axis == 0:
        by_rows = OPS["scatter_nd"](x, ints(*places)[:, None], updates, mode)
        np.testing.assert_allclose(by_rows, expected, rtol=1e-5)
    taken = OPS["gather"](x, ints(*places), ints(axis)[0])
    np.testing.assert_array_equal(taken, np.take(x.numpy(), places, axis))


@few
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), seeds)
def test_blocks_go_and_come_back(batch: int, channels: int, block: int, seed: int) -> None:
    x, size = normal(seed, batch, channels, 2 * block, 3 * block), ints(block)[0]
    assert torch.equal(OPS["depth_to_space"](OPS["space_to_depth"](x, size), size), x)
    assert torch.equal(OPS["pixel_shuffle"](OPS["pixel_unshuffle"](x, size), size), x)
    pad = torch.tensor([[block, 0], [0, block]])
    there = OPS["space_to_batch"](x, ints(block, block), pad)
    assert there.shape[0] == batch * block * block
    assert torch.equal(OPS["batch_to_space"](there, ints(block, block), pad), x)


def test_fp16_is_rounded_once_after_each_op(tmp_path: Path) -> None:
    """A product and a sum in two ops round twice, a long sum in one op once: each is exact in its own way."""
    generator = np.random.default_rng(0)
    given_ = {
        "x": generator.uniform(0, 4, (1, 512)).astype(np.float16),
        "y": generator.uniform(0, 4, (1, 512)).astype(np.float16),
    }

    def build(mb: Any, v: SimpleNamespace) -> Any:
        product = mb.mul(x=v.x, y=v.y, name="product")
        mb.reduce_sum(x=v.x, axes=[1], name="total")
        mb.matmul(x=v.x, y=v.y, transpose_y=True, name="dot")
        return mb.add(x=product, y=v.y, name="sum")

    seen = {name: value for name, (_, value) in observe(save(tmp_path / "h.mlpackage", given_, build), given_).items()}
    assert {value.dtype for value in seen.values()} == {np.dtype(np.float16)}
    x, y = (given_[name].astype(np.float64) for name in ("x", "y"))
    product = (x * y).astype(np.float16)
    np.testing.assert_array_equal(seen["product"], product)
    np.testing.assert_array_equal(seen["sum"], (product + y).astype(np.float16))
    np.testing.assert_array_equal(seen["total"], x.sum(1).astype(np.float16))
    np.testing.assert_array_equal(seen["dot"], (x @ y.T).astype(np.float16))
    # Had the sum been kept in fp16, it would be another.
    assert np.add.accumulate(given_["x"], 1, dtype=np.float16)[0, -1] != seen["total"][0]


@pytest.mark.parametrize(("name", "x", "y", "expected"), [
    ("mod", -7, 3, 2), ("floor_div", -7, 3, -3), ("real_div", -7, 3, -2), ("pow", -3, 3, -27), ("mul", 2**30, 4, 0),
])  # fmt: skip
def test_integers_are_exact(name: str, x: int, y: int, expected: int) -> None:
    assert OPS[name](ints(x), ints(y)).tolist() == [expected]
