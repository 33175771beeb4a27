"""Exact inference-time rewrites: a module goes in, the module that is deployed comes out.

It knows no format and no runtime; ``formats`` and the rooms above may import it.
"""

from edgeattn.bundle.change import Change
from edgeattn.lowering.edges import in_layout, to_channels_first, to_channels_last
from edgeattn.lowering.rewrite import Lowering, Understood, lower, understand

__all__ = [
    "Change",
    "Lowering",
    "Understood",
    "in_layout",
    "lower",
    "to_channels_first",
    "to_channels_last",
    "understand",
]
