"""Compressed weights of every kind that coremltools writes, from saved files."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mil_programs import observe, save
from torch import nn

from edgeattn.formats.mil.ops.weights import constexpr_blockwise_shift_scale, constexpr_lut_to_dense
from edgeattn.formats.mil.package import is_constant, main_function, read_spec
from edgeattn.formats.mil.registry import OPS
from edgeattn.formats.mil.values import unpack
from edgeattn.runtimes import mil_reference
from edgeattn.system.output import quiet

X = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
# The smallest weight of the net has 864 elements.
COMMON = {"weight_threshold": 100}
GROUPS = {"granularity": "per_grouped_channel", "group_size": 8}
SPARSE = ("prune", {"target_sparsity": 0.6})

# Steps, and the ops that they leave in the file. "old" is iOS 16, whose ops are others than iOS 18's.
Steps = tuple[tuple[str, dict[str, Any]], ...]
KINDS: dict[str, tuple[Steps, set[str]]] = {
    "old int8": ((("quantize", {"mode": "linear_symmetric"}),), {"constexpr_affine_dequantize"}),
    "old uint8": ((("quantize", {"mode": "linear", "dtype": "uint8"}),), {"constexpr_affine_dequantize"}),
    "old 4 bits": ((("palettize", {"nbits": 4, "mode": "uniform"}),), {"constexpr_lut_to_dense"}),
    "old 6 bits": ((("palettize", {"nbits": 6, "mode": "uniform"}),), {"constexpr_lut_to_dense"}),
    "old sparse": ((SPARSE,), {"constexpr_sparse_to_dense"}),
    "int8": ((("quantize", {"mode": "linear_symmetric"}),), {"constexpr_blockwise_shift_scale"}),
    "int4 in blocks": (
        (("quantize", {"mode": "linear", "dtype": "int4", "granularity": "per_block", "block_size": 16}),),
        {"constexpr_blockwise_shift_scale"},
    ),
    **{
        f"{bits} bits in groups": (
            (("palettize", {"nbits": bits, "mode": "uniform", **GROUPS}),),
            {"constexpr_lut_to_dense"},
        )
        for bits in (1, 2, 3, 4, 6, 8)
    },
    "vectors": ((("palettize", {"nbits": 4, "mode": "kmeans", "cluster_dim": 2}),), {"constexpr_lut_to_dense"}),
    "sparse": ((SPARSE,), {"constexpr_sparse_to_dense"}),
    "sparse int8": (
        (SPARSE, ("quantize", {"mode": "linear_symmetric"})),
        {"constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"},
    ),
    "sparse 4 bits": (
        (SPARSE, ("palettize", {"nbits": 4, "mode": "uniform"})),
        {"constexpr_lut_to_sparse", "constexpr_sparse_to_dense"},
    ),
    "4 bits with an int8 table": (
        (
            ("palettize", {"nbits": 4, "mode": "uniform"}),
            ("quantize", {"mode": "linear_symmetric", "granularity": "per_tensor"}),
        ),
        {"constexpr_blockwise_shift_scale", "constexpr_lut_to_dense"},
    ),
}


@pytest.fixture(scope="module")
def models() -> dict[bool, Any]:
    """A small net as coremltools converts it, for iOS 16 (True) and iOS 18."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 32),
    ).eval()  # fmt: skip
    with quiet():
        import coremltools as ct

        program = torch.export.export(net, (X,)).run_decompositions({})
        return {
            old: ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS16 if old else ct.target.iOS18,
                compute_precision=ct.precision.FLOAT32,
            )
            for old in (True, False)
        }


def compress(model: Any, steps: Steps) -> Any:
    import coremltools.optimize.coreml as cto

    kinds = {
        "quantize": (cto.linear_quantize_weights, cto.OpLinearQuantizerConfig),
        "palettize": (cto.palettize_weights, cto.OpPalettizerConfig),
        "prune": (cto.prune_weights, cto.OpMagnitudePrunerConfig),
    }
    for number, (kind, options) in enumerate(steps):
        function, config = kinds[kind]
        together = {"joint_compression": True} if number else {}
        model = function(model, cto.OptimizationConfig(config(**COMMON, **options)), **together)
    return model


