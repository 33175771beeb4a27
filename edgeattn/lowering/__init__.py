"""Exact inference-time rewrites: a module goes in, the module that is deployed comes out."""

from edgeattn.change import Change
from edgeattn.lowering.bias import correct_biases
from edgeattn.lowering.edges import to_channels_first, to_channels_last
from edgeattn.lowering.half import for_half
from edgeattn.lowering.observe import is_spatial_mean
from edgeattn.lowering.rewrite import Lowering, lower

__all__ = [
    "Change",
    "Lowering",
    "correct_biases",
    "for_half",
    "is_spatial_mean",
    "lower",
    "to_channels_first",
    "to_channels_last",
]
