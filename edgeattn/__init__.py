"""Separable self-attention: the reference layer, its lowering for deployment, and the checks that they are equal.

    bundle = edgeattn.deploy(module, torch.randn(1, 32, 4, 64), out="b")
    print(bundle.parity())

The public names are loaded on first use, so ``import edgeattn`` imports neither torch nor numpy. Each package in it is
a room, and imports only the rooms below it: ``ROOMS`` in ``tests/test_structure.py``, docs/architecture.md.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeattn._version import __version__
from edgeattn.errors import (
    ArtifactError,
    BadInputError,
    ConversionError,
    EdgeAttnError,
    LoweringError,
    MissingError,
    RefusedError,
    TargetError,
)

if TYPE_CHECKING:
    from edgeattn.attention import LinearSelfAttention, context_score_map
    from edgeattn.bundle.preprocessing import Preprocessing
    from edgeattn.interface.bundle import Bundle
    from edgeattn.interface.deploy import deploy
    from edgeattn.lowering import lower
    from edgeattn.parity.ci import assert_parity

# onnxruntime's own builds send usage data to Microsoft, and store an identifier of the machine in the user's cache,
# unless this is set before it loads. Child processes inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "ArtifactError",
    "BadInputError",
    "Bundle",
    "ConversionError",
    "EdgeAttnError",
    "LinearSelfAttention",
    "LoweringError",
    "MissingError",
    "Preprocessing",
    "RefusedError",
    "TargetError",
    "__version__",
    "assert_parity",
    "context_score_map",
    "deploy",
    "lower",
]

_MODULES = {
    "Bundle": "edgeattn.interface.bundle",
    "LinearSelfAttention": "edgeattn.attention",
    "Preprocessing": "edgeattn.bundle.preprocessing",
    "assert_parity": "edgeattn.parity.ci",
    "context_score_map": "edgeattn.attention",
    "deploy": "edgeattn.interface.deploy",
    "lower": "edgeattn.lowering",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'edgeattn' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
