"""Models in other float types: everything is exported in float32, from which lower precisions are made."""

from collections.abc import Iterable

from torch import Tensor, nn

_SINGLE = "float32"


def single(x: Tensor) -> Tensor:
    """``x`` in float32, if it is of a float type."""
    return x.float() if x.is_floating_point() else x


def note_on_module(module: nn.Module) -> str:
    """What the user is told before ``module`` is turned to float32; nothing if it is all in float32."""
    kinds = _kinds([*module.parameters(), *module.buffers()])
    partly = "partly " if _SINGLE in kinds else ""
    others = " and ".join(kind for kind in kinds if kind != _SINGLE)
    return f"the model is {partly}in {others}: it is exported in float32, and takes float32" if others else ""


def note_on_inputs(inputs: Iterable[Tensor]) -> str:
    """The same for the example inputs."""
    others = " and ".join(kind for kind in _kinds(inputs) if kind != _SINGLE)
    return f"the example inputs are in {others}: the model is exported in float32, and takes float32" if others else ""


def _kinds(tensors: Iterable[Tensor]) -> list[str]:
    """The float types of the tensors, such as ``bfloat16``."""
    return sorted({str(x.dtype).removeprefix("torch.") for x in tensors if x.is_floating_point()})
