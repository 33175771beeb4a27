"""One module to one file, without a bundle."""

from pathlib import Path

from torch import Tensor, nn

from edgeattn.bundle.tensors import Arrays
from edgeattn.formats import FORMATS
from edgeattn.formats import Job as Conversion
from edgeattn.lowering import in_layout, lower
from edgeattn.system import plugins


def convert(module: nn.Module, inputs: dict[str, Tensor], format_name: str, path: Path, *, lowered: bool) -> Arrays:
    """Write ``module`` to ``path``, lowered for the format or as it is; returns its inputs in the file's own layout.

    Raises:
        ConversionError: the converter refuses the module.
        MissingError: the format's packages are not installed.
    """
    format_ = FORMATS.get(format_name)
    plugins.require(*format_.packages, extra=format_.extra)
    if lowered:
        lowering = lower(module, layout=format_.layout, inputs=tuple(inputs.values()))
        module = lowering.with_edges(format_.layout)
        inputs = {name: in_layout(x, format_.layout) for name, x in inputs.items()}
    format_.convert(Conversion(module, inputs, ("y",)), path)
    return {name: x.detach().numpy() for name, x in inputs.items()}
