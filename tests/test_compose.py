"""Linear maps with nothing between them become one; what is read twice, or would cost more, stays."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn import lower
from edgeattn.lowering import Lowering


class Net(nn.Module):
    """Two convolutions with ``between`` called on what the first gives."""

    def __init__(self, first: nn.Module, second: nn.Module, between: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.first, self.second, self.between = first, second, between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))


def lowered(module: nn.Module, x: Tensor) -> Lowering:
    return lower(module.double().eval(), layout="channels_first", inputs=(x,))


def agree(module: nn.Module, lowering: Lowering, x: Tensor) -> bool:
    with torch.no_grad():
        return bool(torch.allclose(module(x), lowering.module(x), rtol=0, atol=1e-12))


X = torch.randn(2, 4, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("bias", [(True, True), (False, True), (True, False), (False, False)])
@pytest.mark.parametrize(
    "first",
    [
        lambda b: nn.Conv2d(4, 8, 1, bias=b),
        lambda b: nn.Conv2d(4, 40, 3, stride=2, padding=1, bias=b),
        lambda b: nn.Conv2d(4, 40, 3, padding=2, dilation=2, bias=b),
    ],
)
def test_a_convolution_and_the_pointwise_one_that_reads_it(
    first: Callable[[bool], nn.Conv2d], bias: tuple[bool, bool]
) -> None:
    conv = first(bias[0])
    module = Net(conv, nn.Conv2d(conv.out_channels, 6, 1, bias=bias[1]))
    lowering = lowered(module, X)
    assert [c.path for c in lowering.changes] == ["first"]
    assert sum(isinstance(m, nn.Conv2d) for m in lowering.module.modules()) == 1
    assert (next(m for m in lowering.module.modules() if isinstance(m, nn.Conv2d)).bias is not None) == any(bias)
    assert agree(module, lowering, X)


def test_a_chain_is_composed_to_its_end() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1), nn.ReLU())
    lowering = lowered(module, X)
    assert sum(isinstance(m, nn.Conv2d) for m in lowering.module.modules()) == 1
    assert agree(module, lowering, X)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: x.mean((2, 3)),
        lambda x: torch.mean(x, dim=[-2, -1]),
        lambda x: F.dropout(x.mean((-1, -2), keepdim=True).flatten(1), 0.5, training=False),
    ],
)
def test_through_the_mean_over_the_map(pool: Callable[[Tensor], Tensor]) -> None:
    module = Net(nn.Conv2d(4, 16, 1), nn.Linear(16, 5), pool)
    lowering = lowered(module, X)
    assert [c.path for c in lowering.changes] == ["first"]
    assert not any(isinstance(m, nn.Conv2d) for m in lowering.module.modules())
    assert agree(module, lowering, X)


@pytest.mark.parametrize(
    ("second", "between"),
    [
        (nn.Conv2d(8, 6, 1), lambda x: x + 1),
        (nn.Conv2d(8, 6, 1), lambda x: 3 * x / torch.arange(1.0, 9.0)[:, None, None].double() - 2),
        (nn.Linear(8, 6), lambda x: x.permute(0, 2, 3, 1)),
        (nn.Linear(8, 6), lambda x: x.flatten(2).transpose(1, 2)),
    ],
)
def test_through_factors_terms_and_permutations(second: nn.Module, between: Callable[[Tensor], Tensor]) -> None:
    module = Net(nn.Conv2d(4, 8, 1), second, between)
    lowering = lowered(module, X)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in lowering.module.modules()) == 1
    assert agree(module, lowering, X)


@pytest.mark.parametrize(
    ("first", "second", "between"),
    [
        (nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 1), F.relu),
        (nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 1), lambda x: F.max_pool2d(x, 2)),
        (nn.Conv2d(4, 8, 1), nn.Linear(8, 6), lambda x: x.amax((2, 3))),
        (nn.Conv2d(4, 8, 1), nn.Linear(8, 6), lambda x: x.mean((2, 3)).relu()),
        (nn.Conv2d(4, 8, 1), nn.Linear(8, 6), lambda x: x.mean((1, 2))),
        # Zeros around the second one's input are no zeros of the first, which has a bias.
        (nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 3, padding=1), lambda x: x),
        (nn.Conv2d(4, 2, 1), nn.Conv2d(2, 6, 3), lambda x: x),
        (nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 3, groups=2), lambda x: x),
        (nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 6, 1), lambda x: x),
        (nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 1, groups=2), lambda x: x),
        (nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 1, padding=1), lambda x: x),
        # Cheaper apart: a product of 4 by 64 is smaller through 2 channels.
        (nn.Conv2d(4, 2, 1), nn.Conv2d(2, 64, 1), lambda x: x),
    ],
)
def test_what_stays(first: nn.Module, second: nn.Module, between: Callable[[Tensor], Tensor]) -> None:
    lowering = lowered(Net(first, second, between), X)
    assert not lowering.changes
    assert agree(Net(first, second, between), lowering, X)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 3)),
        (nn.Conv2d(4, 8, 1, bias=False), nn.Conv2d(8, 6, 3, padding=1)),
        (nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)),
        (nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 3, dilation=2, bias=False)),
    ],
)
def test_into_a_kernel(first: nn.Module, second: nn.Module) -> None:
    lowering = lowered(Net(first, second, lambda x: x), X)
    assert [change.reason for change in lowering.changes] == [
        "1x1 convolution composed with the kernel that alone reads it: one convolution, fewer multiply-adds"
    ]
    assert sum(isinstance(m, nn.Conv2d) for m in lowering.module.modules()) == 1
    assert agree(Net(first, second, lambda x: x), lowering, X)


class Twice(nn.Module):
    """What the first convolution gives is read by the second, and once more in the way that is asked for."""

    def __init__(self, second: nn.Module, again: str) -> None:
        super().__init__()
        self.first, self.second, self.again = nn.Conv2d(4, 8, 1), second, again

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.first(x)
        z = self.second(y)
        if self.again == "sum":
            return (z.sum() + y.sum(),)
        if self.again == "view":
            return (z, y.flatten(2).amax(2))
        if self.again == "list":
            return (torch.cat([z, y], dim=1),)
        return (z, y)


@pytest.mark.parametrize("again", ["sum", "view", "list", "output"])
@pytest.mark.parametrize("second", [nn.Conv2d(8, 6, 1), nn.BatchNorm2d(8)])
def test_what_is_read_twice_stays(second: nn.Module, again: str) -> None:
    """A BatchNorm too: its convolution's own output is still wanted."""
    module = Twice(second, again).double().eval()
    lowering = lower(module, layout="channels_first", inputs=(X,))
    assert not lowering.changes
    with torch.no_grad():
        result = lowering.module(X)
        results = (result,) if isinstance(result, Tensor) else result
        assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(module(X), results, strict=True))
