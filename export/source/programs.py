"""Programs of torch.export, from memory or from a .pt2 file, and the graph modules that they give, as plain modules."""

import inspect
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from edgeattn.errors import BadInputError
from edgeattn.system.vendor_errors import first_line

SUFFIX = ".pt2"
# Calls that only check types and shapes, of the type that the program was exported in.
_CHECKS = ("_guards_fn", "aten._assert_tensor_metadata.default")


def read(path: Path) -> ExportedProgram:
    """The program in a file. torch reads it with pickle, so that it may run code.

    Raises:
        BadInputError: torch cannot read it as a program of torch.export.
    """
    log = logging.getLogger("torch.export")
    disabled, log.disabled = log.disabled, True  # it prints a traceback, and the error is printed as a sentence
    try:
        return torch.export.load(path)
    except Exception as error:
        raise BadInputError(
            f"{path} cannot be read as a program of torch.export.save: {type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        log.disabled = disabled


def class_name(program: ExportedProgram | nn.Module) -> str:
    """The name of the class that a program was exported from, as far as it is known; else the module's own class."""
    module = program.graph_module if isinstance(program, ExportedProgram) else program
    for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
        for _, kind in (node.meta.get("nn_module_stack") or {}).values():
            return str(kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
    return type(program).__name__


def clean(module: nn.Module) -> None:
    """Drop the checks of types and shapes in the graph of each part, and refuse what cannot be exported.

    Raises:
        BadInputError: a program was exported in training mode, or takes more than tensors.
    """
    for part in module.modules():
        if not isinstance(part, fx.GraphModule):
            continue
        for node in list(part.graph.nodes):
            if str(node.target) in _CHECKS and not node.users:
                part.graph.erase_node(node)
            elif _trains(node):
                raise BadInputError(
                    f"the program was exported in training mode ({node.target}): call model.eval() before the export"
                )
        part.recompile()
    placeholders = dict(_placeholders(module))
    if placeholders and list(placeholders) != list(inspect.signature(module.forward).parameters):
        raise BadInputError("the program takes a dict or a list of inputs: export it with each tensor as a parameter")
    for name, value in placeholders.items():
        if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            raise BadInputError(f"the program takes {name}, a number that may change: export it with a fixed one")


def to_float32(module: nn.Module) -> None:
    """Turn a module to float32, and in the graphs of programs the types of their weights, which are constants there."""
    for part in module.modules():
        if isinstance(part, fx.GraphModule):
            tensors = [*part.parameters(), *part.buffers()]
            kinds = {x.dtype for x in tensors if x.is_floating_point()} - {torch.float32}
            for node in part.graph.nodes if kinds else ():
                node.args, node.kwargs = fx.node.map_aggregate((node.args, node.kwargs), partial(_single, kinds))
            part.recompile()
    module.float()


def _single(kinds: set[torch.dtype], value: Any) -> Any:
    return torch.float32 if isinstance(value, torch.dtype) and value in kinds else value


def _trains(node: fx.Node) -> bool:
    """Whether this is a dropout that drops, or a batch norm that takes and updates the statistics of its batch."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    arguments: dict[str, Any] = dict(zip((a.name for a in node.target._schema.arguments), node.args, strict=False))
    arguments |= node.kwargs
    if not (arguments.get("train") is True or arguments.get("training") is True):
        return False
    # Without running statistics a batch norm takes its batch's in evaluation too.
    drops = bool(arguments.get("p", arguments.get("dropout", 1)) != 0)
    return drops and arguments.get("running_mean", True) is not None


def _placeholders(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The inputs of a program's graph module: each one's name, and its value as it was traced."""
    for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
        if node.op == "placeholder" and "val" in node.meta:
            yield str(node.target), node.meta["val"]


def constants(module: nn.Module) -> dict[str, Any]:
    """The inputs of a program that it was exported with as constants (None, a number, a text)."""
    return {name: value for name, value in _placeholders(module) if not isinstance(value, Tensor)}


def example(program: ExportedProgram, module: nn.Module) -> dict[str, Tensor]:
    """The inputs that a program was exported with, by name; random ones of its shapes where it holds none.

    ``module`` is the program as a module.

    Raises:
        BadInputError: random inputs cannot stand for what it takes.
    """
    args, kwargs = program.example_inputs or ((), {})
    placeholders = dict(_placeholders(module))
    values = {**dict(zip(placeholders, args, strict=False)), **kwargs}
    if values.keys() != placeholders.keys():
        values = {name: _random(name, value) for name, value in placeholders.items()}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _random(name: str, value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    if not value.is_floating_point():
        raise BadInputError(f"the program holds no example inputs, and {name} is {value.dtype}: save it with them")
    return torch.randn([_fixed(size) for size in value.shape]).to(value.dtype)


def _fixed(size: Any) -> int:
    """A size of an input; for a free one the size at the export, where it is known."""
    if isinstance(size, int):
        return size
    hint = getattr(size.node, "hint", None)
    return int(hint) if isinstance(hint, int) else 1


def fits(module: nn.Module, inputs: dict[str, Tensor]) -> None:
    """Refuse inputs of other sizes than those that a program has fixed, which it would compute something else with.

    Raises:
        BadInputError: one sentence with both shapes.
    """
    for name, traced in _placeholders(module):
        given = inputs.get(name)
        if given is None or not isinstance(traced, Tensor):
            continue
        same = len(given.shape) == len(traced.shape) and all(
            not isinstance(size, int) or size == actual for size, actual in zip(traced.shape, given.shape, strict=True)
        )
        if not same:
            shape = [size if isinstance(size, int) else "any" for size in traced.shape]
            raise BadInputError(
                f"the program was exported for {name} {shape}, not {list(given.shape)}: export it again from the module"
            )
