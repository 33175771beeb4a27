"""The test cases of a bundle: the example, the battery of :mod:`edgeattn.parity.battery`, and the user's own."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from edgeattn.bundle import pictures
from edgeattn.errors import BadInputError
from edgeattn.export import ranges, whole
from edgeattn.export.source import Source, run
from edgeattn.export.weights import read_weights
from edgeattn.lowering import Understood
from edgeattn.lowering.attentions import scores
from edgeattn.lowering.observe import watching
from edgeattn.parity import battery
from edgeattn.parity.check import BATCHES
from edgeattn.precision import FP16
from edgeattn.system.vendor_errors import first_line

# A softmax over scores this large is nearly one-hot.
LARGE_SCORE = 50.0
# The cases of a model that takes a picture, by the files that scikit-learn carries.
PHOTOGRAPHS = {"photograph": "china.jpg", "flower": "flower.jpg"}
_WITHOUT = "scikit-learn, which carries the photograph, is not installed: pip install 'edgeattn[demo]'"


@dataclass(frozen=True)
class Case:
    """Inputs by name, and ``about``, which describes them."""

    about: str
    inputs: dict[str, Tensor]


def inputs(
    source: Source, understood: Understood, files: list[Path], *, dynamic_batch: bool
) -> tuple[dict[str, Case], dict[str, str]]:
    """Every case by name: the example, the battery, the user's files and tensors, and batches of several sizes if the
    batch size is dynamic.

    Returns:
        The cases, and the names of those that are not possible here, each with the reason.

    Raises:
        BadInputError: a case of the user's does not fit the model, or has the name of another case; or the model
            cannot take another batch size.
    """
    cases = {"example": Case("the model's own example", source.inputs)}
    battery_cases, omitted = _battery(source, understood)
    cases |= battery_cases
    user_cases = [(file.stem, f"given as {file.name}", str(file), read_weights(file)) for file in files]
    user_cases += [(name, "given as tensors", f"the case {name}", tensors) for name, tensors in source.cases.items()]
    for name, about, label, tensors in user_cases:
        if name in {*cases, *omitted, *BATCHES}:
            raise BadInputError(f"there is a case {name!r} already: give {label} another name")
        cases[name] = Case(about, _fitting(tensors, label, source))
    if dynamic_batch:
        cases |= _batches(source)
    return cases, omitted


def _batches(source: Source) -> dict[str, Case]:
    """Batches of other sizes than the example's own."""
    own = {len(x) for x in source.inputs.values() if x.dim()}
    found = {}
    for name, number in BATCHES.items():
        if own == {number}:
            continue
        case = Case(
            f"{number} different variants of the example", {n: _batch(x, number) for n, x in source.inputs.items()}
        )
        if reason := _unusable(source, case):
            raise BadInputError(
                f"--dynamic-batch: the model does not take a batch of {number} ({reason}); the first axis of every "
                "input must be its batch"
            )
        found[name] = case
    return found


def _batch(x: Tensor, number: int) -> Tensor:
    """A batch of variants of the first sample of ``x``: as it is; mirrored and negated; and rolled along its last axis
    in another scale. Integers may be indices: their values stay."""
    if not x.dim():
        return x
    first = x[:1]
    rows = [first, -first.flip(-1) if x.is_floating_point() else first.flip(-1)]
    for k in range(2, number):
        rolled = first.roll(k, -1)
        rows.append(rolled * (1 + k / 4) if x.is_floating_point() else rolled)
    return torch.cat(rows[:number])


def _whole(source: Source) -> tuple[dict[str, Case], dict[str, str]]:
    """The cases of the inputs that are of no floating type."""
    found = {title: Case(about, {**source.inputs, **values}) for title, about, values in whole.cases(source)}
    reason = whole.left_out(source)
    return found, {"other rows": reason} if reason else {}


def _battery(source: Source, understood: Understood) -> tuple[dict[str, Case], dict[str, str]]:
    floats = {n: x for n, x in source.inputs.items() if x.is_floating_point()}
    cases, omitted = _whole(source)
    if source.picture:
        found, reasons = _photographs(source)
        cases, omitted = found | cases, omitted | reasons
    if floats:
        found, reasons = _of_floats(source, understood, floats)
        cases, omitted = found | cases, omitted | reasons
    for title, case in list(cases.items()):
        if reason := _unusable(source, case):
            omitted[title] = reason
            del cases[title]
    return cases, omitted


def _of_floats(
    source: Source, understood: Understood, floats: dict[str, Tensor]
) -> tuple[dict[str, Case], dict[str, str]]:
    """The cases of the inputs of floating types."""
    limits = battery.limits_of(source.preprocessing)
    cases: dict[str, Case] = {}
    omitted: dict[str, str] = {}
    per_input = {
        name: battery.cases(tuple(x.shape), x.detach().numpy().dtype, seed=battery.SEED + number, limits=limits)
        for number, (name, x) in enumerate(floats.items())
    }
    for title in next(iter(per_input.values())):
        values = {name: torch.from_numpy(variants[title].values) for name, variants in per_input.items()}
        about = "; ".join(variants[title].about for variants in per_input.values())
        cases[title] = Case(about, {**source.inputs, **values})
    photograph, large_scores = _photograph(source, floats), _large_scores(source, understood)
    for title, case_or_reason in (("photograph", photograph), ("large_scores", large_scores)):
        if isinstance(case_or_reason, str):
            omitted[title] = case_or_reason
        else:
            cases[title] = case_or_reason
    return cases, omitted


