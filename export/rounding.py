"""The noise floor of an output by more than one run: the reference in float32 again, with every sum as far off as a
sum in another order may be.

The reference's own error in float32 is one draw of chance: a single number may happen to be exact, two branches may
round alike and cancel. So the module is run a few times more. After each operator that sums, or that a runtime
approximates, its result is moved by a random amount of the size that float32 allows: a sum of K terms in one chain,
which some kernels make, has an error that grows with the root of K. What these moves become further on, cancelled or
amplified, is what rounding becomes.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from edgeattn.bundle.tensors import Arrays
from edgeattn.export.source import run
from edgeattn.parity.battery import SEED

aten = torch.ops.aten
_UNIT = 2.0**-24
# A chain of K terms has an error of about 0.4 * sqrt(K) units (a random walk over partial sums that grow up to the
# sum). An eighth of it, as the limits in noise units are 16 to 24: so a whole chain passes with 8, and in a short sum
# the floor stays what half a unit in the last place makes it.
_EIGHTH = 1 / 8
_CHAIN = 0.4 * _EIGHTH
_BLOCKED = 1 / 4
# Enough to make two runs round differently; each rounds by itself, too.
_LEAST = 0.15
# From so many terms on, a sum is made in one chain, too, to see its error.
_LONG = 256
# A few numbers tell little of the size of an error: the fewer, the more runs.
_RUNS_OF_FEW, _RUNS, _FEW = 6, 2, 64
# An output of numbers may be off by so many times what a run is moved by (NoiseLimits).
_ALLOWED = 16.0

_SUMS = {aten.sum, aten.mean, aten.cumsum, aten.logcumsumexp}
_ROOTS = {aten.linalg_vector_norm, aten.norm, aten.var, aten.std, aten._softmax, aten.prod}
_PRODUCTS = {aten.mm, aten.bmm, aten.mv, aten.dot}
_ADDED_PRODUCTS = {aten.addmm, aten.baddbmm, aten.addmv, aten.addbmm}
_POOLS = {
    aten.avg_pool1d, aten.avg_pool2d, aten.avg_pool3d, aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d,
    aten.upsample_linear1d, aten.upsample_bilinear2d, aten.upsample_trilinear3d, aten.upsample_bicubic2d,
    aten._upsample_bilinear2d_aa, aten._upsample_bicubic2d_aa, aten.grid_sampler_2d,
}  # fmt: skip
# Which of equal values comes first is nowhere defined.
_CHOOSING = {aten.topk, aten.sort, aten.argsort, aten.argmax, aten.argmin, aten.max, aten.min}
_NOTHING = 1e-30
# Where rounding decides, a result jumps.
_JUMPING = _CHOOSING | {
    aten.round, aten.floor, aten.ceil, aten.trunc, aten.fix, aten.frac, aten.sign, aten.sgn, aten.floor_divide,
    aten.remainder, aten.fmod, aten.gt, aten.ge, aten.lt, aten.le, aten.eq, aten.ne, aten._to_copy, aten.heaviside,
    aten.bucketize, aten.searchsorted, aten.fake_quantize_per_tensor_affine_cachemask,
    aten.fake_quantize_per_channel_affine_cachemask, aten.nonzero,
}  # fmt: skip
# No runtime's is correctly rounded; what adds, multiplies, divides or takes a root is, in each.
_APPROXIMATED = {
    aten.exp, aten.exp2, aten.expm1, aten.log, aten.log2, aten.log1p, aten.sin, aten.cos, aten.tan, aten.tanh,
    aten.erf, aten.softplus, aten.elu, aten.pow, aten.rsqrt, aten.atan, aten.atan2, aten.log_sigmoid_forward,
    aten.hardsigmoid,
}  # fmt: skip
# A value times what is nearly 0 or 1, of which runtimes leave an error of one unit: onnxruntime's sigmoid is nowhere
# less than 1.5e-8, and an erf to which 1 is added has lost what is smaller.
_GATED = {aten.silu, aten.gelu, aten.mish, aten.hardswish}
_NORMS = {aten.native_layer_norm, aten.native_group_norm, aten.native_batch_norm, aten._native_batch_norm_legit,
          aten._native_batch_norm_legit_no_training, aten._batch_norm_no_update}  # fmt: skip
_Errors = np.ndarray[Any, np.dtype[np.float64]]


def noise(module: nn.Module, inputs: dict[str, Tensor], names: list[str], oracle: Arrays, reference: Arrays) -> Arrays:
    """For each output of a floating type, [2]: the largest and the RMS error of ``module`` in float32 over several runs
    with other sums, the run ``reference`` included.

    Args:
        module: the reference in float32.
        inputs: of the case.
        names: of the outputs, in order.
        oracle: the outputs in float64.
        reference: the outputs in float32, of a run as it is.
    """
    counted = [name for name in names if reference[name].dtype.kind == "f" and reference[name].size]
    errors = {name: [_error(reference[name], oracle[name])] for name in counted}
    few = any(reference[name].size < _FEW for name in counted)
    generator = torch.Generator().manual_seed(SEED)

    def errors_of(sums: "OtherSums") -> list[dict[str, _Errors]]:
        found = []
        for values in _moved_runs(module, inputs, sums, _RUNS_OF_FEW if few else _RUNS):
            outputs = {n: v for n, v in zip(names, values, strict=True) if n in errors and v.shape == oracle[n].shape}
            numbers = {name: value for name, value in outputs.items() if bool(torch.isfinite(value).all())}
            found.append({name: _error(value.detach().numpy(), oracle[name]) for name, value in numbers.items()})
        return found

    if counted:
        usual = OtherSums(generator)
        for one in errors_of(usual):
            for name, error in one.items():
                errors[name].append(error)
        # A step that rounding decides is seen by a run that is moved as far as an output may be off: it is far more
        # than so many times the usual error. A few more of them than were seen are allowed.
        for one in errors_of(OtherSums(generator, _ALLOWED)) if usual.jumps else []:
            for name, error in one.items():
                if error.max() > 4 * _ALLOWED * max(float(e.max()) for e in errors[name]):
                    errors[name].append(error / (_ALLOWED / 4))
    return {name: _size(np.stack(found)) for name, found in errors.items()}


def unsettled(
    module: nn.Module, inputs: dict[str, Tensor], names: list[str], oracle: Arrays, reference: Arrays
) -> Arrays:
    """For each output of integers or booleans, the elements that rounding decides, as it may be in a file that is the
    same model: the places of the largest values, and what is above a threshold, where values are nearly alike.

    Args:
        module, inputs, names, oracle, reference: as for :func:`noise`. An output of which nothing is so is left out.
    """
    chosen = [name for name in names if reference[name].dtype.kind in "iub" and reference[name].size]
    found = {name: np.asarray(reference[name] != oracle[name]) for name in chosen}
    sums = OtherSums(torch.Generator().manual_seed(SEED), _ALLOWED, breaks_ties=True)
    for values in _moved_runs(module, inputs, sums, _RUNS_OF_FEW if chosen else 0):
        for name, value in zip(names, values, strict=True):
            if name in found:
                changed = value.detach().numpy() != reference[name] if value.shape == reference[name].shape else True
                found[name] = found[name] | changed
    return {name: np.asarray(mask) for name, mask in found.items() if mask.any()}


def _moved_runs(
    module: nn.Module, inputs: dict[str, Tensor], sums: "OtherSums", number: int
) -> Iterator[tuple[Tensor, ...]]:
    for _ in range(number):
        with sdpa_kernel(SDPBackend.MATH), sums:
            values = run(module, inputs)
        yield values


def _error(value: Any, oracle: Any) -> _Errors:
    return np.abs(np.asarray(value, np.float64) - np.asarray(oracle, np.float64))


def _size(errors: _Errors) -> _Errors:
    return np.array([errors.max(), math.sqrt(float(np.square(errors).mean()))])


class OtherSums(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is on, the result of every operator that sums or is approximated is moved as rounding may move it."""

    def __init__(self, generator: torch.Generator, times: float = 1.0, *, breaks_ties: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator, self.times, self.breaks_ties = generator, times, breaks_ties
        self.jumps = False  # whether an operator was met whose result jumps

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = func.overloadpacket
        if self.breaks_ties and kind in _CHOOSING and args[0].dtype == torch.float32:
            args = (self._moved(args[0], args[0].abs() * _UNIT + _NOTHING), *args[1:])
        self.jumps |= kind in _JUMPING
        result = func(*args, **(kwargs or {}))
        if kind in _NORMS:
            moved = self._normed(kind, result, args)
            return (moved, *result[1:])
        if isinstance(result, Tensor) and result.dtype == torch.float32 and (size := _rounding(kind, result, args)):
            return self._moved(result, size())
        return result

    def _moved(self, value: Tensor, size: Tensor) -> Tensor:
        drawn = torch.randn(value.shape, generator=self.generator, dtype=value.dtype)
        moved = torch.addcmul(value, drawn, size.to(value.dtype), value=self.times)
        return torch.where(torch.isfinite(moved), moved, value)

    def _normed(self, kind: Any, result: Any, args: Any) -> Tensor:
        """A norm: its mean and its variance are sums, so that all values that share them move together."""
        value = result[0]
        if value.dtype != torch.float32:
            return value  # type: ignore[no-any-return]
        shared, terms = _shared(kind, value, args)
        scale, shift = (torch.randn(shared, generator=self.generator) for _ in range(2))
        unit = self.times * _of(terms, blocked=True)
        # The mean of a group is off by its own size, which the deviations around it are seen against; the variance, as
        # the mean of squares less the square of the mean (onnxruntime's LayerNormalization), by its square.
        weight = args[2] if kind is aten.native_layer_norm else args[1]
        gain = float(weight.abs().max()) if isinstance(weight, Tensor) and weight.numel() else 1.0
        off_centre = _off_centre(kind, args, shared).clamp(max=1e3)
        moved = value * scale * off_centre.square().clamp(min=1) + gain * off_centre * shift
        return value + unit * moved  # type: ignore[no-any-return]


def _off_centre(kind: Any, args: Any, shared: list[int]) -> Tensor:
    """The mean of each group over its standard deviation, in the shape ``shared``."""
    x = args[0].double()
    if kind is aten.native_layer_norm:
        groups = x.reshape(*shared[: x.dim() - len(args[1])], -1)
    elif kind is aten.native_group_norm:
        groups = x.reshape(x.shape[0], int(args[6]), -1)
    else:
        groups = x.reshape(1, -1)
    ratio = groups.mean(-1).abs() / groups.std(-1, correction=0).clamp(min=1e-30)
    if kind is aten.native_group_norm:
        ratio = ratio.repeat_interleave(x.shape[1] // int(args[6]), 1)
    elif kind is not aten.native_layer_norm:
        ratio = ratio.expand(shared[1])
    result: Tensor = ratio.reshape(shared).to(args[0].dtype)
    return result


def _shared(kind: Any, value: Tensor, args: Any) -> tuple[list[int], int]:
    """The shape of a norm's groups, as it broadcasts with its output, and the number of values in each."""
    if kind is aten.native_layer_norm:
        own = len(args[1])
        shape = [*value.shape[: value.dim() - own], *[1] * own]
    elif kind is aten.native_group_norm:
        # Groups of neighbouring channels: a channel of each stands for it.
        shape = [*value.shape[:2], *[1] * (value.dim() - 2)]
    else:
        shape = [1, value.shape[1], *[1] * (value.dim() - 2)]
    trained = kind in (aten._native_batch_norm_legit_no_training, aten._batch_norm_no_update)
    return shape, 1 if trained else max(value.numel() // max(math.prod(shape), 1), 1)


def _of(terms: int, *, blocked: bool = False) -> float:
    """The error of a sum of so many terms, of its own size. ``blocked``: a kernel of products, or of a norm, adds
    several sums side by side and then these, in every runtime."""
    return _UNIT * max(_LEAST, _CHAIN * math.sqrt(terms) * (_BLOCKED if blocked else 1))


def _rounding(kind: Any, result: Tensor, args: Any) -> Callable[[], Tensor] | None:
    """The size of an operator's rounding error by element; None for one that moves, chooses or rounds correctly."""
    first = args[0] if args and isinstance(args[0], Tensor) else None
    if first is None or not first.is_floating_point():
        return None
    if kind in _GATED:
        return lambda: result.abs() * (_UNIT / 4) + first.abs() * (_UNIT / 8)
    if kind is aten.sigmoid:
        return lambda: result.abs() * (_UNIT / 4) + _UNIT / 8
    if kind in _APPROXIMATED:
        return lambda: result.abs() * (_UNIT / 4)
    if kind in _ROOTS:
        terms = _length(first, args[1]) if kind is aten._softmax else first.numel() // max(result.numel(), 1)
        return lambda: result.abs() * _of(terms)
    if kind in _SUMS or kind in _POOLS:
        return lambda: _of_a_sum(kind, result, first, args)
    if kind in _PRODUCTS:
        return lambda: _of_products(result, first, args[1], None)
    if kind in _ADDED_PRODUCTS:
        return lambda: _of_products(result, args[1], args[2], args[0])
    if kind is aten.convolution:
        weight = args[1]
        terms = weight[0].numel() if not args[6] else weight.shape[0] * weight[0, 0].numel()
        return lambda: (
            (result.square() + aten.convolution(first.square(), weight.square(), None, *args[3:])).sqrt()
            * _of(terms, blocked=True)
        )
    if kind is aten._log_softmax:
        return lambda: (1 + result.abs()) * _of(_length(first, args[1]))
    return None


def _length(x: Tensor, dim: Any) -> int:
    return x.shape[int(dim)] if x.dim() else 1


def _of_a_sum(kind: Any, result: Tensor, first: Tensor, args: Any) -> Tensor:
    terms = max(first.numel() // max(result.numel(), 1), 1)
    if kind in (aten.cumsum, aten.logcumsumexp) or kind in _POOLS or result.dim() == 0:
        terms = max(terms, _length(first, args[1]) if kind in (aten.cumsum, aten.logcumsumexp) else 1)
        around = first.square().mean().sqrt() * math.sqrt(terms)
        return (result.abs() + (around if kind not in _POOLS else 0)) * _of(terms)
    # The terms' own size: a sum of both signs is smaller than its partial sums.
    size = first.square().mean().sqrt() * (math.sqrt(terms) if kind is aten.sum else 1 / math.sqrt(terms))
    rounded = (result.square() + size.square()).sqrt() * _of(terms)
    if terms < _LONG:
        return rounded
    return torch.maximum(rounded, (_in_one_chain(kind, first, args, result) - result).abs() * _EIGHTH)


def _in_one_chain(kind: Any, first: Tensor, args: Any, like: Tensor) -> Tensor:
    """A sum or a mean, term by term: terms that are alike round alike, so that its error is no random walk."""
    dims = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) and args[1] else range(first.dim())
    last = sorted(dim % first.dim() for dim in dims)
    kept = [dim for dim in range(first.dim()) if dim not in last]
    terms = first.permute(*kept, *last).reshape(*(first.shape[dim] for dim in kept), -1).numpy()
    total = np.add.accumulate(terms, axis=-1, dtype=np.float32)[..., -1]
    chain = torch.from_numpy(np.ascontiguousarray(total)).reshape(like.shape)
    return chain / terms.shape[-1] if kind is aten.mean else chain


def _of_products(result: Tensor, a: Tensor, b: Tensor, added: Tensor | None) -> Tensor:
    terms = a.shape[-1]
    squares = torch.matmul(a.square(), b.square()) + result.square()
    if added is not None:
        squares = squares + added.square()
    return squares.sqrt() * _of(terms, blocked=True)
