"""The layer is found by what it computes, however it is written, and what is no such layer stays what it is."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from spelling_checks import lowered_error, moving_ops
from spellings import CHOICES, LAYOUT_OPS, MISSES, Spelling, build, missed, near_misses, spellings
from torch import Tensor, nn

from edgeattn.layout import Layout

LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
# The other choices change which weights there are, or what is computed from them.
SAME_WEIGHTS = ("patches", "softmax", "key", "weigh", "spread", "relu", "dropout", "wrapper", "norm", "cross")
# The first that fails is shown as it is: each try on the way to a simpler one would be lowered and traced anew.
FIFTY = settings(max_examples=50, phases=[Phase.generate])
SMALL = Spelling(patches="unfold", cut="separate", bias=True)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torch.compile tells how often it compiled one method anew."""
    torch._logging.set_logs(dynamo=logging.ERROR)
    yield
    torch._logging.set_logs()


def double(spelling: Spelling, seed: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    module, inputs = build(spelling, seed)
    return module.double(), tuple(x.double() for x in inputs)


def output(spelling: Spelling) -> Tensor:
    module, inputs = double(spelling, 0)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        return module(*inputs)


@pytest.mark.parametrize("field", SAME_WEIGHTS)
def test_the_choices_are_one_function(field: str) -> None:
    """Here only those that have the same weights in the same order. The BatchNorms took statistics in float32."""
    values = [value for value in CHOICES[field] if value != "none" or field == "wrapper"]
    for value in dict.fromkeys(values):
        spelling = replace(SMALL, **{field: value})  # type: ignore[arg-type]
        like = replace(SMALL, cross="place") if field == "cross" and value != "no" else SMALL
        torch.testing.assert_close(output(spelling), output(like), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cut", sorted({str(cut) for cut in CHOICES["cut"]} - {"split", "separate"}))
def test_all_cuts_are_one_function(cut: str) -> None:
    torch.testing.assert_close(
        output(replace(SMALL, cut=cut)), output(replace(SMALL, cut="split")), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("miss", MISSES, ids=lambda miss: f"{miss[0]}-{miss[1]}")
def test_a_near_miss_is_another_function(miss: tuple[str, object]) -> None:
    expected = output(SMALL)
    assert (output(missed(SMALL, miss)) - expected).abs().max() > 1e-4 * expected.abs().max()


@FIFTY
@given(spellings(), st.sampled_from(LAYOUTS), st.integers(0, 2**31))
def test_every_spelling_is_lowered_exactly_and_moves_no_data(spelling: Spelling, layout: Layout, seed: int) -> None:
    module, inputs = double(spelling, seed)
    lowering, error = lowered_error(module, inputs, layout)
    assert error <= spelling.tolerance
    assert len(moving_ops(lowering, inputs, layout)) == LAYOUT_OPS


@FIFTY
@given(near_misses(), st.sampled_from(LAYOUTS), st.integers(0, 2**31))
def test_a_near_miss_stays_what_it_is(spelling: Spelling, layout: Layout, seed: int) -> None:
    module, inputs = double(spelling, seed)
    _, error = lowered_error(module, inputs, layout)
    assert error <= spelling.tolerance


class Moves(nn.Module):
    """A transpose that no neighbour undoes, and one that the next undoes."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(0, 3, 2, 1).reshape(x.shape)
        return y + x.mT.transpose(2, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_moves_data_is_seen(layout: Layout) -> None:
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    assert len(moving_ops(lowered_error(Moves().eval(), (x,), layout)[0], (x,), layout)) == 1
