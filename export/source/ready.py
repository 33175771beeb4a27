"""A model made ready for the export: a copy that takes its inputs in order, in float32, and was run on them once."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram

from edgeattn.errors import BadInputError
from edgeattn.export.source import floats, outputs, programs, wrappers
from edgeattn.export.source import inputs as examples
from edgeattn.export.source.adapter import InOrder
from edgeattn.system.vendor_errors import first_line


@dataclass(frozen=True)
class Ready:
    """The module as it is exported, with its inputs and outputs; ``given`` are the inputs in the user's own types."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    given: dict[str, Tensor]
    notes: tuple[str, ...]


def copied(model: nn.Module | ExportedProgram, name: str) -> nn.Module:
    """A copy of a module, or a program as a module, on the CPU and in evaluation mode.

    Raises:
        BadInputError: it is no module that can be exported, or cannot be copied.
    """
    module = model.module() if isinstance(model, ExportedProgram) else model
    try:
        module = wrappers.copied(module)
        programs.clean(module)
        return module.cpu().eval()
    except BadInputError:
        raise
    except Exception as error:  # a module may hold anything
        raise BadInputError(f"{name} cannot be copied: {type(error).__name__}: {first_line(error)}") from error


def ready(module: nn.Module, example: Any, about: str = "") -> Ready:
    """Run ``module`` on ``example``, in float32. ``about`` says what is special about these inputs.

    Raises:
        BadInputError: the inputs do not fit the module, or it fails on them.
    """
    named = examples.named(module, example)
    programs.fits(module, named.inputs)
    notes = [f"the input {old} is named {new} in the files" for old, new in named.renamed.items()]
    if note := floats.note(module, named.inputs.values()):
        notes.append(note)
        about += " in float32"
    module, inputs = module.float(), {name: floats.single(x) for name, x in named.inputs.items()}
    if named.keywords:
        module = InOrder(module, named.keywords, programs.constants(module))
    result = outputs.first(module, inputs, about)
    if not outputs.is_flat(result):
        module = InOrder(module)
    values = outputs.flat(result)
    return Ready(module, inputs, outputs.named(values, inputs), named.inputs, tuple(notes))
