"""From named axes to a graph in one layout: what moves is counted, and weights are permuted in place of values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Made, lively, network
from torch import Tensor, fx, nn

from edgeattn import lower
from edgeattn.formats import FORMATS, Job
from edgeattn.inspection.inspect import inspect
from edgeattn.layout import Layout
from edgeattn.lowering.passes import rewrite
from edgeattn.lowering.writing import emit

LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
PIXELS = (torch.ops.aten.pixel_shuffle.default, torch.ops.aten.pixel_unshuffle.default)
G = torch.Generator().manual_seed(0)
X = torch.randn(2, 5, 6, generator=G).double()
MAP = torch.randn(2, 4, 6, 6, generator=G).double()


def written(module: nn.Module, x: Tensor, layout: Layout) -> tuple[fx.GraphModule, int]:
    """The graph and its permutations; its values are the module's, on other inputs too."""
    net = network(module, x)
    rewrite(net)
    graph, permutations = emit(net, layout)
    with torch.no_grad():
        for y in (x, x.flip(1) + 1):
            expected, found = module(y), graph(y)
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    return graph, permutations


def permutes(graph: fx.GraphModule) -> list[list[int]]:
    permute = torch.ops.aten.permute.default
    return [list(node.args[1]) for node in graph.graph.nodes if node.target is permute]  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_permutation_that_is_needed_is_counted(layout: Layout) -> None:
    graph, permutations = written(Made(lambda s, x: x.relu().transpose(1, 2).flatten(1)), X, layout)
    assert permutations == len(permutes(graph)) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: x.relu().transpose(1, 2).exp().transpose(1, 2),
        lambda s, x: x.transpose(1, 2).sum(1),
        lambda s, x: x.mT.softmax(1).mT,
        lambda s, x: s.norm(x.mT.relu().mT),
    ],
)
def test_permutations_that_are_only_names_are_not_written(layout: Layout, function: Callable[..., Any]) -> None:
    graph, permutations = written(Made(function, norm=nn.LayerNorm(6)), X, layout)
    assert permutations == len(permutes(graph)) == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_weights_are_permuted_in_place_of_the_values(layout: Layout) -> None:
    """The classifier reads the map channels-first, or as [H, W, C], as it lies."""
    module = Made(lambda s, x: s.l(s.conv(x).relu().flatten(1)), conv=nn.Conv2d(4, 3, 3), l=nn.Linear(48, 2))
    graph, permutations = written(module, MAP, layout)
    assert permutations == 0
    (weight,) = (m.weight for m in graph.modules() if isinstance(m, nn.Linear))
    own = module.l.weight.reshape(2, 3, 16)
    expected = own if layout == "channels_first" else own.transpose(1, 2)
    assert torch.equal(weight, expected.reshape(2, 48))


def test_channels_last_keeps_a_map_as_it_lies() -> None:
    """Between an input and an output in their own layout, there are only the transposes that a converter takes away."""
    module = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1))
    graph, permutations = written(module, MAP, "channels_last")
    assert permutations == 0
    assert all(order in ([0, 2, 3, 1], [0, 3, 1, 2]) for order in permutes(graph))
    assert not permutes(written(module, MAP, "channels_first")[0])


@pytest.mark.parametrize(
    ("norm", "x", "layout", "native"),
    [
        (nn.LayerNorm(6), X, "channels_first", True),
        (nn.LayerNorm(6), X, "channels_last", True),
        (nn.GroupNorm(2, 4), MAP, "channels_first", True),
        (nn.GroupNorm(2, 4), MAP, "channels_last", False),
    ],
)
def test_norms_are_pytorchs_own_where_they_lie_so(norm: nn.Module, x: Tensor, layout: Layout, native: bool) -> None:
    graph, permutations = written(nn.Sequential(nn.Tanh(), norm), x, layout)
    assert permutations == 0
    assert any(type(m) is type(norm) for m in graph.modules()) is native


def test_a_norm_over_the_channels_is_one_operator_in_core_ml(tmp_path: Path) -> None:
    norm = Made(lambda s, x: s.n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), n=lively(nn.LayerNorm(4)))
    graph, permutations = written(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), norm, nn.Tanh()), MAP, "channels_first")
    assert permutations == 0
    path = tmp_path / "m.mlpackage"
    FORMATS.get("coreml").convert(Job(graph.float(), {"x": MAP.float()}, ("y",)), path)
    assert inspect(path).operators["layer_norm"] == 1


