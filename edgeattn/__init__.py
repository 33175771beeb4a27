"""Separable self-attention: the reference layer, its lowering for deployment, and the checks that both are the same.

The public names are loaded on first use, so ``import edgeattn`` does not import torch. Each package in it is a
room, and imports only the rooms below it: ``ROOMS`` in ``tests/test_structure.py``, docs/architecture.md.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeattn._version import __version__

if TYPE_CHECKING:
    from edgeattn.attention import LinearSelfAttention, context_score_map
    from edgeattn.lowering import lower

# onnxruntime's own builds send what they are used for to its makers, and leave an identifier of the machine in the
# user's cache, unless this is set before it loads; processes that are started from here inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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
