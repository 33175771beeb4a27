"""Models in other float types: everything is exported in float32, from which lower precisions are made."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def kinds(tensors: Iterable[Tensor]) -> list[str]:
    """The float types of the tensors: ``bfloat16``."""
    found = {str(x.dtype).removeprefix("torch.") for x in tensors if x.is_floating_point()}
    return sorted(found)


def single(x: Tensor) -> Tensor:
    """``x`` in float32, if it is of a float type."""
    return x.float() if x.is_floating_point() else x


def note(module: nn.Module, inputs: Iterable[Tensor]) -> str:
    """What the user is told before module and inputs are turned to float32; nothing if all of them are."""
    inside, outside = kinds([*module.parameters(), *module.buffers()]), kinds(inputs)
    if others := [kind for kind in inside if kind != _SINGLE]:
        partly = "partly " if _SINGLE in inside else ""
        return f"the model is {partly}in {' and '.join(others)}: it is exported in float32, and takes float32"
    if others := [kind for kind in outside if kind != _SINGLE]:
        return f"the example inputs are in {' and '.join(others)}: the model is exported in float32, and takes float32"
    return ""


_SINGLE = str(torch.float32).removeprefix("torch.")
