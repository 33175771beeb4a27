"""The outputs of a module on its example inputs, flat and by name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.system.vendor_errors import first_line


def run(module: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The module's outputs, flat, in order, for copies of its inputs, which it may change."""
    with torch.no_grad():
        return flat(module(*_copies(inputs)))


def _copies(inputs: dict[str, Tensor]) -> list[Tensor]:
    # No part of the module: what watches it is not to see this.
    with torch._C.DisableTorchFunction():
        return [x.clone() for x in inputs.values()]


def flat(result: Any) -> tuple[Tensor, ...]:
    """The tensors in what a module returned, in order, without what is None."""
    if isinstance(result, Tensor):
        return (result,)
    if result is None:
        return ()
    if isinstance(result, Mapping):  # transformers' ModelOutput too
        result = tuple(result.values())
    if not isinstance(result, tuple | list):
        raise BadInputError(
            f"the module must return a tensor, or a tuple or dict of tensors, not {type(result).__name__}"
        )
    return tuple(tensor for value in result for tensor in flat(value))


def is_flat(result: Any) -> bool:
    """Whether every converter takes the outputs as they are: a tensor, or tensors in one tuple, list or dict."""
    values = tuple(result.values()) if isinstance(result, Mapping) else result
    return isinstance(values, Tensor) or all(isinstance(value, Tensor) for value in values)


def first(module: nn.Module, inputs: dict[str, Tensor], about: str = "") -> Any:
    """What the module returns for its example inputs. ``about`` says what is special about this call.

    Raises:
        BadInputError: it fails, or returns no tensors.
    """
    try:
        with torch.no_grad():
            result = module(*_copies(inputs))
    except BadInputError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
        raise BadInputError(
            f"the module{about} fails on its example inputs ({shapes}): {type(error).__name__}: {first_line(error)}"
        ) from error
    if not flat(result):
        raise BadInputError("the module must return a tensor, or a tuple or dict of tensors; it returns none")
    return result


def named(values: tuple[Tensor, ...], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs as ``y``, or ``y_0``, ``y_1``; as ``out`` where an input has such a name."""
    for stem in ("y", "out", "output_of_model"):
        names = [stem] if len(values) == 1 else [f"{stem}_{i}" for i in range(len(values))]
        if not inputs.keys() & set(names):
            break
    return dict(zip(names, values, strict=True))
