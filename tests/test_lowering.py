import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeattn import LinearSelfAttention, lower
from edgeattn.errors import LoweringError
from edgeattn.layout import Layout
from edgeattn.lowering import to_channels_first, to_channels_last
from edgeattn.lowering.passes.attention import KEY_FOLDED

LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
X = torch.zeros(1, 4, 2, 5)


class Network(nn.Module):
    """The layer twice (the same one), inside something else."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.blocks = nn.ModuleList([LinearSelfAttention(6), nn.ReLU()])
        self.again = self.blocks[0]

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[1](self.blocks[0](self.stem(x)))
        return self.again(x)


def run(module: nn.Module, inputs: list[Tensor], layout: str) -> Tensor:
    with torch.no_grad():
        if layout == "channels_first":
            return module(*inputs)
        return to_channels_first(module(*map(to_channels_last, inputs)))


@settings(max_examples=30)
@given(
    st.sampled_from(LAYOUTS), st.integers(1, 3), st.integers(1, 24), st.integers(1, 5), st.integers(1, 40),
    st.integers(1, 40), st.booleans(), st.booleans(), st.floats(0.1, 30), st.integers(0, 2**31),
)  # fmt: skip
def test_exact_in_float64(
    layout: Layout,
    batch: int,
    d: int,
    pixels: int,
    n: int,
    m: int,
    bias: bool,
    cross: bool,
    scale: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layer = LinearSelfAttention(d, bias=bias).double().eval()
    inputs = [scale * torch.randn(batch, d, pixels, k, dtype=torch.float64) for k in ((n, m) if cross else (n,))]
    lowering = lower(layer, layout=layout, inputs=inputs)
    assert bool(lowering.changes) == (inputs[-1].shape[-1] > 1)  # one patch has no scores
    expected = layer(*inputs).detach()
    found = run(lowering.with_edges(layout), inputs, layout)
    # Not divided by the largest output: one channel without a bias may be all zeros behind the relu.
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_with_the_layer_inside(layout: Layout) -> None:
    torch.manual_seed(0)
    network = Network().double().eval()
    x = torch.randn(2, 3, 4, 9, dtype=torch.float64)
    before = copy.deepcopy(network.state_dict())
    lowering = lower(network, layout=layout, inputs=(x,))
    folded = [change.path for change in lowering.changes if change.reason == KEY_FOLDED]
    assert len(folded) == len(lowering.module(x).shape) - 2 == 2
    torch.testing.assert_close(lowering.module(x), network(x), rtol=1e-12, atol=1e-12)
    # The original is untouched, and shares nothing with the result.
    assert isinstance(network.again, LinearSelfAttention)
    with torch.no_grad():
        for parameter in lowering.module.parameters():
            parameter.zero_()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_broken_lowering_would_be_seen(layout: Layout) -> None:
    torch.manual_seed(0)
    layer = LinearSelfAttention(8).double().eval()
    x = torch.randn(1, 8, 2, 5, dtype=torch.float64)
    module = lower(layer, layout=layout, inputs=(x,)).module
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            parameter.add_(1e-8)
            assert (module(x) - layer(x)).abs().max() / layer(x).abs().max() > 1e-12, name
            parameter.sub_(1e-8)


def test_edges_can_be_chosen() -> None:
    torch.manual_seed(0)
    layer, x = LinearSelfAttention(8).double().eval(), torch.randn(1, 8, 2, 5, dtype=torch.float64)
    for layout in LAYOUTS:
        lowering = lower(layer, layout=layout, inputs=(x,))
        for edge in LAYOUTS:
            torch.testing.assert_close(run(lowering.with_edges(edge), [x], edge), layer(x), rtol=1e-12, atol=1e-12)


def test_nothing_to_lower_comes_back_unchanged_and_says_so() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval()
    x = torch.randn(1, 3, 4, 4)
    lowering = lower(module, layout="channels_last", inputs=(x,))
    assert not lowering.changes
    assert lowering.module is not module
    assert torch.allclose(lowering.module(x), module(x), rtol=0, atol=1e-6)


def test_training_mode_is_refused() -> None:
    with pytest.raises(LoweringError, match="training mode"):
        lower(LinearSelfAttention(4).train(), layout="channels_first", inputs=(X,))
    half_trained = nn.Sequential(LinearSelfAttention(4)).eval()
    half_trained[0].attn_drop.train()
    with pytest.raises(LoweringError, match="training mode"):
        lower(half_trained, layout="channels_first", inputs=(X,))


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(LoweringError, match="channels_first, channels_last, channels_last_memory"):
        lower(LinearSelfAttention(4).eval(), layout="sideways", inputs=(X,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 4, 1), (1, 3, 8, 8)),
        (nn.Conv2d(4, 4, 1), (1, 4, 8, 8)),
        (nn.Linear(4, 4), (1, 4)),
        (nn.BatchNorm2d(4), (1, 4, 8, 8)),
        (nn.ConvTranspose2d(4, 4, 2), (1, 4, 8, 8)),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Module) else "",
)
def test_a_single_layer_is_not_composed_with_itself(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """It reads its own output, in a manner of speaking: the root gives back what it computes."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layer = layer.eval()
    lowered = lower(layer, layout="channels_first", inputs=(x,)).module
    assert torch.allclose(lowered(x), layer(x), rtol=1e-5, atol=1e-6)
