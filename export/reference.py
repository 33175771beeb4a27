"""Golden cases: inputs, and the outputs of the reference and of each lowered form, computed in PyTorch."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgeattn.bundle.golden import FloatPrecision, GoldenCase
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError
from edgeattn.export import rounding
from edgeattn.export.source import Source, run
from edgeattn.layout import Layout
from edgeattn.lowering import Lowering
from edgeattn.system.vendor_errors import first_line

DTYPES: dict[FloatPrecision, torch.dtype] = {"fp32": torch.float32, "fp64": torch.float64}


def case(
    source: Source,
    lowerings: Mapping[Layout, Lowering],
    inputs: dict[str, Tensor],
    double: nn.Module,
) -> GoldenCase:
    """Compute one golden case.

    Args:
        source: the model.
        lowerings: its lowered forms.
        inputs: of the case.
        double: the model in float64.

    Raises:
        BadInputError: the reference or a form fails in a precision, or gives NaN or infinite values.
    """
    # Contiguous, as safetensors saves the memory as it is.
    result = GoldenCase({name: value.detach().contiguous().numpy() for name, value in inputs.items()})
    result.references["fp32"] = _outputs(source, "reference", source.module, "fp32", inputs)
    result.references["fp64"] = _outputs(source, "reference", double, "fp64", inputs)
    oracle, plain = result.references["fp64"], result.references["fp32"]
    names = list(source.outputs)
    for name, value in plain.items():
        if value.shape != oracle[name].shape:
            raise BadInputError(
                f"the shape of output {name} of the module depends on the values it computes: no file can be judged"
            )
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            why = "in float32, which ends at 3.4e38" if np.isfinite(oracle[name]).all() else "on these inputs"
            raise BadInputError(f"output {name} of the module has NaN or infinite values {why}: no file can be judged")
    result.noises.update(rounding.noise(source.module, inputs, names, oracle, plain))
    result.unsettled.update(rounding.unsettled(source.module, inputs, names, oracle, plain))
    for layout, lowering in lowerings.items():
        forms: dict[FloatPrecision, nn.Module] = {"fp32": lowering.module, "fp64": lowering.exact}
        for precision, form in forms.items():
            result.lowerings[layout, precision] = _outputs(source, f"lowered.{layout}", form, precision, inputs)
    return result


def _outputs(
    source: Source, form: str, module: nn.Module, precision: FloatPrecision, inputs: dict[str, Tensor]
) -> Arrays:
    dtype = DTYPES[precision]
    cast = {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs.items()}
    try:
        values = run(module, cast)
    except Exception as error:
        raise BadInputError(f"the {form} module fails in {precision}: {first_line(error)}") from error
    pairs = zip(source.outputs, values, strict=True)
    return {name: np.asarray(value.detach().numpy(), order="C") for name, value in pairs}
