"""Activations."""

from math import pi, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeattn.formats.mil.registry import op


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    """A vector over the channels, as it broadcasts against [B, C, ...]."""
    return values.reshape(-1, *[1] * (x.dim() - 2))


@op
def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


@op
def relu6(x: Tensor) -> Tensor:
    return x.clamp(0, 6)


@op
def clamped_relu(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.minimum(torch.where(x >= 0, x, alpha * x), beta)


@op
def leaky_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= 0, x, alpha * x)


@op
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, _by_channel(alpha, x) * x)


@op
def elu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@op
def thresholded_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= alpha, x, torch.zeros_like(x))


@op
def linear_activation(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return alpha * x + beta


@op
def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@op
def sigmoid_hard(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


@op
def silu(x: Tensor) -> Tensor:
    return F.silu(x)


@op
def scaled_tanh(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return alpha * torch.tanh(beta * x)


@op
def softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0)


@op
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return _by_channel(alpha, x) * softplus(_by_channel(beta, x) * x)


@op
def softsign(x: Tensor) -> Tensor:
    return x / (1 + x.abs())


@op
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + torch.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x)


@op
def softmax(x: Tensor, axis: Tensor | int = -1) -> Tensor:
    return torch.softmax(x, int(axis))
