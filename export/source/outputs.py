"""The outputs of a module on its example inputs, flat and by name."""

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.system.vendor_errors import first_line


def run(module: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The module's outputs, flat, in order."""
    with torch.no_grad():
        result = module(*inputs.values())
    if isinstance(result, Tensor):
        return (result,)
    if hasattr(result, "to_tuple"):
        result = result.to_tuple()
    values = tuple(result.values()) if isinstance(result, dict) else tuple(result)
    if not all(isinstance(value, Tensor) for value in values):
        raise BadInputError("the module must return a tensor, or a tuple or dict of tensors")
    return values


def named(module: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    for what, tensors in (("parameters", [*module.parameters()]), ("inputs", [*inputs.values()])):
        for tensor in tensors:
            # The reference is computed in float32 and float64; lower precisions are made from it.
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                raise BadInputError(
                    f"the module's {what} are {tensor.dtype}: give it in float32, as module.float() does"
                )
    try:
        values = run(module, inputs)
    except BadInputError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
        raise BadInputError(
            f"the module fails on its example inputs ({shapes}): {type(error).__name__}: {first_line(error)}"
        ) from error
    return {"y": values[0]} if len(values) == 1 else {f"y_{i}": value for i, value in enumerate(values)}