def run(model: Any, path: Path) -> tuple[np.ndarray, set[str]]:
    with quiet():
        model.save(str(path))
    _, block = main_function(read_spec(path))
    with mil_reference.opened(path) as session:
        (result,) = session.run({next(iter(session.signature.inputs)): X.numpy()}).values()
    return result, {op.type for op in block.operations if is_constant(op)} - {"const"}


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_weights_are_what_coremltools_makes_of_them(
    kind: str, models: dict[bool, Any], tmp_path: Path
) -> None:
    steps, ops = KINDS[kind]
    with quiet():
        import coremltools.optimize.coreml as cto

        model = compress(models[kind.startswith("old")], steps)
        dense = cto.decompress_weights(model)
    found, kinds = run(model, tmp_path / "small.mlpackage")
    expected, none = run(dense, tmp_path / "dense.mlpackage")
    plain, _ = run(models[kind.startswith("old")], tmp_path / "plain.mlpackage")
    assert kinds == ops
    assert none == set()
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - plain).max() > 1e-5  # it was really compressed


def test_every_kind_of_compressed_weight_has_a_case() -> None:
    assert {op for _, ops in KINDS.values() for op in ops} | {"constexpr_cast"} == {
        name for name in OPS if name.startswith("constexpr_")
    }


def test_cast_weights_and_int8_activations(tmp_path: Path) -> None:
    """Weights and activations in int8, as coremltools writes them; its own tool needs macOS to calibrate."""
    generator = np.random.default_rng(0)
    given_ = {"x": generator.standard_normal((2, 8)).astype(np.float32)}
    half = generator.standard_normal((5, 8)).astype(np.float16)
    codes = generator.integers(-128, 128, (5, 8)).astype(np.int8)
    scales = generator.uniform(0.01, 0.1, 5).astype(np.float32)

    def build(mb: Any, v: SimpleNamespace) -> Any:
        weight = mb.constexpr_affine_dequantize(
            quantized_data=codes, zero_point=np.int8(0), scale=scales, axis=np.int32(0), name="weight"
        )
        cast = mb.constexpr_cast(source_val=half, output_dtype="fp32", name="cast")
        steps = mb.quantize(input=v.x, scale=np.float32(0.03), output_dtype="int8", name="steps")
        rounded = mb.dequantize(input=steps, scale=np.float32(0.03), name="rounded")
        mb.linear(x=v.x, weight=cast, name="plain")
        return mb.linear(x=rounded, weight=weight, name="small")

    seen = observe(save(tmp_path / "w8a8.mlpackage", given_, build, "iOS17"), given_)
    steps = np.clip(np.round(given_["x"] / np.float32(0.03)), -128, 127).astype(np.int64)
    exact = (steps @ codes.T.astype(np.int64)) * scales.astype(np.float64) * 0.03
    np.testing.assert_allclose(seen["small"][1], exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(seen["plain"][1], given_["x"] @ half.T.astype(np.float32), rtol=1e-5, atol=1e-5)


@settings(max_examples=40)
@given(st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 50), st.booleans(), st.integers(0, 999))
def test_packed_bits(bits: int, count: int, signed: bool, seed: int) -> None:
    from coremltools.optimize._utils import pack_elements_into_bits

    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    values = np.random.default_rng(seed).integers(low, high, count).astype(np.int8 if signed else np.uint8)
    packed = pack_elements_into_bits(values, bits)
    np.testing.assert_array_equal(unpack(packed, bits, count, signed=signed), values)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=4), st.data())
def test_blocks(axes: list[tuple[int, int]], data: st.DataObject) -> None:
    """Element by element, for any number of blocks on any axis, and vectors along any of them."""
    seed, bits, length = data.draw(st.integers(0, 999)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    generator = np.random.default_rng(seed)
    blocks, shape = [b for b, _ in axes], [b * n for b, n in axes]
    codes = generator.integers(0, 2**bits, shape).astype(np.uint8)
    scale, offset = generator.standard_normal(blocks).astype(np.float32), generator.integers(0, 9, blocks)
    table = generator.standard_normal((*blocks, 2**bits, length)).astype(np.float32)
    axis = data.draw(st.integers(-len(axes), len(axes) - 1))
    tensors = [torch.from_numpy(a) for a in (codes, scale, offset.astype(np.uint8), table)]
    shifted = constexpr_blockwise_shift_scale(*tensors[:3])
    looked_up = constexpr_lut_to_dense(tensors[0], tensors[3], vector_axis=torch.tensor(axis))
    for place in np.ndindex(*shape):
        block = tuple(i // n for i, (_, n) in zip(place, axes, strict=True))
        assert shifted[place] == scale[block] * (np.float32(codes[place]) - np.float32(offset[block]))
        for k in range(length):
            there = list(place)
            there[axis] = place[axis] * length + k
            assert looked_up[tuple(there)] == table[(*block, codes[place], k)]
