"""Separable self-attention (arXiv 2206.02680, section 3.2) in the ways in which people write it, and in wrong ones.

[B, C, P, N] in and out. The softmax and the sum run over N; a query has one channel, or one for each head.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm

FIRST = {"c": 1, "n": 3}
LAST = {"c": 3, "n": 2}


class Product(nn.Module):
    """A 1x1 convolution whose weights are a parameter of its own, applied by ``apply(x, weight)``."""

    def __init__(self, inside: int, outside: int, bias: bool, apply: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outside, inside) / inside**0.5)
        self.bias = nn.Parameter(torch.randn(outside)) if bias else None
        self.apply_weight = apply

    def forward(self, x: Tensor) -> Tensor:
        y = self.apply_weight(x, self.weight)
        if self.bias is None:
            return y
        # Channels are the last axis where the weights stand on the right.
        return y + (self.bias if y.shape[1] != len(self.bias) else self.bias[:, None, None])


class PermutedLinear(nn.Linear):
    """nn.Linear over the channels of [B, C, P, N]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FunctionalConv(nn.Conv2d):
    """F.conv2d with a parameter."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias)


def _matmul(x: Tensor, weight: Tensor) -> Tensor:
    return torch.matmul(weight, x.flatten(2)).unflatten(-1, x.shape[2:])


# Each is (inside, outside, bias) -> module; those that begin with "last" are for [B, P, N, C].
POINTWISE: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "conv": lambda i, o, bias: nn.Conv2d(i, o, 1, bias=bias),
    "functional": lambda i, o, bias: FunctionalConv(i, o, 1, bias=bias),
    "einsum": lambda i, o, bias: Product(i, o, bias, lambda x, w: torch.einsum("oc,bcpn->bopn", w, x)),
    "matmul": lambda i, o, bias: Product(i, o, bias, _matmul),
    "linear": lambda i, o, bias: PermutedLinear(i, o, bias=bias),
    "last linear": lambda i, o, bias: nn.Linear(i, o, bias=bias),
    "last matmul": lambda i, o, bias: Product(i, o, bias, lambda x, w: x @ w.t()),
}


class Lora(nn.Module):
    """A layer with a low-rank branch beside it (arXiv 2106.09685), not merged."""

    def __init__(self, layer: nn.Module, make: Callable[[int, int, bool], nn.Module], inside: int, outside: int):
        super().__init__()
        self.layer, self.down, self.up = layer, make(inside, 2, False), make(2, outside, False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + 0.5 * self.up(self.down(x))


def _old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return weight_norm(layer)


def _hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, output: output * 0.75)
    return layer


DRESS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda layer: layer,
    "weight_norm": parametrizations.weight_norm,
    "old weight_norm": _old_weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    "hook": _hooked,
}

CUT: dict[str, Callable[[Tensor, list[int], int], Any]] = {
    "split": lambda y, sizes, axis: y.split(sizes, dim=axis),
    "tensor_split": lambda y, sizes, axis: y.tensor_split([sizes[0], sizes[0] + sizes[1]], dim=axis),
    "narrow": lambda y, sizes, axis: [
        y.narrow(axis, begin, size) for begin, size in zip((0, sizes[0], sizes[0] + sizes[1]), sizes, strict=True)
    ],
    "chunk": lambda y, sizes, axis: (
        y.narrow(axis, 0, sizes[0]),
        *y.narrow(axis, sizes[0], 2 * sizes[1]).chunk(2, dim=axis),
    ),
    "index_select": lambda y, sizes, axis: [
        y.index_select(axis, part) for part in torch.arange(sum(sizes)).split(sizes)
    ],
    "slices": lambda y, sizes, axis: (
        (y[:, : sizes[0]], y[:, sizes[0] : sizes[0] + sizes[1]], y[:, sizes[0] + sizes[1] :])
        if axis == 1
        else (y[..., : sizes[0]], y[..., sizes[0] : sizes[0] + sizes[1]], y[..., sizes[0] + sizes[1] :])
    ),
}


def _exp(x: Tensor, n: int) -> Tensor:
    powers = x.exp()
    return powers / powers.sum(dim=n, keepdim=True)


def _stable_exp(x: Tensor, n: int) -> Tensor:
    return _exp(x - x.amax(dim=n, keepdim=True), n)


SOFTMAX: dict[str, Callable[[Tensor, int], Tensor]] = {
    "method": lambda x, n: x.softmax(dim=n),
    "negative axis": lambda x, n: torch.softmax(x, dim=n - 4),
    "F": lambda x, n: F.softmax(x, dim=n),
    "module": lambda x, n: nn.Softmax(dim=n)(x),
    "exp": _exp,
    "stable exp": _stable_exp,
    "log": lambda x, n: x.log_softmax(dim=n).exp(),
    "logsumexp": lambda x, n: (x - x.logsumexp(dim=n, keepdim=True)).exp(),
    "float": lambda x, n: x.float().softmax(dim=n).to(x.dtype),
    "dtype": lambda x, n: F.softmax(x, dim=n, dtype=torch.float32).type_as(x),
    # Wrong ones: the axis of P, both axes, and scores whose sum is not 1.
    "other axis": lambda x, n: x.softmax(dim=n - 1),
    "both axes": lambda x, n: x.exp() / x.exp().sum(dim=(n, n - 1), keepdim=True),
    "sigmoid": lambda x, n: x.sigmoid(),
    "epsilon": lambda x, n: x.exp() / (x.exp().sum(dim=n, keepdim=True) + 0.1),
}

RELU: dict[str, Callable[[Tensor], Tensor]] = {
    "F": F.relu,
    "module": nn.ReLU(),
    "clamp": lambda x: x.clamp(min=0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    # Wrong ones.
    "none": lambda x: x,
    "gelu": F.gelu,
    "leaky": F.leaky_relu,
}

REDUCE: dict[str, Callable[[Tensor, int], Tensor]] = {
    "sum": lambda x, n: x.sum(dim=n, keepdim=True),
    # Wrong ones.
    "mean": lambda x, n: x.mean(dim=n, keepdim=True),
    "max": lambda x, n: x.amax(dim=n, keepdim=True),
}

SPREAD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "broadcast": lambda context, value: context,
    "expand_as": lambda context, value: context.expand_as(value),
    "expand": lambda context, value: context.expand(value.shape),
}


class Attention(nn.Module):
    """One layer, as a :class:`spellings.Spelling` has it."""

    def __init__(self, spelling: Any, dim: int) -> None:
        super().__init__()
        s = self.spelling = spelling
        self.dim, self.sizes = dim, [s.heads, dim, dim]
        if s.cut == "separate":
            self.query, self.key = self._projection(dim, s.heads), self._projection(dim, dim)
            self.value = self.key if s.tied else self._projection(dim, dim)
        else:
            self.qkv = self._projection(dim, sum(self.sizes))
        self.out = self._projection(dim, dim)
        self.dropout = nn.Dropout(0.1) if s.dropout else nn.Identity()
        if s.score_bias:
            self.score_bias = nn.Parameter(torch.randn(1))
        if s.scale == "temperature":
            self.temperature = nn.Parameter(torch.rand(1) + 0.5)
        if s.layer_scale:
            self.gamma = nn.Parameter(torch.randn(dim, 1, 1) if not self.last else torch.randn(dim))
        if s.mask:
            self.register_buffer("mask", torch.tensor([1.0, 0.0]))
        if s.positions:
            self.positions = nn.Parameter(torch.randn(dim, 1, 1) if not self.last else torch.randn(dim))

    @property
    def last(self) -> bool:
        """Whether it works on [B, P, N, C] inside."""
        return self.spelling.projection.startswith("last")

    def _projection(self, inside: int, outside: int) -> nn.Module:
        make = POINTWISE[self.spelling.projection]
        layer = make(inside, outside, self.spelling.bias)
        if self.spelling.dress == "lora":
            return Lora(layer, make, inside, outside)
        return DRESS[self.spelling.dress](layer)

    def forward(self, x: Tensor, x_prev: Tensor | None = None) -> Tensor:
        """[B, C, P, N], and what is attended to if it is something else -> [B, C, P, N]."""
        source = x if x_prev is None else x_prev
        if not self.last:
            return self._attend(x, source, **FIRST)
        x, source = x.permute(0, 2, 3, 1), source.permute(0, 2, 3, 1)
        return self._attend(x, source, **LAST).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor, source: Tensor, c: int, n: int) -> Tensor:
        s = self.spelling
        keys = source
        if s.positions:  # of the keys alone, and not the same everywhere
            keys = source * (1 + self.positions) + torch.linspace(0, 1, source.shape[n], dtype=x.dtype).view(
                (-1,) if n == 3 else (-1, 1)
            )
        if s.cut == "separate":
            query, value = self.query(source), self.value(x)
            key = keys if s.key == "after" else self.key(keys)
        else:
            query, key, value = CUT[s.cut](self.qkv(source), self.sizes, c)
            if s.positions:
                key = CUT[s.cut](self.qkv(keys), self.sizes, c)[1]
            if source is not x:
                value = CUT[s.cut](self.qkv(x), self.sizes, c)[2]
        context = self._context(key, self.dropout(self._scores(query, n)), c, n)
        if s.cut == "separate" and s.key == "after":
            context = self.key(context)
        y = self.out(RELU[s.relu](value) * SPREAD[s.spread](context, value))
        if s.layer_scale:
            y = y * self.gamma
        return self.dropout(y)

    def _scores(self, query: Tensor, n: int) -> Tensor:
        s = self.spelling
        if s.scale == "query":
            query = query * self.dim**0.5
        if s.scale == "temperature":
            query = query / self.temperature
        if s.score_bias:
            query = query + self.score_bias
        scores = SOFTMAX[s.softmax](query, n)
        if s.mask:
            mask = self.mask.repeat(scores.shape[n])[: scores.shape[n]]
            scores = scores * (mask if n == 3 else mask[:, None])
        return scores

    def _context(self, key: Tensor, scores: Tensor, c: int, n: int) -> Tensor:
        """The sum of the keys by their scores: one column instead of N."""
        s = self.spelling
        if s.heads > 1:  # each head's score for its own share of the channels
            each = scores.unsqueeze(c + 1 if c == 1 else 4)
            heads = key.unflatten(c, (s.heads, -1)) * each
            # After the channels are in two, N is one further to the right in the channels-first form.
            return REDUCE[s.reduce](heads, n + 1 if c == 1 else n).flatten(c, c + 1)
        if s.weigh == "einsum" and s.reduce == "sum":
            letters = "bcpn,bkpn->bcp" if c == 1 else "bpnc,bpnk->bpc"
            return torch.einsum(letters, key, scores).unsqueeze(n)
        if s.weigh == "matmul" and s.reduce == "sum":
            if c == 3:
                return scores.transpose(2, 3) @ key
            return (key.transpose(1, 2) @ scores.permute(0, 2, 3, 1)).transpose(1, 2)
        return REDUCE[s.reduce](key * scores, n)
