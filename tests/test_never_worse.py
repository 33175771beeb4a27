"""The lowering may fail to help; it never gives another function, and never stops an export that works without it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import Made
from torch import Tensor, nn

from edgeattn import lower
from edgeattn.errors import LoweringError
from edgeattn.lowering import rewrite
from edgeattn.lowering.reading import builder, products

X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))


def reason(module: nn.Module, *inputs: Tensor, equal: bool = True, **options: Any) -> str:
    """Why a module is exported as it is; empty if it is not. Its values are the module's either way."""
    lowering = lower(module.eval(), layout="channels_first", inputs=inputs, **options)
    with torch.no_grad():
        expected, found = module(*inputs), lowering.module(*inputs)
    one = [expected] if isinstance(expected, Tensor) else [y for y in expected if isinstance(y, Tensor)]
    other = [found] if isinstance(found, Tensor) else [y for y in found if isinstance(y, Tensor)]
    if equal:
        torch.testing.assert_close(other, one, rtol=1e-2, atol=1e-3)
    reasons = [c.reason for c in lowering.changes if c.after == "as it is"]
    assert len(reasons) <= 1
    return reasons[0] if reasons else ""


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = nn.Buffer(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return 2 * x


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.layer(x).float()


def test_what_cannot_be_captured_is_exported_as_it_is() -> None:
    branch = Made(lambda s, x: 2 * x if x.sum() > 0 else x)
    assert reason(branch, X).startswith("not lowered: torch.export refuses it: ")
    assert reason(Counts(), X) == "not lowered: it changes a state of its own when it runs"
    assert "no tensor" in reason(Made(lambda s, x: (2 * x, x.shape[1])), X)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_inside(kind: torch.dtype) -> None:
    weight, more = torch.randn(3, 6), torch.randn(3, 3)

    def forward(s: Made, x: Tensor) -> Tensor:
        stored = F.linear(x.to(kind), s.stored)
        return F.linear(x.to(kind), s.weight.to(kind)).float() + stored.float() + (s.stored.mT @ s.more.to(kind)).sum()

    assert reason(Made(forward, weight=weight, stored=weight.to(kind), more=more), X) == ""


def test_a_module_of_half_precision_and_autocast() -> None:
    assert reason(nn.Linear(6, 3).half(), X.half()) == ""
    assert reason(Autocast(), X) == ""


def test_integers_become_floating_numbers_inside() -> None:
    assert reason(Made(lambda s, x: s.l(x * 0.5), l=nn.Linear(6, 3)), torch.arange(12).reshape(2, 6)) == ""


@pytest.mark.parametrize("draw", [lambda x: torch.rand(4, 6), torch.rand_like, lambda x: torch.bernoulli(0.5 + 0 * X)])
def test_random_numbers_are_no_constants(draw: Any) -> None:
    assert "other values" in reason(Made(lambda s, x: x + draw(x)), X, equal=False)


def test_a_tuple_with_none_in_it() -> None:
    assert reason(Made(lambda s, x: (2 * x, None, s.l(x)), l=nn.Linear(6, 3)), X) == ""


def test_an_input_without_dimensions_has_no_batch() -> None:
    module = Made(lambda s, x, t: x * t)
    assert "has no batch" in reason(module, X, torch.tensor(3.0), dynamic_batch=True)


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, ZeroDivisionError, NotImplementedError, StopIteration])
def test_a_rule_that_raises_leaves_its_operator_as_it_is(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise error("on purpose")

    monkeypatch.setitem(products.RULES, "linear", broken)
    assert reason(nn.Linear(6, 3), X) == ""


@pytest.mark.parametrize("place", ["capture", "simplify_movement", "read", "rewrite", "emit", "with_dtype"])
def test_a_fault_inside_is_said_and_stops_nothing(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("on purpose")

    monkeypatch.setattr(rewrite, place, broken)
    found = reason(nn.Linear(6, 3), X)
    assert found.startswith("not lowered: a fault")
    assert found.endswith("please report it")


def test_a_rule_that_is_wrong_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(b: builder.Builder, node: Any) -> builder.View:
        return products.linear_of(b, b.view(node.args[0]), 2, torch.ones(3, 6).double(), None, node)

    monkeypatch.setitem(products.RULES, "linear", wrong)
    assert reason(nn.Linear(6, 3), X) == ""


def test_training_mode_is_refused() -> None:
    for module in (nn.Linear(6, 3).train(), nn.Sequential(nn.Dropout()).eval().append(nn.ReLU())):
        with pytest.raises(LoweringError, match="training mode"):
            lower(module, layout="channels_last", inputs=(X,))
