"""The example inputs: tensors by the names of forward's parameters, and whether they are passed by them."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export.source import kinds, names, programs
from edgeattn.export.source.given import Inputs

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Named:
    """Inputs by name, in order.

    ``keywords`` are forward's parameters that they are passed by, in the same order; none where they are passed by
    position. ``renamed`` are names that files cannot hold, each with the one in its place. ``without`` are parameters
    that are passed None.
    """

    inputs: dict[str, Tensor]
    keywords: tuple[str, ...]
    renamed: dict[str, str]
    without: tuple[str, ...] = ()


def example(inputs: Any, name: str) -> Any:
    """The inputs as a tuple, list or dict of tensors; None stands for one that is left out."""
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    tensors = list(inputs.values()) if isinstance(inputs, dict) else inputs
    given = [t for t in tensors if t is not None] if isinstance(tensors, tuple | list) else []
    if not given or not all(isinstance(t, Tensor) for t in given):
        raise BadInputError(f"{name} must give its example inputs as a tensor, or a tuple or dict of tensors")
    for key, tensor in inputs.items() if isinstance(inputs, dict) else enumerate(tensors):
        if not isinstance(key, str | int):
            raise BadInputError(f"{name} must give its example inputs by their names, not by {key!r:.60}")
        if tensor is None:
            continue
        if reason := kinds.unusable(tensor):
            raise BadInputError(f"the example input {key} of {name} {reason}")
        if not tensor.numel():
            raise BadInputError(f"the example input {key} of {name} is empty: its shape is {list(tensor.shape)}")
        if tensor.is_floating_point() and bool(tensor.float().isnan().any()):  # not all types have isnan
            raise BadInputError(f"the example input {key} of {name} has NaN values: nothing can be compared with them")
    return {str(key): tensor for key, tensor in inputs.items()} if isinstance(inputs, dict) else inputs


def copies(inputs: Inputs, name: str) -> Any:
    """Contiguous copies on the CPU, as a tuple or a dict."""

    def copied(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.detach().cpu().clone(memory_format=torch.contiguous_format)

    if isinstance(inputs, Mapping):
        return {key: copied(x) for key, x in example(dict(inputs), name).items()}
    return tuple(map(copied, example(inputs, name)))


def named(module: nn.Module, inputs: Any) -> Named:
    """Inputs by the names of forward's parameters, in their order. A dict with other names keeps them and its order.

    Raises:
        BadInputError: some names are of no parameter, or a parameter without a default is left out.
    """
    constants = programs.constants(module)
    parameters = {n: p for n, p in inspect.signature(module.forward).parameters.items() if n not in constants}
    positional = [name for name, p in parameters.items() if p.kind in _POSITIONAL]
    if not isinstance(inputs, dict):
        if len(positional) < len(inputs):
            positional = [f"x_{i}" for i in range(len(inputs))]
        inputs = dict(zip(positional, inputs, strict=False))
        by_name = bool(constants)
    elif by_name := _go_by_name(parameters, inputs):
        known = [name for name in parameters if name in inputs]
        inputs = {name: inputs[name] for name in (*known, *(key for key in inputs if key not in known))}
        by_name = bool(constants) or list(inputs) != positional[: len(inputs)]
    without = tuple(name for name, x in inputs.items() if x is None)
    if without and not by_name and any(name not in parameters for name in inputs):
        raise BadInputError(
            f"an input is None, and the module's forward has no parameter {list(inputs)[-1]}: leave it out"
        )
    inputs = {name: x for name, x in inputs.items() if x is not None}
    by_name = by_name or bool(without)
    renamed = dict(zip(inputs, names.safe([*inputs]), strict=True))
    return Named(
        dict(zip(renamed.values(), inputs.values(), strict=True)),
        tuple(inputs) if by_name else (),
        {old: new for old, new in renamed.items() if old != new},
        without,
    )


def _go_by_name(parameters: Mapping[str, inspect.Parameter], inputs: dict[str, Tensor]) -> bool:
    """Whether the names of a dict are those of forward's parameters, and not the user's own.

    Raises:
        BadInputError: some of them are, and others are wrong or missing.
    """
    takes = {name: p for name, p in parameters.items() if p.kind not in _OPEN}
    needed = [name for name, p in takes.items() if p.default is p.empty]
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not inputs.keys() & takes.keys() and (needed or not is_open):
        return False
    unknown = [name for name in inputs if name not in takes]
    missing = [name for name in needed if name not in inputs]
    if missing or (unknown and not is_open):
        wrong = f"there is no {', '.join(unknown)}" if unknown and not is_open else f"{', '.join(missing)} is missing"
        raise BadInputError(f"the module takes the inputs {', '.join(takes)}; {wrong}")
    return True
