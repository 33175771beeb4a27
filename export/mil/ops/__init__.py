"""Every op that is known; importing this package fills ``export.mil.registry.OPS``."""

from export.mil.ops import (
    activation,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    quantization,
    rearranging,
    reduction,
    resizing,
    shaping,
    weights,
)

__all__ = [
    "activation",
    "convolution",
    "elementwise",
    "indexing",
    "linear",
    "normalization",
    "pooling",
    "quantization",
    "rearranging",
    "reduction",
    "resizing",
    "shaping",
    "weights",
]
