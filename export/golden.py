"""Golden cases: inputs, and what the reference and each lowered form make of them in PyTorch.

A case is a flat mapping of tensors, as it is saved: ``input/NAME``, and for each output ``FORM.PRECISION/NAME`` with
FORM ``reference`` or ``lowered.LAYOUT``. All are channels-first, whatever the layout inside.
"""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.lowering import Layout, Lowering, lower, to_channels_first, to_channels_last
from export.runtimes import Arrays
from export.source import Source, first_line, read_weights, run

PRECISIONS = {"fp32": torch.float32, "fp64": torch.float64}


def inputs(source: Source, files: list[Path], *, dynamic_batch: bool) -> dict[str, dict[str, Tensor]]:
    """The inputs of every case: the example, the user's files by their names, a batch of two if that is free."""
    cases = {"example": source.inputs}
    for file in files:
        cases[file.stem] = _read(file, source)
    if dynamic_batch:
        cases["batch_of_two"] = {n: torch.cat([x, -x.flip(-1)]) for n, x in source.inputs.items()}
    return cases


def _read(file: Path, source: Source) -> dict[str, Tensor]:
    tensors = read_weights(file)
    if tensors.keys() != source.inputs.keys():
        raise BadInputError(f"{file} must hold the inputs {', '.join(source.inputs)}, not {', '.join(tensors)}")
    for name, example in source.inputs.items():
        if tensors[name].shape != example.shape:
            raise BadInputError(
                f"{name} in {file} has shape {list(tensors[name].shape)}, not the model's {list(example.shape)}"
            )
        if example.is_floating_point() and not bool(torch.isfinite(tensors[name]).all()):
            raise BadInputError(f"{name} in {file} has NaN or infinite values")
    return {name: tensors[name].to(example.dtype) for name, example in source.inputs.items()}


def exact(source: Source, layouts: Iterable[Layout]) -> dict[Layout, Lowering]:
    """The lowered forms of the module in float64: weights are folded in float64 too, so that the identity is seen."""
    module = copy.deepcopy(source.module).double()
    inputs = tuple(x.double() if x.is_floating_point() else x for x in source.inputs.values())
    try:
        return {layout: lower(module, layout=layout, inputs=inputs) for layout in layouts}
    except BadInputError:
        raise
    except Exception as error:
        raise BadInputError(f"the module fails in float64: {first_line(error)}") from error


def case(
    source: Source,
    lowerings: Mapping[Layout, Lowering],
    exact: Mapping[Layout, Lowering],
    given: dict[str, Tensor],
) -> Arrays:
    """One case, computed; ``exact`` are the lowered forms in float64."""
    result: Arrays = {f"input/{name}": value.detach().numpy() for name, value in given.items()}
    reference = Lowering(source.module, (), "channels_first")
    forms = [("reference", "fp32", reference), ("reference", "fp64", reference)]
    forms += [(f"lowered.{layout}", "fp32", form) for layout, form in lowerings.items()]
    forms += [(f"lowered.{layout}", "fp64", form) for layout, form in exact.items()]
    for form, precision, lowering in forms:
        last = lowering.edge_layout == "channels_last"
        try:
            values = _run(lowering.module, given, PRECISIONS[precision], channels_last=last)
        except Exception as error:
            raise BadInputError(f"the {form} module fails in {precision}: {first_line(error)}") from error
        for name, value in zip(source.outputs, values, strict=True):
            result[f"{form}.{precision}/{name}"] = np.ascontiguousarray(value.detach().numpy())
    return result


def _run(module: nn.Module, given: dict[str, Tensor], dtype: torch.dtype, *, channels_last: bool) -> tuple[Tensor, ...]:
    module = module if dtype == torch.float32 else copy.deepcopy(module).to(dtype)
    cast = {name: x.to(dtype) if x.is_floating_point() else x for name, x in given.items()}
    if not channels_last:
        return run(module, cast)
    return tuple(map(to_channels_first, run(module, {name: to_channels_last(x) for name, x in cast.items()})))