SHUFFLES: dict[str, tuple[Callable[[], nn.Module], int]] = {  # and the permutations that are left
    "up": (lambda: nn.Sequential(nn.Conv2d(4, 12, 3), nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(3, 4, 3)), 1),
    "up at the end": (lambda: nn.Sequential(nn.Conv2d(4, 18, 3), nn.PixelShuffle(3)), 1),
    "up, one channel": (lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.PixelShuffle(2), nn.Tanh()), 1),
    "up, two readers": (lambda: Made(two_readers, c=nn.Conv2d(4, 8, 1), d=nn.Conv2d(2, 4, 1)), 1),
    "down": (lambda: nn.Sequential(nn.Conv2d(4, 3, 1), nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 3, bias=False)), 1),
    "down, in groups": (lambda: nn.Sequential(nn.PixelUnshuffle(3), nn.Conv2d(36, 36, 2, groups=36)), 1),
    "channels": (lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.GELU(), nn.ChannelShuffle(2), depthwise(6)), 0),
    "channels, no bias": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.ChannelShuffle(3), depthwise(6)), 0),
    "channels, before a convolution": (lambda: nn.Sequential(nn.ChannelShuffle(2), nn.Conv2d(4, 3, 3)), 0),
    "channels, in and out": (
        lambda: nn.Sequential(nn.ChannelShuffle(2), nn.Conv2d(4, 6, 3), nn.ChannelShuffle(3), depthwise(6)), 0),
}  # fmt: skip


def depthwise(channels: int) -> nn.Module:
    return nn.Conv2d(channels, channels, 3, groups=channels)


def two_readers(s: Made, x: Tensor) -> Tensor:
    y = nn.functional.pixel_shuffle(s.c(x), 2)
    return s.d(y) * y.mean((1, 2, 3), keepdim=True)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SHUFFLES)
def test_shuffles_are_an_order_of_weights_as_far_as_they_can(name: str, layout: Layout, free: bool) -> None:
    make, expected = SHUFFLES[name]
    module = lively(make())
    if free:
        lowered = lower(module, layout=layout, inputs=(MAP,), dynamic_batch=True)
        graph, x = lowered.module, torch.randn(3, *MAP.shape[1:], generator=G).double()
        with torch.no_grad():
            torch.testing.assert_close(graph(x), module(x), rtol=1e-10, atol=1e-10)
        return
    graph, permutations = written(module, MAP, layout)
    assert permutations <= expected
    if name != "down, in groups":
        assert all(len(order) == 4 for order in permutes(graph))  # what a phone's GPU takes
    shuffles = [n for n in graph.graph.nodes if n.target in PIXELS]
    assert len(shuffles) == (expected if layout == "channels_first" else 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_with_expanded_dimensions(layout: Layout) -> None:
    module = Made(lambda s, x: s.l(x).mean(1, keepdim=True).expand(-1, 7, -1), l=nn.Linear(6, 3))
    assert written(module, X, layout)[1] == 0
    wide = Made(lambda s, x: s.conv(x).mean((2, 3), True).expand(-1, -1, 5, 7), conv=nn.Conv2d(4, 3, 1))
    assert written(wide, MAP, layout)[1] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_of_free_size(layout: Layout) -> None:
    def forward(s: Made, x: Tensor) -> Tensor:
        tokens = s.conv(x).flatten(2).mT
        return (s.l(tokens).view(len(x), 9, 2, 4).transpose(1, 2) * 2).softmax(-1).transpose(1, 2).flatten(2)

    module = lively(Made(forward, conv=nn.Conv2d(4, 6, 2, stride=2), l=nn.Linear(6, 8)))
    lowering = lower(module, layout=layout, inputs=(MAP[:1],), dynamic_batch=True)
    assert not any(c.after == "as it is" for c in lowering.changes)
    with torch.no_grad():
        for batch in (1, 2, 5):
            x = torch.randn(batch, 4, 6, 6, dtype=torch.float64)
            torch.testing.assert_close(lowering.module(x), module(x), rtol=1e-10, atol=1e-10)


def test_a_batch_that_is_not_free_is_said() -> None:
    module = Made(lambda s, x: x.reshape(6, 10).relu()).double().eval()
    lowering = lower(module, layout="channels_first", inputs=(X,), dynamic_batch=True)
    assert [c.reason.startswith("not lowered: it cannot take another batch") for c in lowering.changes] == [True]
