"""Branches that are added are one kernel, and two linear maps one matrix; what differs from them a little stays."""

import pytest
import torch
import torch.nn.functional as F
from networks import Function, Made, changed, count, left_alone, together
from torch import nn

from edgeattn.lowering.passes import compose, into_products, merge_branches

G = torch.Generator().manual_seed(0)
X = torch.randn(2, 5, 6, generator=G)  # [B, N, C]
MAP = torch.randn(2, 4, 6, 6, generator=G)


def norm_of(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(*parts, nn.BatchNorm2d(4))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_three_branches_are_one_kernel(groups: int) -> None:
    """RepVGG: 3x3, 1x1 and the input itself, each with a BatchNorm."""
    large, small = nn.Conv2d(4, 4, 3, padding=1, groups=groups), nn.Conv2d(4, 4, 1, groups=groups)
    module = Made(lambda s, x: s.a(x) + s.b(x) + s.c(x), a=norm_of(large), b=norm_of(small), c=norm_of())
    net = changed(module, MAP, by=(into_products, merge_branches))
    assert count(net) == {"Opaque": 1}
    assert [c.path for c in net.changes if "parallel" in c.reason] == ["a.0", "a.0"]


def test_a_low_rank_adaptation_is_one_matrix() -> None:
    parts = {"l": nn.Linear(6, 6), "a": nn.Linear(6, 2, bias=False), "b": nn.Linear(2, 6, bias=False)}
    net = changed(Made(lambda s, x: s.l(x) + s.b(s.a(x)) * 0.5, **parts), X, by=(into_products, merge_branches))
    assert count(net) == {"Linear": 1}


def test_branches_that_stay_apart() -> None:
    functions: list[Function] = [
        lambda s, x: s.a(x) + s.strided(F.pad(x, (0, 6, 0, 6))),  # strides that differ
        lambda s, x: s.a(x) + s.b(x.relu()),
        lambda s, x: s.a(x).relu() + s.b(x),
        lambda s, x: s.a(x) - s.b(x),
        lambda s, x: s.a(x) + s.b(x).transpose(2, 3),
        lambda s, x: s.a(x) + s.grouped(x),
        lambda s, x: (y := s.a(x)) + s.b(x) + y.mean(),
    ]
    layers = {"a": nn.Conv2d(4, 4, 3, padding=1), "b": nn.Conv2d(4, 4, 1), "grouped": nn.Conv2d(4, 4, 1, groups=2)}
    left_alone(together(functions, strided=nn.Conv2d(4, 4, 1, stride=2), **layers), MAP, by=(merge_branches,))


def test_two_linear_maps_are_one_where_that_is_cheaper() -> None:
    net = changed(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), X, by=(compose,))
    assert count(net) == {"Linear": 1}
    assert [c.path for c in net.changes] == ["0"]
    left_alone(nn.Sequential(nn.Linear(6, 2), nn.Linear(2, 8)), X, by=(compose,))
    left_alone(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), X, by=(compose,))
