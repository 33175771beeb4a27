"""The forms on whole maps: what they compute, and how the lowering writes networks in them."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeattn.errors import LoweringError
from edgeattn.lowering import in_layout, lower
from edgeattn.lowering.map_forms import (
    Cells,
    MapLargest,
    MapMean,
    MapSoftmax,
    MapSum,
    MapTile,
    MapWeightedSum,
    NormaliseMap,
)

LAYOUT = "channels_last_memory"
sides = st.tuples(st.integers(1, 4), st.integers(1, 3))


@st.composite
def cells(draw: st.DrawFn) -> Cells:
    (nh, mh), (nw, mw) = draw(sides), draw(sides)
    return Cells((nh, nw), (mh, mw))


def drawn(cells: Cells, channels: int) -> Tensor:
    """[2, C, H, W], in float64."""
    (nh, nw), (mh, mw) = cells.over, cells.kept
    shape = (2, channels, nh * mh, nw * mw)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def apart(x: Tensor, cells: Cells) -> Tensor:
    """[B, C, nh, mh, nw, mw]: what is kept varies fastest."""
    (nh, nw), (mh, mw) = cells.over, cells.kept
    return x.reshape(*x.shape[:2], nh, mh, nw, mw)


def same(module: nn.Module, expected: Tensor, *inputs: Tensor) -> None:
    with torch.no_grad():
        result = module.double()(*inputs)
    assert result.shape == expected.shape
    assert torch.allclose(result, expected, rtol=1e-12, atol=1e-12)


@given(cells())
@settings(max_examples=60, deadline=None)
def test_each_form_is_its_definition(cells: Cells) -> None:
    x, scores = drawn(cells, 3), drawn(cells, 1)
    weights = apart(scores, cells).softmax(2)  # of anything: not what a softmax over both would give
    y = apart(x, cells)
    same(MapLargest(cells), y.amax((2, 4)), x)
    total = (y * weights).sum((2, 4))
    same(MapWeightedSum(cells), total, x, weights.reshape(scores.shape))
    powers = apart(scores, cells).exp()
    same(MapSoftmax(cells), (powers / powers.sum((2, 4), keepdim=True)).reshape(scores.shape), scores)
    (nh, nw), _ = cells.over, cells.kept
    whole = total[:, :, None, :, None, :].expand(-1, -1, nh, -1, nw, -1).reshape(x.shape)
    same(MapTile(cells), whole, total)
    if not cells.is_interleaved:
        same(MapMean(cells), y.mean((2, 4)), x)
        same(MapSum(cells, 3), y.sum((2, 4)), x)


@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("halves", [False, True])
def test_a_norm(groups: int, places: bool, halves: bool) -> None:
    x = 3 + 5 * torch.randn(2, 8, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    average = torch.full((1, 8), 1 / 8, dtype=torch.float64)
    if groups > 1:
        average = torch.block_diag(*[torch.full((8 // groups,) * 2, groups / 8, dtype=torch.float64)] * groups)
    y = x.reshape(2, groups, 8 // groups, 6, 4)
    axes = (2, 3, 4) if places else (2,)
    deviation = ((y - y.mean(axes, keepdim=True)) ** 2).mean(axes, keepdim=True).add(1e-5).sqrt()
    module = NormaliseMap(1e-5, average, places=places)
    module.halves = halves
    same(module, ((y - y.mean(axes, keepdim=True)) / deviation).reshape(x.shape), x)


def test_in_halves_a_norm_keeps_within_fp16() -> None:
    x = 1e4 * torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    average = torch.full((1, 8), 1 / 8)
    module, exact = NormaliseMap(1e-5, average, places=True), NormaliseMap(1e-5, average.double(), places=True)
    module.halves = True
    with torch.no_grad():
        expected = exact(x.half().double())
        assert (module.half()(x.half()).double() - expected).abs().max() < 0.02
        plain = NormaliseMap(1e-5, average, places=True).half()(x.half())
    assert not torch.isfinite(plain).all() or (plain.double() - expected).abs().max() > 0.1  # what it is kept from


class Network(nn.Module):
    """What is summed, normalised and multiplied in networks with maps."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 16, 3, padding=1), act
        self.norm, self.last = nn.GroupNorm(4, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Any:
        y = self.norm(self.act(self.first(x)))
        y = y / y.norm(dim=1, keepdim=True) + 0.5 * y.sum(1, keepdim=True) - y.mean((2, 3), keepdim=True)
        return y, self.last(y.amax((2, 3)))


@pytest.mark.parametrize("act", [nn.SiLU(), nn.GELU(), nn.Hardswish()])
def test_networks_keep_their_maps(act: nn.Module) -> None:
    torch.manual_seed(0)
    module, x = Network(act).eval(), torch.randn(1, 3, 8, 8)
    lowered = lower(module, layout=LAYOUT, inputs=(x,))
    assert not [change for change in lowered.changes if "not lowered" in change.reason]
    kinds = {str(node.target) for node in lowered.module.graph.nodes if node.op == "call_function"}  # type: ignore[union-attr]
    assert not {kind for kind in kinds if "permute" in kind}
    with torch.no_grad():
        for result, expected in zip(lowered.module(in_layout(x, LAYOUT)), module(x), strict=True):
            assert torch.allclose(result, expected, atol=1e-5)


def test_layouts_have_names() -> None:
    with pytest.raises(LoweringError, match="channels_last_memory"):
        lower(nn.Identity().eval(), layout="nchw", inputs=(torch.randn(1, 3, 8, 8),))  # type: ignore[arg-type]
