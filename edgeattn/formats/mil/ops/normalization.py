"""Norms."""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeattn.formats.mil.registry import axes_of, op


@op
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, eps=float(epsilon))


@op
def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: Tensor | float = 1e-5
) -> Tensor:
    # Not F.instance_norm: it refuses a single pixel, which is a valid input here.
    return _normalise(x, list(range(2, x.dim())), gamma, beta, epsilon, [1, -1, *[1] * (x.dim() - 2)])


@op
def layer_norm(
    x: Tensor,
    axes: Tensor | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    over = axes_of(axes, x.dim())
    return _normalise(x, over, gamma, beta, epsilon, [n if i in over else 1 for i, n in enumerate(x.shape)])


def _normalise(
    x: Tensor,
    axes: list[int],
    gamma: Tensor | None,
    beta: Tensor | None,
    epsilon: Tensor | float,
    affine_shape: list[int],
) -> Tensor:
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + epsilon)
    if gamma is not None:
        y = y * gamma.reshape(affine_shape)
    return y if beta is None else y + beta.reshape(affine_shape)


@op
def l2_norm(x: Tensor, epsilon: Tensor | float = 1e-6) -> Tensor:
    """Over the last three axes."""
    return x / torch.sqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)


@op
def local_response_norm(
    x: Tensor,
    size: Tensor,
    alpha: Tensor | float = 1e-4,
    beta: Tensor | float = 0.75,
    k: Tensor | float = 1.0,
) -> Tensor:
    return F.local_response_norm(x, int(size), float(alpha), float(beta), float(k))
