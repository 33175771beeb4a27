"""The example inputs: tensors by the names of forward's parameters, and whether they are passed by them."""

import inspect
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export.source import programs
from edgeattn.export.source.given import Inputs
from edgeattn.export.source.outputs import unusable

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# What every format takes as the name of a tensor.
_NOT_IN_NAMES = re.compile(r"\W", re.ASCII)


@dataclass(frozen=True)
class Named:
    """Inputs by name, in order. ``keywords`` are forward's parameters that they are passed by, in the same order; none
    where they are passed by position. ``renamed`` are names that files cannot hold, each with the one in its place."""

    inputs: dict[str, Tensor]
    keywords: tuple[str, ...]
    renamed: dict[str, str]


def example(inputs: Any, name: str) -> Any:
    """The inputs as a tuple, list or dict of tensors."""
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    tensors = list(inputs.values()) if isinstance(inputs, dict) else inputs
    if not isinstance(tensors, tuple | list) or not tensors or not all(isinstance(t, Tensor) for t in tensors):
        raise BadInputError(f"{name} must give its example inputs as a tensor, or a tuple or dict of tensors")
    for tensor in tensors:
        if reason := unusable(tensor):
            raise BadInputError(f"an example input of {name} {reason}")
    return inputs


def copies(inputs: Inputs, name: str) -> Any:
    """Contiguous copies on the CPU, as a tuple or a dict."""

    def copied(x: Tensor) -> Tensor:
        return x.detach().cpu().clone(memory_format=torch.contiguous_format)

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
    renamed = _renamed([*inputs])
    return Named(
        dict(zip(renamed.values(), inputs.values(), strict=True)),
        tuple(inputs) if by_name else (),
        {old: new for old, new in renamed.items() if old != new},
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


def _renamed(names: list[str]) -> dict[str, str]:
    """Each name, with the one that the files have: letters of ASCII, digits and _, and no two the same."""
    result: dict[str, str] = {}
    for name in names:
        safe = _NOT_IN_NAMES.sub("_", name)
        safe = stem = f"x_{safe}" if not safe or safe[0].isdigit() or keyword.iskeyword(safe) else safe
        number = 1
        while safe in result.values() or (safe != name and safe in names):
            safe, number = f"{stem}_{number}", number + 1
        result[name] = safe
    return result
