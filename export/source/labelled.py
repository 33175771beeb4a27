"""What may come with a model: labelled inputs, calibration inputs, the preprocessing of its images."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgeattn.bundle import preprocessing as reading
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.errors import BadInputError
from edgeattn.export.source import floats
from edgeattn.export.source.given import Evaluation

# What a factory may give beside its module and inputs.
_BROUGHT = ("inputs", "labels", "calibration", "preprocessing")


def brought(values: Any, name: str) -> dict[str, Any]:
    """The third thing that a factory returned, checked to be a dictionary with known keys alone."""
    if not isinstance(values, dict):
        raise BadInputError(f"{name} must give its evaluation as a dict of tensors: inputs and labels")
    for key in values:
        if key not in _BROUGHT:
            raise BadInputError(f"{name} gives {key!r:.80}, which is none of {', '.join(_BROUGHT)}")
    return values


def evaluation(
    labelled: dict[str, Any], inputs: dict[str, Tensor], outputs: dict[str, Tensor], name: str
) -> Evaluation:
    """The labelled inputs of a factory, checked: the model must have one input, and logits as its first output, of an
    image, or of each of its pixels.

    ``inputs`` are the example's, in the type that they were given in.
    """
    example, logits = next(iter(inputs.values())), next(iter(outputs.values()))
    if len(inputs) != 1 or example.shape[:1] != (1,) or logits.dim() not in (2, 4) or len(logits) != 1:
        raise BadInputError(
            f"{name} cannot be evaluated: that needs one input of batch 1, and logits [1, classes] or "
            "[1, classes, height, width]"
        )
    values, labels = labelled.get("inputs"), labelled.get("labels")
    if not isinstance(values, Tensor) or not isinstance(labels, Tensor):
        raise BadInputError(f"{name} must give its evaluation as a dict of tensors: inputs and labels")
    if values.shape[1:] != example.shape[1:] or values.dtype != example.dtype:
        raise BadInputError(
            f"the evaluation inputs of {name} are {list(values.shape[1:])} {values.dtype} each, but the model takes "
            f"{list(example.shape[1:])} {example.dtype}"
        )
    pixels = tuple(logits.shape[2:])
    if labels.shape != (*values.shape[:1], *pixels) or labels.dtype != torch.int64 or not len(labels):
        each = f"each of the {pixels[0]}x{pixels[1]} pixels that it gives for " if pixels else ""
        raise BadInputError(f"{name} must give one int64 label for {each}each of its evaluation inputs")
    least = -1 if pixels else 0
    if not bool(((labels >= least) & (labels < logits.shape[1])).all()):
        ignored = ", or -1 where a pixel is not judged" if pixels else ""
        raise BadInputError(f"the evaluation labels of {name} must be from 0 to {logits.shape[1] - 1}{ignored}")
    if not bool((labels >= 0).any()):
        raise BadInputError(f"no pixel of the evaluation labels of {name} is judged: all are -1")
    return Evaluation(floats.single(values), labels)


def preprocessing(values: Any, inputs: dict[str, Tensor], name: str) -> Preprocessing | None:
    """The image preprocessing, with the size that the model's input has here."""
    if not values:
        return None
    told = values if isinstance(values, Preprocessing) else reading.read(values, name)
    height, width = next((x.shape[2:] for x in inputs.values() if x.dim() == 4), (None, None))
    return replace(told, image_size=(height, width)) if height and width else told


def calibration(values: Any, inputs: dict[str, Tensor], name: str) -> Tensor | None:
    """Calibration inputs, checked to fit the model's only input; ``inputs`` as for :func:`evaluation`."""
    if values is None:
        return None
    example = next(iter(inputs.values()))
    fits = isinstance(values, Tensor) and values.shape[1:] == example.shape[1:] and values.dtype == example.dtype
    if not fits or not len(values) or len(inputs) != 1 or len(example) != 1:
        raise BadInputError(f"to calibrate {name}, give one tensor for its only input: {list(example.shape[1:])} each")
    return floats.single(values)
