"""One element at a time: arithmetic, comparisons, logic, casts."""

from collections.abc import Callable

import torch
from torch import Tensor

from edgeattn.formats.mil.registry import named, op

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "identity": torch.clone,
    "logical_not": torch.logical_not,
    # Half to even, as NumPy and the IEEE do.
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "equal": torch.eq,
    "floor_div": torch.floor_divide,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    # The sign of the divisor, as in Python.
    "mod": torch.remainder,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "pow": torch.pow,
    "sub": torch.sub,
}
# A cast to a narrower type wraps; torch has no arithmetic for these types, so wider integers carry them.
_CARRIED = {"uint16": (torch.int32, 0xFFFF), "uint32": (torch.int64, 0xFFFFFFFF), "uint64": (torch.int64, -1)}
TORCH_TYPES = {
    "bool": torch.bool,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp64": torch.float64,
    **{f"int{bits}": getattr(torch, f"int{max(bits, 8)}") for bits in (4, 8, 16, 32, 64)},
    **{f"uint{bits}": torch.uint8 for bits in (1, 2, 3, 4, 6, 8)},
    **{name: carrier for name, (carrier, _) in _CARRIED.items()},
}


def _register_unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    @named(name)
    def unary(x: Tensor) -> Tensor:
        return function(x)


def _register_binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @named(name)
    def binary(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)


for _name, _unary in _UNARY.items():
    _register_unary(_name, _unary)
for _name, _binary in _BINARY.items():
    _register_binary(_name, _binary)


@op
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """The quotient; for integers without its fraction."""
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


@op
def exp2(x: Tensor) -> Tensor:
    return torch.exp2(x) if x.is_floating_point() else torch.exp2(x.double()).to(x.dtype)


@op
def inverse(x: Tensor, epsilon: Tensor | float = 1e-4) -> Tensor:
    return torch.reciprocal(x + epsilon)


@op
def log(x: Tensor, epsilon: Tensor | float = 1e-45) -> Tensor:
    return torch.log(x + epsilon)


@op
def rsqrt(x: Tensor, epsilon: Tensor | float = 1e-12) -> Tensor:
    return torch.rsqrt(x + epsilon)


@op
def clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, alpha), beta)


@op
def threshold(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.maximum(x, alpha)


@op
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond.bool(), a, b)


@op
def cast(x: Tensor, dtype: str) -> Tensor:
    """Floats become integers by truncation towards zero; integers wrap."""
    if dtype in _CARRIED:
        carrier, mask = _CARRIED[dtype]
        return (x.to(torch.int64) & mask).to(carrier)
    return x.to(TORCH_TYPES[dtype])
