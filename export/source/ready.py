"""A model made ready for the export: a copy that takes its inputs in order, in float32, and was run on them once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from edgeattn.errors import BadInputError
from edgeattn.export.source import behaviour, floats, outputs, programs, wrappers
from edgeattn.export.source import inputs as examples
from edgeattn.export.source.adapter import InOrder
from edgeattn.system.vendor_errors import first_line


@dataclass(frozen=True)
class Ready:
    """The module as it is exported, with its inputs and outputs; ``given`` are the inputs in the user's own types.

    ``own_names`` are the user's own names of inputs and outputs, by those that the files have, where they differ.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    given: dict[str, Tensor]
    own_names: dict[str, str]
    notes: tuple[str, ...]


def copied(model: nn.Module | ExportedProgram, name: str) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of a module, or a program as a module, on the CPU, in evaluation mode and in float32; and what to say.

    Raises:
        BadInputError: it is no module that can be exported, or cannot be copied.
    """
    module = model.module() if isinstance(model, ExportedProgram) else model
    try:
        module = wrappers.copied(module)
        programs.clean(module)
        note = floats.note_on_module(module)
        programs.to_float32(module)
        return module.cpu().eval(), (note,) if note else ()
    except BadInputError:
        raise
    except Exception as error:  # a module may hold anything
        raise BadInputError(f"{name} cannot be copied: {type(error).__name__}: {first_line(error)}") from error


def ready(module: nn.Module, example: Any, notes: tuple[str, ...], about: str = "") -> Ready:
    """Run ``module``, which is a copy in float32, on ``example``.

    ``notes`` are those of the copy; ``about`` says what is special about these inputs.

    Raises:
        BadInputError: the inputs do not fit the module, or it fails on them, or its outputs are no function of them.
    """
    named = examples.named(module, example)
    programs.fits(module, named.inputs)
    if not notes and (note := floats.note_on_inputs(named.inputs.values())):
        notes = (note,)
    if notes:
        about += " in float32"
    notes += tuple(f"the input {old} is named {new} in the files" for old, new in named.renamed.items())
    inputs = {name: floats.single(x) for name, x in named.inputs.items()}
    if named.keywords:
        constants = {**programs.constants(module), **dict.fromkeys(named.without)}
        module = InOrder(module, named.keywords, constants)
    result = outputs.first(module.call if isinstance(module, InOrder) else module, inputs, about)
    values = outputs.flat(result)
    other = {i: x.dtype for i, x in enumerate(values) if x.is_floating_point() and x.dtype != torch.float32}
    if other or not outputs.is_flat(result):
        module = InOrder(module, single=frozenset(other))
    out = outputs.named(result, inputs)
    for i, name in enumerate(out.outputs):
        if i in other:
            kind = str(other[i]).removeprefix("torch.")
            notes += (f"the output {name} is in {kind}: it is float32 in the files",)
    notes += tuple(f"the output {old} is named {new} in the files" for old, new in out.renamed.items())
    own_names = {new: old for renamed in (named.renamed, out.renamed) for old, new in renamed.items()}
    results = {name: floats.single(x) for name, x in out.outputs.items()}
    if changed := behaviour.changed_inputs(module, inputs):
        module = InOrder(module, copies=True)
        notes += (
            f"the module changes {' and '.join(changed)} in place; it is given copies, and the files change none",
        )
    behaviour.check(module, inputs)
    return Ready(module, inputs, results, named.inputs, own_names, notes)
