"""A product with a column of ones, as a product and a sum; and concatenations with constants."""

import pytest
import torch
import torch.nn.functional as F
from networks import Function, Made, changed, count, left_alone, lively, network, together
from torch import Tensor, nn

from edgeattn import lower
from edgeattn.layout import Layout
from edgeattn.lowering.passes import rewrite
from edgeattn.lowering.passes.slices import cut_before
from edgeattn.lowering.writing import emit

LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
G = torch.Generator().manual_seed(0)
X = torch.randn(2, 7, 5, generator=G).double()
MAP = torch.randn(1, 4, 6, 6, generator=G).double()


def summed(s: Made, x: Tensor, joined: Tensor, place: slice, ones: slice) -> Tensor:
    y = x.relu() @ (x.relu().mT @ joined)
    return y[..., place] / (y[..., ones] + 1e-3)


JOINED: dict[str, Function] = {
    "padded": lambda s, x: summed(s, x, F.pad(x, (0, 1), value=1.0), slice(None, -1), slice(-1, None)),
    "padded in front": lambda s, x: summed(s, x, F.pad(x, (1, 0), value=1.0), slice(1, None), slice(0, 1)),
    "joined": lambda s, x: summed(
        s, x, torch.cat([x, torch.ones_like(x[..., :1])], -1), slice(0, 5), slice(5, 6)),
    "with other values": lambda s, x: summed(s, x, torch.cat([x, x.sin()], -1), slice(0, 5), slice(5, 10)),
}  # fmt: skip
NOT_CUT: dict[str, Function] = {
    "twos": lambda s, x: summed(s, x, F.pad(x, (0, 1), value=2.0), slice(None, -1), slice(-1, None)),
    "across": lambda s, x: summed(s, x, F.pad(x, (0, 1), value=1.0), slice(1, None), slice(-1, None)),
    "every second": lambda s, x: summed(s, x, torch.cat([x, x.sin()], -1), slice(0, 5, 2), slice(9, 10)),
    "read whole": lambda s, x: (y := x.relu() @ F.pad(x.mT, (0, 1), value=1.0))[..., :-1] * y.amax((1, 2), True),
    "rows": lambda s, x: (x.relu() @ torch.cat([x, x.sin()], 1).mT)[:, :4],
}


@pytest.mark.parametrize("spelling", JOINED)
def test_what_is_cut_again_is_not_joined(spelling: str) -> None:
    net = changed(nn.Sequential(nn.Tanh(), Made(JOINED[spelling])), X, by=(cut_before,))
    counts = count(net)
    assert not {"Concat", "Slice"} & counts.keys()
    assert counts["Contract"] == (4 if spelling == "with other values" else 3)


def test_what_has_to_be_joined() -> None:
    left_alone(together(NOT_CUT.values()), X, by=(cut_before,))


class LinearAttention(nn.Module):
    """As in timm's EfficientViT: query, key and value side by side for each head, and a column of ones."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.qkv, self.more = (
            nn.Conv2d(4, 3 * heads * dim, 1),
            nn.Conv2d(3 * heads * dim, 3 * heads * dim, 3, padding=1),
        )
        self.out = nn.Conv2d(2 * heads * dim, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        y = self.qkv(x)
        y = torch.cat([y, self.more(y)], 1).reshape(b, 2 * self.heads, 3 * self.dim, h * w).transpose(-1, -2)
        q, k, v = y.chunk(3, -1)
        z = q.relu() @ (k.relu().mT @ F.pad(v, (0, 1), value=1.0))
        z = z[..., :-1] / (z[..., -1:] + 1e-5)
        return x + self.out(z.transpose(-1, -2).reshape(b, -1, h, w))


@pytest.mark.parametrize(("layout", "permutations", "reshapes"), [("channels_first", 1, 2), ("channels_last", 2, 3)])
def test_linear_attention(layout: Layout, permutations: int, reshapes: int) -> None:
    module = lively(LinearAttention(2, 3))
    net = network(module, MAP)
    rewrite(net)
    graph, moved = emit(net, layout)
    with torch.no_grad():
        torch.testing.assert_close(graph(MAP), module(MAP), rtol=1e-10, atol=1e-10)
    assert moved == permutations
    assert sum(node.target is torch.ops.aten.reshape.default for node in graph.graph.nodes) <= reshapes
    x = torch.randn(3, 4, 6, 6, generator=G).double()
    free = lower(module, layout=layout, inputs=(MAP,), dynamic_batch=True).module
    with torch.no_grad():
        torch.testing.assert_close(free(x), module(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_concatenation_of_maps_keeps_their_shape(layout: Layout) -> None:
    def forward(s: Made, x: Tensor) -> Tensor:
        y = torch.cat([s.c(x).relu(), x, torch.full_like(x[:, :2], 3.0)], 1)
        return s.d(F.pad(y, (1, 0), value=0.5))

    module = lively(Made(forward, c=nn.Conv2d(4, 3, 1), d=nn.Conv2d(9, 2, 3)))
    net = network(module, MAP)
    rewrite(net)
    graph, moved = emit(net, layout)
    with torch.no_grad():
        torch.testing.assert_close(graph(MAP), module(MAP), rtol=1e-10, atol=1e-10)
    assert moved == 0
    assert not [node for node in graph.graph.nodes if node.target is torch.ops.aten.reshape.default]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("free", [False, True])
def test_a_class_token(layout: Layout, free: bool) -> None:
    def forward(s: Made, x: Tensor) -> Tensor:
        tokens = torch.cat([s.token.expand(x.shape[0], -1, -1), s.c(x).flatten(2).mT], 1)
        return s.l(tokens.tanh())[:, 0]

    module = Made(forward, c=nn.Conv2d(4, 6, 3, stride=3), l=nn.Linear(6, 5))
    module.token = nn.Parameter(torch.randn(1, 1, 6, generator=G))
    module = lively(module)
    lowered = lower(module, layout=layout, inputs=(MAP,), dynamic_batch=free).module
    x = torch.randn(3 if free else 1, 4, 6, 6, generator=G).double()
    with torch.no_grad():
        torch.testing.assert_close(lowered(x), module(x), rtol=1e-10, atol=1e-10)
