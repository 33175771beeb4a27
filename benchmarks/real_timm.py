"""timm itself, beside a torch without CUDA: ``real_timm.load()`` instead of ``import timm``.

timm imports torchvision, for its data loaders; no model that is measured here calls anything of it. The torchvision of
PyPI is built for CUDA, so that its compiled part does not load beside a CPU build of torch; its Python part then stops
at the first of two operators that it describes and that nobody has defined. They are defined here, by name and without
a kernel: a call of one would be an error.
"""

import sys
from types import ModuleType

import torch

# Kept for as long as the process runs: a library that is collected takes its operators along.
_LIBRARIES: list[torch.library.Library] = []


def load() -> ModuleType:
    """The package timm."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
    import timm

    return timm
