"""Separable self-attention: the reference, its deployable form, and the proof that both are the same.

The public names are loaded on first use, so that ``import edgeattn`` costs no import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeattn.attention import LinearSelfAttention, context_score_map
    from edgeattn.lowering import lower

__version__ = "0.1.0"
__all__ = ["LinearSelfAttention", "__version__", "context_score_map", "lower"]

_HOMES = {
    "LinearSelfAttention": "edgeattn.attention",
    "context_score_map": "edgeattn.attention",
    "lower": "edgeattn.lowering",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeattn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
