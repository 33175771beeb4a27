"""Multi-head attention: what a layer of it still moves, in both layouts, for several ways of writing it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import Made, lively, network
from torch import Tensor, nn
from torch.nn import functional as F

from edgeattn import lower
from edgeattn.layout import Layout
from edgeattn.lowering import forms
from edgeattn.lowering.passes import rewrite
from edgeattn.lowering.writing import emit

C, HEADS, D = 12, 3, 4
LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")


def split(x: Tensor) -> Tensor:
    """[B, N, C] to [B, heads, N, d]."""
    return x.unflatten(2, (HEADS, D)).transpose(1, 2)


def projected(s: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = s.qkv(x).chunk(3, 2)
    return split(q), split(k), split(v)


def merged(s: Any, y: Tensor) -> Tensor:
    out: Tensor = s.out(y.transpose(1, 2).flatten(2))
    return out


def by_hand(s: Any, x: Tensor) -> Tensor:
    q, k, v = projected(s, x)
    return merged(s, (q @ k.mT * D**-0.5).softmax(-1) @ v)


def by_function(s: Any, x: Tensor) -> Tensor:
    return merged(s, F.scaled_dot_product_attention(*projected(s, x)))


def by_einsum(s: Any, x: Tensor) -> Tensor:
    q, k, v = (t.unflatten(2, (HEADS, D)) for t in s.qkv(x).chunk(3, 2))
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k).mul(D**-0.5).softmax(-1)
    return s.out(torch.einsum("bhnm,bmhd->bnhd", scores, v).flatten(2))  # type: ignore[no-any-return]


def with_a_bias(s: Any, x: Tensor) -> Tensor:
    q, k, v = projected(s, x)
    return merged(s, (q @ k.mT * D**-0.5 + s.bias).softmax(-1) @ v)


def over_channels(s: Any, x: Tensor) -> Tensor:
    """Cross-covariance attention: the scores are between the channels of a head."""
    q, k, v = (F.normalize(t.mT, dim=-1) if i < 2 else t.mT for i, t in enumerate(projected(s, x)))
    return merged(s, ((q @ k.mT).softmax(-1) @ v).mT)


WAYS = {
    "by hand": by_hand, "by function": by_function, "by einsum": by_einsum, "with a bias": with_a_bias,
    "over channels": over_channels,
}  # fmt: skip


def layer(forward: Callable[..., Any]) -> nn.Module:
    bias = nn.Parameter(torch.randn(HEADS, 1, 5, generator=torch.Generator().manual_seed(1)))
    module = Made(forward, qkv=nn.Linear(C, 3 * C), out=nn.Linear(C, C), norm=nn.LayerNorm(C))
    module.bias = bias
    return lively(module)


def written(module: nn.Module, x: Tensor, layout: Layout) -> tuple[nn.Module, int]:
    """The graph and its permutations; its values are the module's."""
    module, x = module.double(), x.double()
    net = network(module, x)
    rewrite(net)
    graph, permutations = emit(net, layout)
    with torch.no_grad():
        for y in (x, x.flip(1) + 1):
            torch.testing.assert_close(graph(y), module(y), rtol=1e-10, atol=1e-10)
    return graph, permutations


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", WAYS)
def test_only_the_keys_are_turned(way: str, layout: Layout, batch: int) -> None:
    """A product of rows with rows needs one of them as columns; converters that have a flag for it move nothing."""
    x = torch.randn(batch, 5, C, generator=torch.Generator().manual_seed(2))
    module = layer(lambda s, x: x + WAYS[way](s, s.norm(x)))
    graph, permutations = written(module, x, layout)
    assert permutations == 1
    assert any(isinstance(m, forms.ToHeads) for m in graph.modules())


def unfolded(s: Any, x: Tensor) -> Tensor:
    """MobileViT: tokens of the same place in each patch, [B * 4, patches, C]; back to a map at the end."""
    x = s.conv(x)
    b, _, h, w = x.shape
    y = x.reshape(b * C, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3).reshape(b, C, 4, -1).permute(0, 2, 3, 1)
    y = y.reshape(b * 4, -1, C)
    for _ in range(3):
        y = y + WAYS["by function"](s, s.norm(y))
    y = y.reshape(b, 4, -1, C).permute(0, 3, 1, 2).reshape(b * C, 2, 2, h // 2, w // 2).permute(0, 3, 1, 4, 2)
    return s.last(y.reshape(b, C, h, w))  # type: ignore[no-any-return]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_patches_that_lie_apart_are_put_together_once(layout: Layout, batch: int) -> None:
    """Into the order of the tokens, and out of it; between, each of three layers turns its keys alone."""
    module = layer(unfolded)
    module.conv, module.last = nn.Conv2d(4, C, 3, padding=1), nn.Conv2d(C, 4, 3, padding=1)
    x = torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    _, permutations = written(module, x, layout)
    assert permutations == 2 + 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_number_of_samples(layout: Layout) -> None:
    module = layer(lambda s, x: x + by_function(s, s.norm(x))).float()
    lowered = lower(module, layout=layout, inputs=(torch.randn(1, 5, C),), dynamic_batch=True)
    assert not any("not lowered" in change.reason for change in lowered.changes)
    for batch in (1, 2, 3, 5):
        x = torch.randn(batch, 5, C, generator=torch.Generator().manual_seed(batch))
        torch.testing.assert_close(lowered.module(x), module(x), rtol=1e-5, atol=1e-5)
