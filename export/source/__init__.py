"""The model to export: a sample model, a factory in the user's own file, a program of torch.export, or a module."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.errors import BadInputError
from edgeattn.export import hub
from edgeattn.export.source import factory, labelled, programs, sizes
from edgeattn.export.source import inputs as examples
from edgeattn.export.source.given import Evaluation, Inputs, Source
from edgeattn.export.source.outputs import run
from edgeattn.export.source.ready import copied, ready
from edgeattn.export.source.wrappers import unwrapped
from edgeattn.export.user_code import contained
from edgeattn.export.weights import load_weights, read_weights
from edgeattn.export.wrappers import without_prefix
from edgeattn.sample_models import MODELS
from edgeattn.sample_models._checkpoints import Checkpoint
from edgeattn.system.notes import note

__all__ = ["Evaluation", "Inputs", "Source", "from_module", "load", "run"]

# Names become parts of file names.
_NAME = re.compile(r"\w[\w.-]{0,99}")


def load(
    model: str,
    arguments: Sequence[str] = (),
    *,
    weights: Path | None = None,
    input_shapes: Sequence[str] = (),
    image_size: str | None = None,
    seed: int = 0,
    partial: bool = False,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Source:
    """Build the model that ``model`` names; random weights and inputs come from ``seed``. ``partial`` takes weights
    that lack a part of the model, or have one of another shape. ``preprocessing`` goes before the model's own, and so
    does ``name``, which the files get.

    Raises:
        BadInputError: an argument cannot be used; one sentence says why.
    """
    if image_size and input_shapes:
        raise BadInputError("--image-size and --input-shape both say how large the input is: give one of them")
    size = sizes.image_size(image_size) if image_size else None
    shapes = [sizes.input_shape(text) for text in input_shapes]
    if name is not None:
        _check_name(name)
    name, build = name or factory.name_of(model), factory.find(model)
    parsed = factory.parse_arguments(build, arguments, model=name)
    if size and model in MODELS.names:
        parsed = {**sizes.as_argument(build, size), **parsed}
    state, checkpoint = None, None
    if weights is not None:
        if hub.is_name(str(weights)):
            weights = hub.fetch(str(weights))
        state = read_weights(weights)
        checkpoint = _recognised(model, state)
        if checkpoint is not None:
            state = checkpoint.state
            parsed = {**checkpoint.arguments, **parsed}
    with contained():
        torch.manual_seed(seed)
        built, inputs, with_labels = factory.unpack(factory.call(build, parsed, name), name)
        module, notes = copied(built, name)
        if shapes:
            inputs = tuple(torch.randn(shape) for shape in shapes)
        inputs = _example(built, module, inputs, name, "return (module, inputs) or give --input-shape 1,3,64,64")
        if size:
            inputs = sizes.resized(inputs, size, name)
        if state is not None:
            notes += load_weights(module, state, weights, partial=partial)
        made = ready(module, inputs, notes, f" at {size[0]}x{size[1]}" if size else "")
    evaluation = calibration = None
    told: Any = None if checkpoint is None else {"source": checkpoint.source, **checkpoint.preprocessing}
    if with_labels is not None:
        brought = labelled.brought(with_labels, name)
        told = told or brought.get("preprocessing")
        # The preprocessing may come alone.
        if brought.keys() & {"inputs", "labels"} or not told:
            evaluation = labelled.evaluation(brought, made.given, made.outputs, name)
        calibration = labelled.calibration(brought.get("calibration"), made.given, name)
    preprocessing = labelled.preprocessing(preprocessing or told, made.inputs, name)
    return Source(
        name,
        parsed,
        made.module,
        made.inputs,
        made.outputs,
        preprocessing,
        evaluation,
        calibration,
        notes=made.notes,
        own_names=made.own_names,
    )


def from_module(
    module: nn.Module | ExportedProgram,
    inputs: Inputs | None = None,
    *,
    name: str | None = None,
    evaluation: tuple[Tensor, Tensor] | None = None,
    calibration: Tensor | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    cases: Mapping[str, Inputs] | None = None,
) -> Source:
    """Copy ``module``, on the CPU and in evaluation mode, and all tensors: the arguments are not changed.

    ``name`` is by default the class's name; ``inputs`` are by default those that a program was exported with;
    ``evaluation`` are inputs [n, ...] and their classes [n], int64.

    Raises:
        BadInputError: an argument cannot be used; one sentence says why.
    """
    if not isinstance(module, nn.Module | ExportedProgram):
        raise BadInputError(f"{module!r:.60} is no torch.nn.Module: give a module, and its example inputs")
    name = name_of(module) if name is None else name
    for what in (name, *(cases or ())):
        _check_name(what)
    with contained():
        copy, notes = copied(module, name)
        made = ready(copy, _example(module, copy, inputs, name, "give them too"), notes)
        more_cases = {
            case: examples.named(copy, examples.copies(case_inputs, case)).inputs
            for case, case_inputs in (cases or {}).items()
        }
        labels = None
        if evaluation is not None:
            if not isinstance(evaluation, tuple | list) or len(evaluation) != 2:
                raise BadInputError("evaluation takes two tensors: inputs [n, ...], and their classes [n]")
            images, classes = examples.copies(evaluation, "evaluation")
            labels = labelled.evaluation({"inputs": images, "labels": classes}, made.given, made.outputs, name)
        if calibration is not None:
            calibration = labelled.calibration(examples.copies(calibration, "calibrate")[0], made.given, name)
    return Source(
        name,
        {},
        made.module,
        made.inputs,
        made.outputs,
        labelled.preprocessing(preprocessing, made.inputs, name),
        labels,
        calibration,
        more_cases,
        made.notes,
        made.own_names,
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInputError(f"{name!r:.120} cannot name a file: use letters, digits, and then _, . or -")


def name_of(module: nn.Module | ExportedProgram) -> str:
    """The name of a model that was given none: that of its class."""
    return factory.file_name(programs.class_name(unwrapped(module) if isinstance(module, nn.Module) else module))


def _example(given: nn.Module | ExportedProgram, module: nn.Module, inputs: Any, name: str, what_to_do: str) -> Any:
    """Copies of the example inputs, which a program may bring itself; ``module`` is the copy of ``given``."""
    if inputs is None and isinstance(given, ExportedProgram):
        inputs = programs.example(given, module)
    if inputs is None:
        raise BadInputError(f"{name} is a module without example inputs; {what_to_do}")
    return examples.copies(inputs, name)


def _recognised(model: str, state: dict[str, Tensor]) -> Checkpoint | None:
    """A public checkpoint for a sample model, recognised by its keys; None if it is none."""
    recognise = MODELS.get(model).recognise if model in MODELS.names else None
    if recognise is None:
        return None
    found = recognise(state)
    if found is None and (bare := without_prefix(state)) and (found := recognise(bare)):
        note(f"the weights were taken without the prefix {next(iter(state)).partition('.')[0]}.")
    return found