def _unusable(source: Source, case: Case) -> str | None:
    """Why the reference itself has no output for a case; None if it has one."""
    try:
        outputs = run(source.module, case.inputs)
    except Exception as error:  # noqa: BLE001  # a user's model may refuse an input in any way
        return f"the reference fails on it: {first_line(error)}"
    if not all(y.numel() for y in outputs):
        return "the reference gives an empty output for it"
    finite = all(bool(torch.isfinite(y).all()) for y in outputs if y.is_floating_point())
    return None if finite else "the reference itself overflows in float32"


def _has_photographs() -> bool:
    return bool(find_spec("sklearn") and find_spec("PIL"))


def _photographs(source: Source) -> tuple[dict[str, Case], dict[str, str]]:
    """scikit-learn's two photographs as its preprocessing makes pictures of them, for a model that takes these."""
    if not _has_photographs():
        return {}, {"photograph": _WITHOUT}
    from PIL import Image
    from sklearn.datasets import load_sample_image

    assert source.picture is not None
    assert source.preprocessing is not None
    shape, cases = tuple(source.inputs[source.picture].shape), {}
    for title, file in PHOTOGRAPHS.items():
        pixels = pictures.as_bytes(Image.fromarray(load_sample_image(file)), source.preprocessing, shape)
        cases[title] = Case(f"scikit-learn's {file}", {source.picture: torch.from_numpy(pixels)})
    return cases, {}


def _photograph(source: Source, floats: dict[str, Tensor]) -> Case | str:
    """scikit-learn's china.jpg, or why it is not available."""
    if not _has_photographs():
        return _WITHOUT
    from sklearn.datasets import load_sample_image

    image = load_sample_image("china.jpg")
    values = {
        name: battery.photograph(image, tuple(x.shape), x.detach().numpy().dtype, ranges.of_pixels(source, x))
        for name, x in floats.items()
    }
    if any(value is None for value in values.values()):
        return "an input is no map of rank 4"
    tensors = {name: torch.from_numpy(value) for name, value in values.items() if value is not None}
    return Case("scikit-learn's china.jpg", {**source.inputs, **tensors})


def _large_scores(source: Source, understood: Understood) -> Case | str:
    """The example, scaled so that the first attention's scores reach +-50 and its softmax is nearly one-hot."""
    largest = _largest_score(understood, source.inputs)
    if largest is None:
        return "there is no separable attention in the model"
    scale = LARGE_SCORE / largest if largest else 1.0
    scaled = {n: x * scale if x.is_floating_point() else x for n, x in source.inputs.items()}
    if not 0.5 <= (_largest_score(understood, scaled) or 0.0) / LARGE_SCORE <= 2:
        return "a norm before the attention removes the scale of the input from its scores"
    return Case(f"the example times {scale:.4g}: the first attention's scores reach {LARGE_SCORE:g}", scaled)


def _largest_score(understood: Understood, inputs: dict[str, Tensor]) -> float | None:
    """The largest absolute score of the first attention; None if there is none."""
    found = scores(understood, tuple(inputs.values()))
    return float(found[0].logits.abs().max()) if found else None


def beyond_fp16(source: Source, chosen: dict[str, Case]) -> dict[str, str]:
    """The cases in which the reference itself computes a value that fp16 cannot represent, with the reason."""
    reasons = {}
    for name, case in chosen.items():
        largest = _largest_value(source, case.inputs)
        if largest > FP16.largest_value:
            reasons[name] = f"the model computes values up to {largest:.3g}, and fp16 ends at {FP16.largest_value:g}"
    return reasons


def _largest_value(source: Source, inputs: dict[str, Tensor]) -> float:
    """The largest absolute value among the inputs, and the inputs and outputs of every submodule."""
    values = [0.0]

    def record(*args: object) -> None:
        values.extend(
            float(x.abs().max()) for x in args if isinstance(x, Tensor) and x.is_floating_point() and x.numel()
        )

    record(*inputs.values())
    with watching(source.module, lambda _, __, args: record(*args), lambda _, __, output: record(output)):
        run(source.module, inputs)
    return max(values)


def _fitting(tensors: dict[str, Tensor], label: str, source: Source) -> dict[str, Tensor]:
    """The tensors of a case in the example's types; refused if names or shapes differ, or a value is not finite."""
    if tensors.keys() != source.inputs.keys():
        raise BadInputError(f"{label} must hold the inputs {', '.join(source.inputs)}, not {', '.join(tensors)}")
    for name, example in source.inputs.items():
        if tensors[name].shape != example.shape:
            raise BadInputError(
                f"{name} in {label} has shape {list(tensors[name].shape)}, not the model's {list(example.shape)}"
            )
        if example.is_floating_point() and not bool(torch.isfinite(tensors[name]).all()):
            raise BadInputError(f"{name} in {label} has NaN or infinite values")
    return {name: tensors[name].to(example.dtype) for name, example in source.inputs.items()}
