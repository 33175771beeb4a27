"""Golden cases: inputs, and the outputs of the reference and of each lowered form, computed in PyTorch."""

import copy
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgeattn.bundle.golden import FLOAT_PRECISIONS, FloatPrecision, GoldenCase
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError
from edgeattn.export.source import Source, run
from edgeattn.layout import Layout
from edgeattn.lowering import Lowering, lower, to_channels_first, to_channels_last
from edgeattn.system.vendor_errors import first_line

DTYPES: dict[FloatPrecision, torch.dtype] = {"fp32": torch.float32, "fp64": torch.float64}


def exact(source: Source, layouts: Iterable[Layout]) -> dict[Layout, Lowering]:
    """The lowered forms of the module in float64. Weights are folded in float64 too, which shows that the forms are
    identical."""
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
    inputs: dict[str, Tensor],
) -> GoldenCase:
    """Compute one golden case; ``exact`` are the lowered forms in float64.

    Raises:
        BadInputError: the reference or a form fails in a precision.
    """
    # Contiguous, as safetensors saves the memory as it is.
    result = GoldenCase({name: value.detach().contiguous().numpy() for name, value in inputs.items()})
    reference = Lowering(source.module, (), "channels_first")
    for precision in FLOAT_PRECISIONS:
        result.references[precision] = _outputs(source, "reference", reference, precision, inputs)
    for precision, forms in zip(FLOAT_PRECISIONS, (lowerings, exact), strict=True):
        for layout, form in forms.items():
            result.lowerings[layout, precision] = _outputs(source, f"lowered.{layout}", form, precision, inputs)
    return result


def _outputs(
    source: Source, form: str, lowering: Lowering, precision: FloatPrecision, inputs: dict[str, Tensor]
) -> Arrays:
    last = lowering.edge_layout == "channels_last"
    try:
        values = _run(lowering.module, inputs, DTYPES[precision], channels_last=last)
    except Exception as error:
        raise BadInputError(f"the {form} module fails in {precision}: {first_line(error)}") from error
    pairs = zip(source.outputs, values, strict=True)
    return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in pairs}


def _run(
    module: nn.Module, inputs: dict[str, Tensor], dtype: torch.dtype, *, channels_last: bool
) -> tuple[Tensor, ...]:
    module = module if dtype == torch.float32 else copy.deepcopy(module).to(dtype)
    cast = {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs.items()}
    if not channels_last:
        return run(module, cast)
    return tuple(map(to_channels_first, run(module, {name: to_channels_last(x) for name, x in cast.items()})))
