"""Every op that is known; importing this package fills ``edgeattn.formats.mil.registry.OPS``."""

from edgeattn.formats.mil.ops import (
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
