"""timm itself, beside a torch without CUDA: ``real_timm.load()`` instead of ``import timm``.

timm imports torchvision, and so do transformers' vision models where it is installed: for their data loaders; no model
calls anything of it. The torchvision of PyPI for Linux is built for CUDA, so that its compiled part does not load
beside a CPU build of torch. Its Python part then fails on import, at two operators that it describes and that nobody
has defined. They are defined here, by name and without a kernel: a call of one would be an error.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch


@cache
def declare_operators() -> torch.library.Library | None:
    """Define what torchvision describes, if its compiled part does not; before anything imports torchvision.

    The definitions last as long as the library that is returned, which the cache holds.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    try:
        for compiled in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(compiled)
    except OSError:
        if hasattr(torch.ops.torchvision, "nms"):  # another copy of this file did it
            return None
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


def load() -> ModuleType:
    """The package timm."""
    declare_operators()
    import timm

    return timm
