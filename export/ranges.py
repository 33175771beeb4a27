"""The ranges of a calibration set, of the example and of the preprocessing, compared: a set in another range than the
model's own inputs gives int8 files that work on the set alone."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgeattn.errors import BadInputError
from edgeattn.export.source import Source
from edgeattn.parity import battery

if TYPE_CHECKING:
    from edgeattn.export.calibration import Calibration

# Normal noise as the example of an image model is some 2 times as large as pixels from 0 to 1, or from -1 to 1; pixels
# from 0 to 255 are 128 times as large as from -1 to 1, and 255 times as large as from 0 to 1.
_OF_ANOTHER_KIND, _DIFFERENT = 8.0, 2.0
# Fewer samples hardly show a range.
_FEW = 8


def checked(calibration: "Calibration", source: Source) -> "Calibration":
    """``calibration`` with its ranges and weaknesses said.

    Raises:
        BadInputError: an input of it is of another range than the example's, or than the preprocessing gives.
    """
    for name, example in _floats(source):
        values = _of(calibration, name)
        low, high = battery.limits_of(source.preprocessing) or (0.0, 0.0)
        if source.preprocessing and high > low and not _alike(values, torch.tensor([low, high], dtype=torch.float64)):
            raise BadInputError(
                f"{name} of the calibration set is {_range(values)}, but the model's preprocessing gives values from "
                f"{low:g} to {high:g}: preprocess the set as the model expects it"
            )
        if not _alike(values, example):
            raise BadInputError(
                f"{name} of the calibration set is {_range(values)}, but the model's example is {_range(example)}: "
                "preprocess the set as the model expects it, or give an example like it"
            )
    return described(calibration, source)


def described(calibration: "Calibration", source: Source) -> "Calibration":
    """``calibration`` with a warning of what makes it a poor one, and with notes on its ranges."""
    warnings = [calibration.warning] if calibration.warning else []
    number, distinct = len(calibration.inputs), len({_bytes(inputs.values()) for inputs in calibration.inputs})
    # A set of ours says itself that it is small.
    if distinct < _FEW and not calibration.warning:
        only = f"{distinct} different ones of {number}" if distinct < number else f"{number}"
        warnings.append(f"{only} inputs are few to calibrate on")
    notes = []
    for name, example in _floats(source):
        values = _of(calibration, name)
        is_constant = float(values.min()) == float(values.max())
        if number > 1 and is_constant:
            warnings.append(f"{name} of the calibration set is {float(values.min()):g} everywhere: it shows no range")
        ratio = _rms(values) / _rms(example) if _rms(example) else 1.0
        if number > 1 and not is_constant and not 1 / _DIFFERENT <= ratio <= _DIFFERENT:
            warnings.append(
                f"{name} of the calibration set is {_range(values)}, and {_range(example)} in the example, which is of "
                "another size"
            )
        limits = battery.limits_of(source.preprocessing)
        expected = f", from {limits[0]:.3g} to {limits[1]:.3g} by the preprocessing" if limits else ""
        notes.append(f"{name} is {_range(values)} in the calibration set, {_range(example)} in the example{expected}")
    return replace(calibration, warning="; ".join(warnings), ranges=tuple(notes))


def of_pixels(source: Source, example: Tensor) -> tuple[float, float] | None:
    """The range that a photograph is brought to: that of the preprocessing; else that of the example, where it is of
    another kind than from -1 to 1; else None, which means from -1 to 1."""
    if limits := battery.limits_of(source.preprocessing):
        return limits
    if _rms(example) and not _alike(torch.tensor(battery.UNKNOWN), example):
        return float(example.min()), float(example.max())
    return None


def _floats(source: Source) -> list[tuple[str, Tensor]]:
    return [(name, x) for name, x in source.inputs.items() if x.is_floating_point() and x.numel()]


def _of(calibration: "Calibration", name: str) -> Tensor:
    return torch.cat([inputs[name].reshape(-1) for inputs in calibration.inputs])


def _rms(x: Tensor) -> float:
    return math.sqrt(float(x.double().square().mean()))


def _alike(values: Tensor, example: Tensor) -> bool:
    """Whether two sets of values are of one size; a set that is zero everywhere says nothing."""
    a, b = _rms(values), _rms(example)
    return not a or not b or 1 / _OF_ANOTHER_KIND <= a / b <= _OF_ANOTHER_KIND


def _range(x: Tensor) -> str:
    return f"from {float(x.min()):.3g} to {float(x.max()):.3g}"


def _bytes(values: Iterable[Tensor]) -> bytes:
    return b"".join(x.contiguous().numpy().tobytes() for x in values)
