"""The example inputs, by the names of forward's parameters."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export.source.given import Inputs


def example(inputs: Any, name: str) -> Any:
    """The inputs as a tuple, list or dict of tensors."""
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    tensors = list(inputs.values()) if isinstance(inputs, dict) else inputs
    if not isinstance(tensors, tuple | list) or not tensors or not all(isinstance(t, Tensor) for t in tensors):
        raise BadInputError(f"{name} must give its example inputs as a tensor, or a tuple or dict of tensors")
    return inputs


def copies(inputs: Inputs, name: str) -> Any:
    """Copies on the CPU, as a tuple or a dict."""

    def copied(x: Tensor) -> Tensor:
        return x.detach().cpu().clone(memory_format=torch.contiguous_format)

    if isinstance(inputs, Mapping):
        return {key: copied(x) for key, x in example(dict(inputs), name).items()}
    return tuple(map(copied, example(inputs, name)))


def shape(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise BadInputError(f"--input-shape takes positive numbers such as 1,3,256,256, not {text!r}")
    return numbers


def named(module: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """Inputs by the names of forward's parameters, in their order. A dict with other names stays as it is."""
    names = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if isinstance(inputs, dict):
        first = names[: len(inputs)]
        if not inputs.keys() & set(names):
            return dict(inputs)
        if inputs.keys() != set(first):
            names_in_dict = ", ".join(inputs)
            raise BadInputError(
                f"the module takes {', '.join(names)} in this order; {names_in_dict} are not the first of them"
            )
        return {name: inputs[name] for name in first}
    if len(names) < len(inputs):
        names = [f"x_{i}" for i in range(len(inputs))]
    return dict(zip(names, inputs, strict=False))
