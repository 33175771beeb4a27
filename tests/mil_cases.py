"""One case or more for every op that mil_reference knows: its arguments, and what NumPy or PyTorch makes of them.

A name before a slash is the op's. Arguments and expectations are functions of the inputs, which are the program's
variables in the one and arrays in the other.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Case = tuple[Callable[[SimpleNamespace], dict[str, Any]], Callable[[SimpleNamespace], Any]]

_random = np.random.default_rng(0)
INPUTS = {
    "x": _random.standard_normal((2, 4, 6, 6)).astype(np.float32),
    "y": _random.standard_normal((2, 4, 6, 6)).astype(np.float32),
    "p": _random.uniform(0.1, 0.9, (2, 4, 6, 6)).astype(np.float32),
    "line": _random.standard_normal((2, 4, 9)).astype(np.float32),
    "cube": _random.standard_normal((1, 2, 4, 5, 6)).astype(np.float32),
    "matrix": _random.standard_normal((5, 7)).astype(np.float32),
    "n": _random.integers(-9, 9, (3, 4)).astype(np.int32),
    "m": _random.integers(1, 5, (3, 4)).astype(np.int32),
    "i": np.array([2, 0, 1], np.int32),
    "ij": np.array([[[0, 1], [2, 3]], [[1, 1], [0, 0]]], np.int32),
}
C = np.array([0.5, -0.25, 0.1, 2.0], np.float32)
KERNEL = _random.standard_normal((6, 2, 3, 2)).astype(np.float32)
KERNEL_1D = _random.standard_normal((3, 4, 3)).astype(np.float32)
KERNEL_3D = _random.standard_normal((3, 2, 2, 3, 2)).astype(np.float32)
KERNEL_UP = _random.standard_normal((4, 3, 3, 2)).astype(np.float32)
WEIGHT = _random.standard_normal((3, 6)).astype(np.float32)
BIAS = np.array([0.1, -0.2, 0.3], np.float32)


def t(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _unary(function: Callable[[Any], Any], name: str = "x") -> Case:
    return (lambda v: {"x": getattr(v, name)}, lambda a: function(getattr(a, name)))


def _binary(function: Callable[[Any, Any], Any], left: str = "x", right: str = "y") -> Case:
    return (
        lambda v: {"x": getattr(v, left), "y": getattr(v, right)},
        lambda a: function(a.__dict__[left], a.__dict__[right]),
    )


def on_x(function: Callable[[torch.Tensor], Any], **arguments: Any) -> Case:
    """An op on ``x`` with constant arguments."""
    return (lambda v: {"x": v.x, **arguments}, lambda a: function(t(a.x)))


def on(name: str, function: Callable[[torch.Tensor], Any], **arguments: Any) -> Case:
    return (lambda v: {"x": getattr(v, name), **arguments}, lambda a: function(t(getattr(a, name))))


_ELEMENTWISE: dict[str, Case] = {
    **{name: _unary(getattr(np, name)) for name in ("abs", "ceil", "cos", "cosh", "exp", "exp2", "floor", "round",
                                                    "sign", "sin", "sinh", "square", "tan", "tanh")},
    **{name: _unary(getattr(np, "arc" + name[1:]), "p") for name in ("acos", "asin", "atan", "atanh")},
    "sqrt": _unary(np.sqrt, "p"),
    "erf": _unary(lambda x: torch.erf(t(x))),
    "identity": _unary(lambda x: x),
    "exp2/integers": (lambda v: {"x": v.m}, lambda a: 2**a.m),
    "sign/integers": _unary(np.sign, "n"),
    "square/integers": _unary(np.square, "n"),
    "inverse": (lambda v: {"x": v.p, "epsilon": 0.25}, lambda a: 1 / (a.p + 0.25)),
    "inverse/default": (lambda v: {"x": v.p}, lambda a: 1 / (a.p + 1e-4)),
    "log": (lambda v: {"x": v.p, "epsilon": 0.25}, lambda a: np.log(a.p + 0.25)),
    "log/default": _unary(np.log, "p"),
    "rsqrt": (lambda v: {"x": v.p, "epsilon": 0.25}, lambda a: 1 / np.sqrt(a.p + 0.25)),
    "rsqrt/default": (lambda v: {"x": v.p}, lambda a: 1 / np.sqrt(a.p)),
    "clip": on_x(lambda x: x.clamp(-0.5, 0.7), alpha=-0.5, beta=0.7),
    "threshold": on_x(lambda x: x.clamp(min=0.2), alpha=0.2),
    "cast": on_x(lambda x: x.numpy().astype(np.int32), dtype="int32"),
    "cast/half": on_x(lambda x: x.numpy().astype(np.float16), dtype="fp16"),
    "cast/truth": (lambda v: {"x": v.n, "dtype": "bool"}, lambda a: a.n != 0),
    "cast/uint16": (lambda v: {"x": v.m, "dtype": "uint16"}, lambda a: a.m.astype(np.uint16)),
    "cast/int8": (lambda v: {"x": v.n, "dtype": "int8"}, lambda a: a.n.astype(np.int8)),
    **{name: _binary(getattr(np, other)) for name, other in {
        "add": "add", "sub": "subtract", "mul": "multiply", "real_div": "divide", "maximum": "maximum",
        "minimum": "minimum", "floor_div": "floor_divide", "mod": "mod", "equal": "equal", "greater": "greater",
        "greater_equal": "greater_equal", "less": "less", "less_equal": "less_equal", "not_equal": "not_equal",
    }.items()},
    **{f"{name}/integers": _binary(getattr(np, other), "n", "m") for name, other in {
        "add": "add", "mul": "multiply", "floor_div": "floor_divide", "mod": "mod", "equal": "equal",
        "less": "less", "pow": "power"}.items()},
    "real_div/integers": _binary(lambda n, m: np.trunc(n / m).astype(np.int32), "n", "m"),
    "pow": _binary(np.power, "p", "y"),
    "add/broadcast": (lambda v: {"x": v.x, "y": C.reshape(4, 1, 1)}, lambda a: a.x + C.reshape(4, 1, 1)),
}  # fmt: skip

_ACTIVATIONS: dict[str, Case] = {
    "relu": on_x(torch.relu),
    "relu6": on("x", F.relu6),
    "clamped_relu": on_x(lambda x: torch.minimum(F.leaky_relu(x, 0.1), torch.tensor(0.4)), alpha=0.1, beta=0.4),
    "leaky_relu": on_x(lambda x: F.leaky_relu(x, 0.1), alpha=0.1),
    "prelu": on_x(lambda x: F.prelu(x, t(C)), alpha=C),
    "elu": on_x(lambda x: F.elu(x, 0.7), alpha=0.7),
    "thresholded_relu": on_x(lambda x: F.threshold(x, 0.3, 0.0), alpha=0.3),
    "linear_activation": on_x(lambda x: x * 0.3 + 0.2, alpha=0.3, beta=0.2),
    "sigmoid": on_x(torch.sigmoid),
    "sigmoid_hard": on_x(lambda x: (x * 0.3 + 0.4).clamp(0, 1), alpha=0.3, beta=0.4),
    "silu": on_x(lambda x: x / (1 + torch.exp(-x))),
    "scaled_tanh": on_x(lambda x: 0.3 * torch.tanh(2 * x), alpha=0.3, beta=2.0),
    "softplus": on_x(F.softplus),
    "softplus_parametric": on_x(
        lambda x: t(C).reshape(4, 1, 1) * F.softplus(t(C).reshape(4, 1, 1) * x), alpha=C, beta=C
    ),
    "softsign": on_x(F.softsign),
    "gelu": on_x(F.gelu, mode="EXACT"),
    "gelu/tanh": on_x(lambda x: F.gelu(x, approximate="tanh"), mode="TANH_APPROXIMATION"),
    "gelu/sigmoid": on_x(lambda x: x * torch.sigmoid(1.702 * x), mode="SIGMOID_APPROXIMATION"),
    "softmax": on_x(lambda x: x.softmax(1), axis=1),
}

_REDUCTIONS: dict[str, Case] = {
    "reduce_argmax": on_x(lambda x: x.argmax(1), axis=1),
    "reduce_argmin": on_x(lambda x: x.argmin(2, keepdim=True), axis=2, keep_dims=True),
    "reduce_l1_norm": on_x(lambda x: x.abs().sum((1, 3)), axes=[1, -1]),
    "reduce_l2_norm": on_x(lambda x: x.norm(dim=(1, 3), keepdim=True), axes=[1, -1], keep_dims=True),
    "reduce_log_sum": (lambda v: {"x": v.p, "axes": [1]}, lambda a: np.log(a.p.sum(1))),
    "reduce_log_sum_exp": on_x(lambda x: x.logsumexp((2, 3)), axes=[2, 3]),
    "reduce_max": on_x(lambda x: x.amax((1, 2)), axes=[1, 2]),
    "reduce_max/all": on_x(torch.amax),
    "reduce_mean": on_x(lambda x: x.mean((2, 3), True), axes=[2, 3], keep_dims=True),
    "reduce_mean/integers": (lambda v: {"x": v.n, "axes": [1]}, lambda a: np.mean(a.n, 1).astype(np.int32)),
    "reduce_min": on_x(lambda x: x.amin(0), axes=[0]),
    "reduce_prod": on_x(lambda x: x.prod(3).prod(1), axes=[1, 3]),
    "reduce_sum": on_x(lambda x: x.sum((0, 2)), axes=[0, 2]),
    "reduce_sum/integers": (lambda v: {"x": v.n, "axes": [0]}, lambda a: a.n.sum(0).astype(np.int32)),
    "reduce_sum_square": on_x(lambda x: (x * x).sum(1), axes=[1]),
    "cumsum": on_x(lambda x: x.cumsum(1), axis=1),
    "cumsum/exclusive": on_x(lambda x: x.cumsum(2) - x, axis=2, exclusive=True),
    "cumsum/reverse": on_x(lambda x: x.flip(3).cumsum(3).flip(3), axis=3, reverse=True),
}

_NEURAL: dict[str, Case] = {
    "conv": on_x(
        lambda x: F.conv2d(F.pad(x, (2, 1, 1, 0)), t(KERNEL), t(WEIGHT[0]), stride=(2, 1), groups=2, dilation=(1, 2)),
        weight=KERNEL, bias=WEIGHT[0], strides=[2, 1], pad_type="custom", pad=[1, 0, 2, 1], dilations=[1, 2], groups=2,
    ),
    "conv/same": on_x(
        lambda x: F.conv2d(F.pad(x, (0, 1, 1, 1)), t(KERNEL), groups=2), weight=KERNEL, pad_type="same", groups=2
    ),
    "conv/same_lower": on_x(
        lambda x: F.conv2d(F.pad(x, (1, 0, 1, 1)), t(KERNEL), groups=2), weight=KERNEL, pad_type="same_lower", groups=2
    ),
    "conv/line": on("line", lambda x: F.conv1d(x, t(KERNEL_1D), stride=2), weight=KERNEL_1D, strides=[2],
                       pad_type="valid"),
    "conv/cube": on("cube", lambda x: F.conv3d(x, t(KERNEL_3D)), weight=KERNEL_3D, pad_type="valid"),
    "conv_transpose": on_x(
        lambda x: F.conv_transpose2d(x, t(KERNEL_UP), t(BIAS), stride=2, padding=1),
        weight=KERNEL_UP, bias=BIAS, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1],
    ),
    "conv_transpose/uneven": on_x(
        lambda x: F.conv_transpose2d(x, t(KERNEL_UP), stride=(1, 2))[:, :, 1:, :-1],
        weight=KERNEL_UP, strides=[1, 2], pad_type="custom", pad=[1, 0, 0, 1],
    ),
    "conv_transpose/same": on_x(
        lambda x: F.conv_transpose2d(x, t(KERNEL_UP), stride=2)[:, :, :12, :12],
        weight=KERNEL_UP, strides=[2, 2], pad_type="same",
    ),
    "conv_transpose/shape": on_x(
        lambda x: F.conv_transpose2d(x, t(KERNEL_UP), stride=2, padding=1, output_padding=1),
        weight=KERNEL_UP, strides=[2, 2], pad_type="custom", pad=[1, 0, 1, 0], output_shape=[2, 3, 12, 11],
    ),
    "linear": (lambda v: {"x": v.x, "weight": WEIGHT, "bias": BIAS}, lambda a: a.x @ WEIGHT.T + BIAS),
    "matmul": (lambda v: {"x": v.x, "y": v.y, "transpose_y": True}, lambda a: a.x @ a.y.swapaxes(-1, -2)),
    "matmul/broadcast": (
        lambda v: {"x": v.x, "y": WEIGHT, "transpose_x": True, "transpose_y": True},
        lambda a: a.x.swapaxes(-1, -2) @ WEIGHT.T,
    ),
    "matmul/integers": (lambda v: {"x": v.n, "y": v.m, "transpose_y": True}, lambda a: a.n @ a.m.T),
    "einsum": (
        lambda v: {"values": (v.x, np.ones((2, 6, 6, 5), np.float32)), "equation": "nchw,nwhu->nchu"},
        lambda a: np.repeat(a.x.sum(3, keepdims=True), 5, 3),
    ),
    "batch_norm": on_x(
        lambda x: F.batch_norm(x, t(C), t(C * C), t(C), t(C), eps=0.1),
        mean=C, variance=C * C, gamma=C, beta=C, epsilon=0.1,
    ),
    "batch_norm/plain": on_x(lambda x: F.batch_norm(x, t(C), t(C * C)), mean=C, variance=C * C),
    "instance_norm": on_x(
        lambda x: F.instance_norm(x, weight=t(C), bias=t(C), eps=0.1), gamma=C, beta=C, epsilon=0.1
    ),
    "layer_norm": on_x(
        lambda x: F.layer_norm(x, (6,), t(WEIGHT[0]), t(WEIGHT[1]), 0.1),
        axes=[-1], gamma=WEIGHT[0], beta=WEIGHT[1], epsilon=0.1,
    ),
    "layer_norm/channels": on_x(
        lambda x: F.layer_norm(x.movedim(1, -1), (4,), t(C), t(C)).movedim(-1, 1), axes=[1], gamma=C, beta=C
    ),
    "layer_norm/all": on_x(lambda x: F.layer_norm(x, x.shape), axes=[0, 1, 2, 3]),
    "l2_norm": on_x(lambda x: x / (x.square().sum((1, 2, 3), True) + 0.1).sqrt(), epsilon=0.1),
    "local_response_norm": on_x(
        lambda x: F.local_response_norm(x, 3, 0.1, 0.5, 2.0), size=3, alpha=0.1, beta=0.5, k=2.0
    ),
    "max_pool": on_x(lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 1)), kernel_sizes=[3, 2], strides=[2, 1],
                      pad_type="custom", pad=[1, 1, 1, 1]),
    "max_pool/ceil": on_x(lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), kernel_sizes=[3, 3], strides=[2, 2],
                           pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True),
    "max_pool/line": on("line", lambda x: F.max_pool1d(x, 2), kernel_sizes=[2], strides=[2], pad_type="valid"),
    "max_pool/cube": on("cube", lambda x: F.max_pool3d(x, 2), kernel_sizes=[2, 2, 2], strides=[2, 2, 2],
                           pad_type="valid"),
    "avg_pool": on_x(lambda x: F.avg_pool2d(x, 3, 2, 1), kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom",
                      pad=[1, 1, 1, 1]),
    "avg_pool/excluded": on_x(
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), kernel_sizes=[3, 3],
        strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True, exclude_padding_from_average=True,
    ),
    "avg_pool/same": on_x(lambda x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1), kernel_sizes=[2, 2], pad_type="same"),
    "avg_pool/same_lower": on_x(lambda x: F.avg_pool2d(F.pad(x, (1, 0, 1, 0)), 2, 1), kernel_sizes=[2, 2],
                                 pad_type="same_lower"),
    "l2_pool": on_x(lambda x: F.lp_pool2d(x, 2.0, 2), kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"),
    "upsample_bilinear": on_x(
        lambda x: F.interpolate(x, (12, 9), mode="bilinear", align_corners=True),
        scale_factor_height=2.0, scale_factor_width=1.5, align_corners=True,
    ),
    "upsample_bilinear/halves": on_x(
        lambda x: F.interpolate(x, (12, 18), mode="bilinear"), scale_factor_height=2, scale_factor_width=3,
        align_corners=False,
    ),
    "upsample_nearest_neighbor": on_x(lambda x: F.interpolate(x, scale_factor=(2, 3)), scale_factor_height=2,
                                       scale_factor_width=3),
    "resize_nearest_neighbor": on_x(lambda x: F.interpolate(x, (4, 9)), target_size_height=4, target_size_width=9),
    "resize_bilinear": on_x(
        lambda x: F.interpolate(x, (4, 9), mode="bilinear"), target_size_height=4, target_size_width=9,
        sampling_mode="UNALIGN_CORNERS",
    ),
    "resize": on_x(
        lambda x: F.interpolate(x, (6, 11), mode="bilinear", align_corners=True),
        shape=[7, 0, 11], resized_dims=np.uint32(2), sampling_mode="STRICT_ALIGN_CORNERS",
    ),
    "resize/nearest": on_x(
        lambda x: F.interpolate(x, (4, 9)),
        shape=[4, 9], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR",
    ),
    "crop": on_x(lambda x: x[..., 1:-2, 2:], crop_height=[1, 2], crop_width=[2, 0]),
    "quantize": (
        lambda v: {"input": v.x, "scale": np.float32(0.02), "zero_point": np.int8(3), "output_dtype": "int8"},
        lambda a: np.clip(np.round(a.x / np.float32(0.02)) + 3, -128, 127).astype(np.int8),
    ),
    "quantize/channels": (
        lambda v: {"input": v.x, "scale": np.abs(C), "axis": 1, "output_dtype": "uint8"},
        lambda a: np.clip(np.round(a.x / np.abs(C).reshape(4, 1, 1)), 0, 255).astype(np.uint8),
    ),
}  # fmt: skip

CASES = {**_ELEMENTWISE, **_ACTIVATIONS, **_REDUCTIONS, **_NEURAL}
