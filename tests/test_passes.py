"""Each pass alone: on a network that it changes, and on several nearly equal ones that it must leave alone."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import Function, Made, changed, count, left_alone, network, same, together
from torch import Tensor, nn

from edgeattn.lowering.network import Network
from edgeattn.lowering.ops import Linear, Pointwise, Softmax
from edgeattn.lowering.passes import (
    PASSES,
    fold_keys,
    into_products,
    into_readers,
    no_query_bias,
    one_spelling,
    rewrite,
    separate_projections,
)
from edgeattn.lowering.passes.attention import KEY_FOLDED

G = torch.Generator().manual_seed(0)
X = torch.randn(2, 5, 6, generator=G)  # [B, N, C]
MAP = torch.randn(2, 4, 6, 6, generator=G)


# One spelling.

SOFTMAX: dict[str, Function] = {
    "exp over sum": lambda s, x: (e := x.exp()) / e.sum(1, True),
    "less the largest": lambda s, x: (e := (x - x.amax(1, True)).exp()) / e.sum(1, True),
    "log_softmax": lambda s, x: x.log_softmax(1).exp(),
    "logsumexp": lambda s, x: (x - x.logsumexp(1, True)).exp(),
    "over two axes": lambda s, x: (e := x.exp()) / e.sum((1, 2), True),
}
NO_SOFTMAX: dict[str, Function] = {
    "an epsilon": lambda s, x: (e := x.exp()) / (e.sum(1, True) + 1e-3),
    "a mean": lambda s, x: (e := x.exp()) / e.mean(1, True),
    "another sum": lambda s, x: x.exp() / (2 * x).exp().sum(1, True),
    "no exp": lambda s, x: (e := x.sigmoid()) / e.sum(1, True),
    "the sum over it": lambda s, x: (e := x.exp()).sum(1, True) / e,
    "another logsumexp": lambda s, x: (x - (2 * x).logsumexp(1, True)).exp(),
    "a log_softmax without exp": lambda s, x: x.log_softmax(1).sin(),
    "a softmax": lambda s, x: x.softmax(1),
}


@pytest.mark.parametrize("spelling", SOFTMAX)
def test_a_softmax_that_is_written_out(spelling: str) -> None:
    net = changed(nn.Sequential(nn.Tanh(), Made(SOFTMAX[spelling])), X, by=(one_spelling,))
    assert count(net) == {"Pointwise": 1, "Softmax": 1}
    assert [(c.path, c.after, c.reason) for c in net.changes] == [("1", "Softmax", "softmax that was written out")]


def test_what_is_no_softmax() -> None:
    left_alone(together(NO_SOFTMAX.values()), X, by=(one_spelling,))


def test_a_sum_of_products_is_a_contraction() -> None:
    net = changed(Made(lambda s, x: (x.sigmoid() * x.softmax(1)).sum(1)), X, by=(one_spelling,))
    assert count(net) == {"Pointwise": 1, "Softmax": 1, "Contract": 1}


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: (x.sigmoid() * x.tanh()).mean(1),
        lambda s, x: (x.sigmoid() + x.tanh()).sum(1),
        lambda s, x: (x * x).sum(1),
        lambda s, x: (x * 3).sum(1),
        lambda s, x: (x * torch.arange(6)).sum(1),
        lambda s, x: (x.sigmoid() * x.sum(1, True)).sum(1),  # a factor that is constant along the sum
        lambda s, x: (y := x.sigmoid() * x.tanh()).sum(1) + y.amax(1),
        lambda s, x: (x.sigmoid() * (x > 0)).sum(1),  # a mask of bools
    ],
)
def test_what_is_no_contraction(function: Function) -> None:
    left_alone(Made(function), X, by=(one_spelling,))


# Factors and terms.


@pytest.mark.parametrize(
    ("module", "x", "changes"),
    [
        (nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)), MAP, 1),
        (nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.BatchNorm2d(8)), MAP, 1),
        (nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)), MAP, 1),
        (nn.Sequential(nn.Conv2d(4, 8, 1), Made(lambda s, x: (x * s.g - 2) / 3, g=torch.rand(8, 1, 1))), MAP, 3),
        (Made(lambda s, x: 1 + s.l(x) * 0.5, l=nn.Linear(6, 3)), X, 2),
    ],
)
def test_a_factor_or_term_goes_into_the_product_before_it(module: nn.Module, x: Tensor, changes: int) -> None:
    net = changed(module, x, by=(into_products,))
    assert count(net)["Pointwise"] == 0
    assert len(net.changes) == changes
    if isinstance(module, nn.Sequential):
        assert {c.path for c in net.changes} == {"1"}


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: s.conv(x).relu() * 2,
        lambda s, x: 2 / s.conv(x),
        lambda s, x: 1 - s.conv(x),
        lambda s, x: s.conv(x) * s.places,  # along the map, not the channels
        lambda s, x: s.conv(x) * x.mean(),
        lambda s, x: (y := s.conv(x)) * 2 - y.relu(),  # read twice
        lambda s, x: ((y := s.conv(x)) * 2, y),  # given back as well
        lambda s, x: torch.add(s.conv(x), s.g, alpha=2),
        lambda s, x: F.batch_norm(s.conv(x), None, None, s.g.flatten(), s.g.flatten(), training=True),
        lambda s, x: F.max_pool2d(x, 2) * s.g,
    ],
)
def test_what_does_not_go_into_the_product_before_it(function: Function) -> None:
    parts = {"conv": nn.Conv2d(4, 4, 3), "g": torch.rand(4, 1, 1), "places": torch.rand(4, 4)}
    left_alone(Made(function, **parts), MAP, by=(into_products,))


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 3)), X),
        (nn.Sequential(nn.GroupNorm(1, 4), nn.Conv2d(4, 8, 1)), MAP),
        (nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 8, 3, groups=2)), MAP),
        (nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3)), MAP),
        (Made(lambda s, x: s.l(x * s.g), l=nn.Linear(6, 3), g=torch.rand(6)), X),
        (Made(lambda s, x: s.conv(x * s.g), conv=nn.Conv2d(4, 8, 3, padding=1), g=torch.rand(4, 1, 1)), MAP),
        (Made(lambda s, x: s.l(y := s.n(x)) * s.m(y), n=nn.LayerNorm(6), l=nn.Linear(6, 3), m=nn.Linear(6, 3)), X),
    ],
)
def test_a_factor_or_term_goes_into_all_that_reads_it(module: nn.Module, x: Tensor) -> None:
    net = changed(module, x, by=(into_readers,))
    assert all("in the linear map that reads it" in c.reason for c in net.changes)
    if isinstance(module, nn.Sequential):
        assert {c.path for c in net.changes} == {"1"}
        assert count(net)["Pointwise"] == 0


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda s, x: s.conv(x + s.g), MAP),  # the zeros around the map get no term
        (lambda s, x: s.conv(x * s.places), MAP),
        (lambda s, x: s.conv(y := x * s.g) + y.mean(), MAP),  # not all that reads it is linear
        (lambda s, x: (s.conv(y := x * s.g), y), MAP),
        (lambda s, x: s.conv((x * s.g).relu()), MAP),
        (lambda s, x: s.l(y := s.n(x)) + y.amax(), X),
        (lambda s, x: s.l(s.n(x).transpose(1, 2)[..., :3].repeat(1, 1, 2)), X),
        (lambda s, x: s.l(x * x.mean(-1, True)), X),
    ],
)
def test_what_does_not_go_into_all_that_reads_it(function: Function, x: Tensor) -> None:
    n = nn.LayerNorm(6)
    parts = {"conv": nn.Conv2d(4, 8, 3, padding=1), "l": nn.Linear(6, 3), "n": n, "g": torch.rand(4, 1, 1)}
    left_alone(Made(function, places=torch.rand(6, 6), **parts), x, by=(into_readers,))


def test_integers_do_not_go_into_a_linear_map() -> None:
    module = Made(lambda s, x: s.l(x * torch.tensor(0.5).double()), l=nn.Linear(6, 3))
    left_alone(module, torch.arange(12).reshape(2, 6), by=(into_readers,))


# Attention.


class Attention(nn.Module):
    """Separable self-attention, [B, N, C]; ``weigh`` makes the weights of the scores."""

    def __init__(self, weigh: Function = lambda s, x: x.softmax(1), key_bias: bool = True) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(6, 1), nn.Linear(6, 4, bias=key_bias), nn.Linear(6, 4)
        self.weigh = weigh

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        context = (self.key(x) * self.weigh(more, self.query(x))).sum(1, keepdim=True)
        return self.value(x).relu() * context


def key_folded(net: Network) -> bool:
    return [c.reason for c in net.changes] == [KEY_FOLDED]


DISTRIBUTIONS: dict[str, Function] = {
    "softmax": lambda s, q: q.softmax(1),
    "its logarithm": lambda s, q: q.log_softmax(1).exp(),
    "with a temperature": lambda s, q: (q / 3).softmax(1),
    "written out": lambda s, q: (e := q.exp()) / e.sum(1, True),
    "sigmoids over their sum": lambda s, q: (e := q.sigmoid()) / e.sum(1, True),
    "repeated": lambda s, q: q.softmax(1).expand(-1, -1, 4),
}
NO_DISTRIBUTIONS: dict[str, Function] = {
    "sigmoid": lambda s, q: q.sigmoid(),
    "softmax over the batch": lambda s, q: q.softmax(0),
    "twice a softmax": lambda s, q: 2 * q.softmax(1),
    "sigmoids over a clamped sum": lambda s, q: (e := q.sigmoid()) / e.sum(1, True).clamp(min=1e-6),
    "an epsilon": lambda s, q: (e := q.exp()) / (e.sum(1, True) + 1e-6),
    "a gate that is open": lambda s, q: q.softmax(1) * (q > -1000),
    "a floor": lambda s, q: q.softmax(1).clamp(min=0),
}


@pytest.mark.parametrize("weights", DISTRIBUTIONS)
def test_a_key_is_folded(weights: str) -> None:
    module = nn.Sequential(nn.Tanh(), Attention(DISTRIBUTIONS[weights]))
    net = changed(module, X, by=(one_spelling, fold_keys))
    assert KEY_FOLDED in [c.reason for c in net.changes if c.path == "1"]
    assert any(
        isinstance(op, Linear) and len(op.weight) == 4 and set(op.axes).isdisjoint(x_axes(net)) for op in net.ops
    )


def x_axes(net: Network) -> set[Any]:
    """The axis of the places."""
    return {net.ops[0].axes[1]}


def test_a_key_with_a_bias_is_not_folded_onto_other_weights() -> None:
    layers = nn.ModuleList(map(Attention, NO_DISTRIBUTIONS.values()))
    left_alone(Made(lambda s, x: tuple(layer(x) for layer in s.layers), layers=layers), X, by=(one_spelling, fold_keys))


@pytest.mark.parametrize("weights", ["sigmoid", "twice a softmax", "an epsilon"])
def test_a_key_without_a_bias_is_folded_onto_any_weights(weights: str) -> None:
    assert key_folded(changed(Attention(NO_DISTRIBUTIONS[weights], key_bias=False), X, by=(one_spelling, fold_keys)))


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.float32])
def test_a_mask_of_ones_may_have_zeros_at_another_time(kind: torch.dtype) -> None:
    """On the examples the weights sum to 1, as integers are not drawn at random."""
    module = Attention(lambda masks, q: q.softmax(1) * masks[0][..., None])
    net = network(module, X, torch.ones(2, 5).to(kind))
    rewrite(net)
    assert not any(c.reason == KEY_FOLDED for c in net.changes)
    assert same(net, module, X, torch.tensor([[1, 1, 0, 0, 0], [1, 0, 1, 0, 1]]).to(kind))


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: (s.k(x).relu() * s.q(x).softmax(1)).sum(1),  # something between
        lambda s, x: (s.k(x) * s.k(x).softmax(1)).sum(1),  # weights for each channel
        lambda s, x: (s.k(x) * s.q(x).softmax(1)).mean(1),
        lambda s, x: ((k := s.k(x)) * s.q(x).softmax(1)).sum(1) + k.amax(1),  # the key is wanted itself
        lambda s, x: (s.k(x) * s.q(x).softmax(1)).sum(2),
        lambda s, x: s.k(x).transpose(1, 2) @ s.k(x).softmax(1),  # a whole matrix of scores
    ],
)
def test_what_is_no_separable_attention(function: Function) -> None:
    left_alone(Made(function, k=nn.Linear(6, 4), q=nn.Linear(6, 1)), X, by=(one_spelling, fold_keys))


def test_the_query_has_no_bias() -> None:
    net = changed(nn.Sequential(nn.Tanh(), Attention()), X, by=(no_query_bias,))
    (softmax,) = (op for op in net.ops if isinstance(op, Softmax))
    (query,) = softmax.inputs
    assert isinstance(query, Linear)
    assert query.bias is None
    assert not net.changes  # it is a part of the folding, and nothing that one would see


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: s.q(x).softmax(-1),  # over the outputs, which have different biases
        lambda s, x: s.q(x).flatten(1).softmax(1),
        lambda s, x: (y := s.q(x)).softmax(1) + y.amax(),
        lambda s, x: (s.q(x).softmax(1), s.q(x).sigmoid())[1],
        lambda s, x: s.q(x).relu().softmax(1),
        lambda s, x: F.linear(x, s.q.weight).softmax(1),
    ],
)
def test_a_bias_that_the_softmax_sees(function: Function) -> None:
    left_alone(Made(function, q=nn.Linear(6, 4)), X, by=(no_query_bias,))


def test_projections_are_separated() -> None:
    def both(s: Made, x: Tensor) -> Tensor:
        q, k, v = s.qkv(x).split([1, 4, 4], -1)
        return (k * q.softmax(1)).sum(1, True) * v.relu()

    net = changed(Made(both, qkv=nn.Linear(6, 9)), X, by=(separate_projections,))
    assert count(net)["Slice"] == 0
    assert sorted(len(op.weight) for op in net.ops if isinstance(op, Linear)) == [1, 4, 4]


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: (y := s.l(x))[..., :4].relu() + y.mean(),
        lambda s, x: (y := s.l(x))[..., :4].relu() + y.sum(-1, True),
        lambda s, x: s.l(x)[:, 1:],  # of the places
        lambda s, x: sum(y.relu() for y in s.l(x).split(1, -1)),  # more slices than pay
        lambda s, x: ((y := s.l(x))[..., :4], y),
        lambda s, x: s.l(x).relu()[..., :4],
    ],
)
def test_projections_that_stay_together(function: Function) -> None:
    left_alone(Made(function, l=nn.Linear(6, 8)), X, by=(separate_projections,))


# The proof, and all together.


@pytest.mark.parametrize(
    ("replacement", "listed"),
    [(lambda x: x * (1 + 1e-8), True), (lambda x: x[..., :1] * x, True), (lambda x: x, False)],
)
def test_a_rewrite_with_other_values_is_refused_and_listed(replacement: Function, listed: bool) -> None:
    net = network(nn.Sequential(nn.Tanh(), nn.Sigmoid()), X)
    (old,) = (op for op in net.ops if isinstance(op, Pointwise) and op.node and "sigmoid" in str(op.node.target))
    new = Pointwise(inputs=old.inputs, target=lambda x: replacement(x.sigmoid()), args=old.args, dims=old.dims)
    before = list(net.ops)
    assert net.swap(old, new, "another sigmoid") is not listed
    if listed:
        assert net.ops == before
        assert not net.changes
        (refused,) = net.refused
        assert (refused.path, refused.before) == ("1", "Sigmoid")
        assert refused.reason == "not made, as the values would differ: another sigmoid"
    else:
        assert [c.path for c in net.changes] == ["1"]
        assert net.outputs[0].op is new
    assert same(net, nn.Sequential(nn.Tanh(), nn.Sigmoid()), X)


def broken(x: Tensor) -> Tensor:
    raise RuntimeError("expected another type")


def test_a_rewrite_that_cannot_run_is_refused() -> None:
    net = network(nn.Sigmoid(), X)
    (old,) = (op for op in net.ops if isinstance(op, Pointwise))
    assert not net.swap(old, Pointwise(inputs=old.inputs, target=broken, args=old.args, dims=old.dims), "no")
    other = network(nn.Sigmoid(), X).ops[-1]
    assert not net.swap(old, Pointwise(inputs=old.inputs, target=torch.sigmoid, args=old.args, dims=other.dims), "axes")
    assert len(net.refused) == 2
    assert same(net, nn.Sigmoid(), X)


def test_all_passes_end_and_find_nothing_more() -> None:
    module = nn.Sequential(nn.LayerNorm(6), Attention(), nn.Linear(4, 3))
    net = network(module, X)
    rewrite(net)
    assert not any(one(net) for one in PASSES)
    assert same(net, module, X)
