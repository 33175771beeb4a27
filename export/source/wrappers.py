"""Copies a module without what is wrapped around it and its parts, and refuses what is no ``nn.Module`` inside."""

import copy
import inspect
import types
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export.source import kinds

_QUANTISED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.", "torch.ao.nn.sparse.quantized.")


def unwrapped(module: nn.Module) -> nn.Module:
    """The module without the wrappers of torch.compile and of data parallelism."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled
        else:
            return module


def copied(module: nn.Module) -> nn.Module:
    """A deep copy in which the module and every part of it are unwrapped.

    Raises:
        BadInputError: as :func:`check`.
    """
    # What a hook computes before each call (the older weight_norm, pruning) cannot be copied with its history.
    copies: dict[int, Any] = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    for part in reversed(list(module.modules())):  # the innermost wrapper first
        if (inner := unwrapped(part)) is not part:
            copies[id(part)] = copy.deepcopy(inner, copies)
    module = copy.deepcopy(module, copies)
    check(module)
    for part in module.modules():
        _interpret(part)
    return module


def _interpret(part: nn.Module) -> None:
    """Give a part whose ``forward`` was compiled the one that was written."""
    written: Any = type(part).forward
    current = vars(part).get("forward", written)
    plain, compiled = (getattr(f, "_torchdynamo_orig_callable", None) for f in (written, current))
    if compiled is not None:
        method = inspect.unwrap(compiled)
        if getattr(method, "__func__", method) is inspect.unwrap(plain or written):
            part.forward = types.MethodType(plain or written, part)


def check(module: nn.Module) -> None:
    """Refuse TorchScript and quantised modules, also as parts.

    Raises:
        BadInputError: one sentence says what to give in their place.
    """
    for path, part in module.named_modules():
        where = f"the model's part {path}" if path else "the model"
        if isinstance(part, torch.jit.ScriptModule):
            raise BadInputError(f"{where} is TorchScript: give the nn.Module that it was scripted or traced from")
        tensors = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        if type(part).__module__.startswith(_QUANTISED) or any(tensor.is_quantized for tensor in tensors):
            raise BadInputError(
                f"{where} is quantised already: give the float module, and --precision int8 to quantise it"
            )
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            if not tensor.is_complex() and (reason := kinds.unusable(tensor)):  # complex ones may not be used
                raise BadInputError(f"{f'{path}.{name}'.lstrip('.')} {reason}")
