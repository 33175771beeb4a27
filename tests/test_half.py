"""The form for runtimes that add in fp16: the same function, which keeps digits and range."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeattn import LinearSelfAttention
from edgeattn.export import pipeline, source
from edgeattn.export.quantize._half import LONG, PART, SummedInParts, for_half
from edgeattn.formats import tflite
from edgeattn.lowering import lower
from edgeattn.lowering.forms import normalise_half, normalise_last
from edgeattn.runtimes import litert
from edgeattn.sample_models import mobilevitv2


def added_one_by_one(x: Tensor, weight: Tensor) -> Tensor:
    """[..., K] by [N, K] as XNNPACK's fp16 kernels do it: fp16 products, one after the other, into an fp16 sum."""
    total = torch.zeros(*x.shape[:-1], len(weight), dtype=torch.float16)
    for k in range(x.shape[-1]):
        total = (total.float() + x[..., k : k + 1].half().float() * weight[:, k].half().float()).half()
    return total


@pytest.mark.parametrize("layer", [nn.Linear(LONG + 40, 8), nn.Conv2d(LONG, 8, 1, bias=False)], ids=["linear", "conv"])
def test_a_long_sum_is_added_in_parts(layer: nn.Linear | nn.Conv2d) -> None:
    module = nn.Sequential(layer).double().eval()
    made = for_half(module)
    parts = made[0].parts
    assert [part.weight.shape[1] for part in parts][:-1] == [PART] * (len(parts) - 1)
    x = torch.randn(3, LONG + 40) if isinstance(layer, nn.Linear) else torch.randn(1, LONG, 4, 4)
    assert torch.allclose(made(x.double()), module(x.double()), rtol=1e-12, atol=1e-12)
    assert not isinstance(module[0], SummedInParts)  # the given one is left alone


def test_parts_keep_more_digits_in_fp16() -> None:
    torch.manual_seed(0)
    x, weight = torch.rand(64, 512), torch.randn(32, 512)
    truth = x.half().double() @ weight.half().double().t()

    def lost(total: Tensor) -> float:
        return float((total.double() - truth).square().mean().sqrt())

    whole = added_one_by_one(x, weight)
    in_parts = sum(
        (added_one_by_one(a, b) for a, b in zip(x.split(PART, 1), weight.split(PART, 1), strict=True)),
        torch.zeros(64, 32, dtype=torch.float16),
    )
    assert lost(in_parts) < lost(whole) / 1.5


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(LONG - 1, 4), nn.Conv2d(LONG, 4, 3), nn.Conv2d(LONG, LONG, 1, groups=LONG), nn.Conv2d(LONG, 4, 1, 2)],
    ids=["short", "3x3", "depthwise", "strided"],
)
def test_what_is_left_as_it_is(layer: nn.Module) -> None:
    assert type(for_half(nn.Sequential(layer))[0]) is type(layer)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 3e4])
def test_a_norm_keeps_the_range_of_fp16(scale: float) -> None:
    torch.manual_seed(0)
    # Small enough that torch's own half mean, which adds in fp16, does not round more than what is looked at.
    x = torch.randn(2, 2, 4, 4, 8) * scale
    x = x / x.abs().max() * scale
    epsilon = 1e-5
    axes = [-5, -4, -3, -2, -1]
    exact = normalise_last(x.double(), epsilon, axes)
    assert torch.allclose(normalise_half(x.double(), epsilon, axes), exact, rtol=1e-12, atol=1e-12)
    assert (normalise_half(x.half(), epsilon, axes).double() - exact).abs().max() < 0.02
    if scale >= 1e3:  # where the other form is lost
        plain = normalise_last(x.half(), epsilon, axes).double()
        assert not (plain - exact).abs().max() < 0.5


def test_a_flat_map_is_not_divided_by_zero() -> None:
    flat = torch.full((2, 2, 4, 4, 8), 3.0)
    assert torch.equal(normalise_half(flat.half(), 1e-5, [-5, -4, -3, -2, -1]), torch.zeros_like(flat).half())


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_a_whole_network_is_the_same_in_float64(width: float) -> None:
    module, inputs = mobilevitv2.build(width, image_size=32)
    module = module.double()
    x = inputs["image"].double()
    lowered = lower(module, layout="channels_last", inputs=(x,)).module
    made = for_half(lowered)
    assert any(isinstance(part, SummedInParts) for part in made.modules())
    with torch.no_grad():
        y, truth = made(x), module(x)
    assert (y - truth).abs().max() / truth.abs().max() < 1e-12


def test_attention_alone() -> None:
    layer = LinearSelfAttention(LONG).double().eval()
    x = torch.randn(1, LONG, 4, 6, dtype=torch.float64)
    lowered = lower(layer, layout="channels_last", inputs=(x,)).module
    made = for_half(lowered)
    assert any(isinstance(part, SummedInParts) for part in made.modules())
    assert torch.allclose(made(x), lowered(x), rtol=1e-12, atol=1e-12)


def test_the_artifact_has_it_and_is_one_partition(tmp_path: Path) -> None:
    out = tmp_path / "b"
    options = pipeline.Options(formats=("tflite",), precisions=("fp32", "fp16"))
    made = pipeline.export(source.load("mobilevitv2", ["width=0.5", "image_size=32"]), options, out)
    assert made.report.passed
    full, half = (out / f"mobilevitv2-{precision}.tflite" for precision in ("fp32", "fp16"))
    assert Counter(op.kind for op in tflite.FORMAT.read(half).ops)["ABS"] == 21  # a norm each
    assert "ABS" not in {op.kind for op in tflite.FORMAT.read(full).ops}
    assert litert.partitions(half) == litert.partitions(full) == 1
    assert half.stat().st_size < 0.6 * full.stat().st_size
