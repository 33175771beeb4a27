"""The cases that a bundle is checked on: the example, the battery of :mod:`edgeattn.parity.battery`, and the user's
own."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export.source import Source, run
from edgeattn.export.weights import read_weights
from edgeattn.lowering import recognise
from edgeattn.lowering.observe import watching
from edgeattn.parity import battery
from edgeattn.parity.check import BATCH_OF_TWO
from edgeattn.precision import FP16
from edgeattn.system.vendor_errors import first_line

# A softmax over scores this large is nearly one-hot.
LARGE_SCORE = 50.0


@dataclass(frozen=True)
class Case:
    """What the inputs are, in words, and the inputs."""

    about: str
    inputs: dict[str, Tensor]


def inputs(source: Source, files: list[Path], *, dynamic_batch: bool) -> tuple[dict[str, Case], dict[str, str]]:
    """Every case by name: the example, the battery, the user's files by their names and the user's tensors, a batch of
    two if that is free.

    Returns:
        The cases, and by name those that this model or this machine cannot have, with the reason.

    Raises:
        BadInputError: one of the user's does not fit the model, or has the name of another case.
    """
    cases = {"example": Case("the model's own example", source.inputs)}
    tried, omitted = _battery(source)
    cases |= tried
    given = [(file.stem, f"given as {file.name}", str(file), read_weights(file)) for file in files]
    given += [(name, "given as tensors", f"the case {name}", tensors) for name, tensors in source.cases.items()]
    for name, about, where, tensors in given:
        if name in {*cases, *omitted, BATCH_OF_TWO}:
            raise BadInputError(f"there is a case {name!r} already: give {where} another name")
        cases[name] = Case(about, _fitting(tensors, where, source))
    if dynamic_batch:
        two = {n: torch.cat([x, -x.flip(-1)]) for n, x in source.inputs.items()}
        cases[BATCH_OF_TWO] = Case("the example, and it mirrored and negated", two)
    return cases, omitted


def _battery(source: Source) -> tuple[dict[str, Case], dict[str, str]]:
    limits = battery.limits_of(source.preprocessing)
    floats = {n: x for n, x in source.inputs.items() if x.is_floating_point()}
    if not floats:
        return {}, {"battery": "the model has no input of a floating type"}
    found: dict[str, Case] = {}
    omitted: dict[str, str] = {}
    per_input = {
        name: battery.cases(tuple(x.shape), x.detach().numpy().dtype, seed=battery.SEED + place, limits=limits)
        for place, (name, x) in enumerate(floats.items())
    }
    for case in next(iter(per_input.values())):
        values = {name: torch.from_numpy(made[case].values) for name, made in per_input.items()}
        about = "; ".join(made[case].about for made in per_input.values())
        found[case] = Case(about, {**source.inputs, **values})
    for case, made in (("photograph", _photograph(source, floats, limits)), ("large_scores", _large_scores(source))):
        if isinstance(made, str):
            omitted[case] = made
        else:
            found[case] = made
    for case, tried in list(found.items()):
        if reason := _unusable(source, tried):
            omitted[case] = reason
            del found[case]
    return found, omitted


def _unusable(source: Source, case: Case) -> str | None:
    """Why the reference itself has no answer to a case."""
    try:
        outputs = run(source.module, case.inputs)
    except Exception as error:  # noqa: BLE001  # a user's model may refuse an input in any way
        return f"the reference fails on it: {first_line(error)}"
    finite = all(bool(torch.isfinite(y).all()) for y in outputs if y.is_floating_point())
    return None if finite else "the reference itself overflows in float32"


def _photograph(source: Source, floats: dict[str, Tensor], limits: tuple[float, float] | None) -> Case | str:
    """scikit-learn's china.jpg, or why it cannot be had."""
    if not (find_spec("sklearn") and find_spec("PIL")):
        return "scikit-learn, which carries the photograph, is not installed: pip install 'edgeattn[demo]'"
    from sklearn.datasets import load_sample_image

    image = load_sample_image("china.jpg")
    values = {
        name: battery.photograph(image, tuple(x.shape), x.detach().numpy().dtype, limits) for name, x in floats.items()
    }
    if any(value is None for value in values.values()):
        return "an input is no map of rank 4"
    tensors = {name: torch.from_numpy(value) for name, value in values.items() if value is not None}
    return Case("scikit-learn's china.jpg", {**source.inputs, **tensors})


def _large_scores(source: Source) -> Case | str:
    """The example, scaled so that the first attention's scores reach +-50 and its softmax is nearly one-hot."""
    layer = next((found for m in source.module.modules() if (found := recognise.attention(m))), None)
    if layer is None:
        return "there is no separable attention in the model"
    reached = _largest_score(source, source.inputs)
    scale = LARGE_SCORE / reached if reached else 1.0
    scaled = {n: x * scale if x.is_floating_point() else x for n, x in source.inputs.items()}
    if not 0.5 <= _largest_score(source, scaled) / LARGE_SCORE <= 2:
        return "a norm stands before the attention: the scale of the input does not reach its scores"
    return Case(f"the example times {scale:.4g}: the first attention's scores reach {LARGE_SCORE:g}", scaled)


def _largest_score(source: Source, given: dict[str, Tensor]) -> float:
    """The largest size of a query of the first attention that is called."""
    seen: list[float] = []

    def look(module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        layer = recognise.attention(module)
        if layer is not None and not seen:
            attended = (*args, *named.values())[-1]
            query = torch.nn.functional.conv2d(attended, layer.qkv_proj.weight[:1])
            seen.append(float(query.abs().max()))

    handles = [
        m.register_forward_pre_hook(look, with_kwargs=True) for m in source.module.modules() if recognise.attention(m)
    ]
    try:
        run(source.module, given)
    finally:
        for handle in handles:
            handle.remove()
    return seen[0] if seen else 0.0


def beyond_fp16(source: Source, chosen: dict[str, Case]) -> dict[str, str]:
    """The cases in which the reference itself computes a value that fp16 cannot hold, with the reason."""
    found = {}
    for name, case in chosen.items():
        largest = _largest_value(source, case.inputs)
        if largest > FP16.largest_value:
            found[name] = f"the model computes values up to {largest:.3g}, and fp16 ends at {FP16.largest_value:g}"
    return found


def _largest_value(source: Source, given: dict[str, Tensor]) -> float:
    """Of the inputs, and of what every part of the module takes and gives."""
    seen = [0.0]

    def see(*values: object) -> None:
        seen.extend(
            float(x.abs().max()) for x in values if isinstance(x, Tensor) and x.is_floating_point() and x.numel()
        )

    see(*given.values())
    with watching(source.module, lambda _, __, taken: see(*taken), lambda _, __, output: see(output)):
        run(source.module, given)
    return max(seen)


def _fitting(tensors: dict[str, Tensor], where: str, source: Source) -> dict[str, Tensor]:
    """The tensors of a case, if they are inputs as the example's."""
    if tensors.keys() != source.inputs.keys():
        raise BadInputError(f"{where} must hold the inputs {', '.join(source.inputs)}, not {', '.join(tensors)}")
    for name, example in source.inputs.items():
        if tensors[name].shape != example.shape:
            raise BadInputError(
                f"{name} in {where} has shape {list(tensors[name].shape)}, not the model's {list(example.shape)}"
            )
        if example.is_floating_point() and not bool(torch.isfinite(tensors[name]).all()):
            raise BadInputError(f"{name} in {where} has NaN or infinite values")
    return {name: tensors[name].to(example.dtype) for name, example in source.inputs.items()}
