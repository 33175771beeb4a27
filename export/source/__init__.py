"""The model to export: a sample model, a factory in the user's own file, or a module in memory."""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export import hub
from edgeattn.export.source import factory, labelled, outputs
from edgeattn.export.source import inputs as examples
from edgeattn.export.source.given import Evaluation, Inputs, Source
from edgeattn.export.source.outputs import run
from edgeattn.export.source.wrappers import unwrapped
from edgeattn.export.user_code import contained
from edgeattn.export.weights import load_weights, read_weights
from edgeattn.sample_models import MODELS
from edgeattn.sample_models._checkpoints import Checkpoint
from edgeattn.system.vendor_errors import first_line

__all__ = ["Evaluation", "Inputs", "Source", "from_module", "load", "run"]

# Names become parts of file names.
_NAME = re.compile(r"\w[\w.-]{0,99}")


def load(
    model: str,
    arguments: Sequence[str] = (),
    *,
    weights: Path | None = None,
    input_shapes: Sequence[str] = (),
    seed: int = 0,
) -> Source:
    """Build the model that ``model`` names; random weights and inputs come from ``seed``.

    Raises:
        BadInputError: an argument cannot be used; one sentence says why.
    """
    name, build = factory.find(model)
    parsed = factory.parse_arguments(build, arguments, model=name)
    state, preprocessing = None, {}
    if weights is not None:
        if hub.is_name(str(weights)):
            weights = hub.fetch(str(weights))
        state = read_weights(weights)
        checkpoint = _recognised(model, state)
        if checkpoint is not None:
            state = checkpoint.state
            preprocessing = {"source": checkpoint.source, **checkpoint.preprocessing}
            parsed = {**checkpoint.arguments, **parsed}
    with contained():
        torch.manual_seed(seed)
        built = factory.call(build, parsed, name)
        module, inputs, with_labels = factory.unpack(built, name)
        if input_shapes:
            inputs = tuple(torch.randn(examples.shape(text)) for text in input_shapes)
        if inputs is None:
            raise BadInputError(
                f"{name} gave a module without example inputs; return (module, inputs) or give --input-shape 1,3,64,64"
            )
        if state is not None:
            load_weights(module, state, weights)
        module = module.eval()
        named = examples.named(module, inputs)
        values = outputs.named(module, named)
    evaluation = calibration = None
    if with_labels is not None:
        evaluation = labelled.evaluation(with_labels, named, values, name)
        preprocessing = preprocessing or labelled.preprocessing(with_labels.get("preprocessing"), name)
        calibration = labelled.calibration(with_labels.get("calibration"), named, name)
    return Source(name, parsed, module, named, values, preprocessing, evaluation, calibration)


def from_module(
    module: nn.Module,
    inputs: Inputs,
    *,
    name: str | None = None,
    evaluation: tuple[Tensor, Tensor] | None = None,
    calibration: Tensor | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    cases: Mapping[str, Inputs] | None = None,
) -> Source:
    """Copy ``module``, on the CPU and in evaluation mode, and all tensors: the arguments are not changed.

    ``name`` is by default the class's name; ``evaluation`` are inputs [n, ...] and their classes [n], int64.

    Raises:
        BadInputError: an argument cannot be used; one sentence says why.
    """
    if not isinstance(module, nn.Module):
        raise BadInputError(f"{module!r:.60} is no torch.nn.Module: give a module, and its example inputs")
    module = unwrapped(module)
    name = re.sub(r"[^\w.-]", "_", type(module).__name__).lstrip(".-") if name is None else name
    for what in (name, *(cases or ())):
        if not _NAME.fullmatch(what):
            raise BadInputError(f"{what!r:.120} cannot name a file: use letters, digits, and then _, . or -")
    with contained():
        try:
            module = copy.deepcopy(module).cpu().eval()
        except Exception as error:  # a module may hold anything
            raise BadInputError(f"{name} cannot be copied: {type(error).__name__}: {first_line(error)}") from error
        named = examples.named(module, examples.copies(inputs, name))
        values = outputs.named(module, named)
        more_cases = {
            case: examples.named(module, examples.copies(case_inputs, case))
            for case, case_inputs in (cases or {}).items()
        }
        labels = None
        if evaluation is not None:
            if not isinstance(evaluation, tuple | list) or len(evaluation) != 2:
                raise BadInputError("evaluation takes two tensors: inputs [n, ...], and their classes [n]")
            images, classes = examples.copies(evaluation, "evaluation")
            labels = labelled.evaluation({"inputs": images, "labels": classes}, named, values, name)
        if calibration is not None:
            calibration = labelled.calibration(examples.copies(calibration, "calibrate")[0], named, name)
    return Source(
        name, {}, module, named, values, labelled.preprocessing(preprocessing, name), labels, calibration, more_cases
    )


def _recognised(model: str, state: dict[str, Tensor]) -> Checkpoint | None:
    """A public checkpoint for a sample model, recognised by its keys; None if it is none."""
    recognise = MODELS.get(model).recognise if model in MODELS.names else None
    return recognise(state) if recognise is not None else None
