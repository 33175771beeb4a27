"""One model in every format: what its stock converter makes of the plain module, and what edgeattn makes of it."""

import copy
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeattn.errors import EdgeAttnError
from edgeattn.formats import FORMATS, Job
from edgeattn.inspection.inspect import Inspection, inspect
from edgeattn.interface.bundle import Bundle
from edgeattn.interface.deploy import deploy
from edgeattn.parity.metrics import compare
from edgeattn.parity.verdicts import worst
from edgeattn.runtimes import RUNTIMES
from edgeattn.system.vendor_errors import first_line

STOCK, OURS = "stock", "edgeattn"
SAME, DIFFERENT, NOT_RUN = "same", "DIFFERENT", "not run"
# Core ML itself runs on macOS only.
RUNTIME_OF = {
    "coreai": "coreai",
    "coreml": "mil_reference",
    "onnx": "onnxruntime",
    "tflite": "litert",
}


@dataclass(frozen=True)
class Row:
    """One model, format and form. ``refusal`` says why there is no file; then the counts are None.

    ``noise_units`` is the largest error, in units of what PyTorch itself errs in float32; of ours over all cases of
    parity, of the stock file on one image.
    """

    model: str
    format: str
    form: str
    operators: int | None = None
    layout_ops: int | None = None
    macs: int | None = None
    partitions: int | None = None
    verdict: str = ""
    noise_units: float | None = None
    refusal: str = ""


def measure(name: str, module: nn.Module, image: Tensor) -> list[Row]:
    """Stock and ours, in every format."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_stock(name, module, image, format_name, Path(folder)) for format_name in FORMATS.names]
        return [*rows, *_ours(name, module, image, Path(folder))]


def _stock(name: str, module: nn.Module, image: Tensor, format_name: str, folder: Path) -> Row:
    """As the converter's own documentation has it: the plain module and an image in PyTorch's layout."""
    format_ = FORMATS.get(format_name)
    path = folder / f"stock{format_.suffix}"
    try:
        format_.convert(Job(copy.deepcopy(module), {"image": image}, ("y",)), path)
    except EdgeAttnError as error:
        return _refused(name, format_name, STOCK, _sentence(error))
    verdict, units = _checked(path, format_name, module, image)
    return _row(name, format_name, STOCK, inspect(path), verdict, units)


def _checked(path: Path, format_name: str, module: nn.Module, image: Tensor) -> tuple[str, float | None]:
    """Whether a file computes what ``module`` does, on one image."""
    runtime = RUNTIMES.get(RUNTIME_OF[format_name])
    with torch.no_grad():
        oracle = copy.deepcopy(module).double()(image.double()).numpy()
        plain = module(image).numpy()
    try:
        with runtime.open(path) as session:
            (output,) = session.run({"image": image.numpy()}).values()
    except EdgeAttnError as error:
        return f"{NOT_RUN}: {_sentence(error)}", None
    found = compare(oracle=oracle, reference=plain, candidate=output, precision="fp32")
    return SAME if found.passed else DIFFERENT, found.max_noise_units


def _ours(name: str, module: nn.Module, image: Tensor, folder: Path) -> list[Row]:
    """As `edgeattn export` makes it, with parity."""
    try:
        bundle = deploy(module, {"image": image}, out=folder / "bundle", name="model")
    except Exception as error:  # noqa: BLE001 - a failure of ours is a row of the table, whatever it is
        return [_refused(name, format_name, OURS, _sentence(error)) for format_name in FORMATS.names]
    rows = [_refused(name, format_name, OURS, reason) for format_name, reason in bundle.refused.items()]
    return rows + [_row(name, a.format, OURS, inspect(a.path), *_judged(bundle, a.path)) for a in bundle.artifacts]


def _judged(bundle: Bundle, path: Path) -> tuple[str, float | None]:
    """Parity's verdict on one artifact, with its largest error."""
    report = bundle.parity_at_export.report
    converted = [row for row in report.rows if row.candidate == path.name]
    if not converted:
        (reason, *_) = [one.reason for one in report.not_run if one.candidate == path.name] or ["no runtime"]
        return f"{NOT_RUN}: {reason}", None
    (layout,) = {a.lowering for a in bundle.manifest.artifacts if a.file.path == path.name}
    lowered = [row for row in report.rows if (row.hop, row.candidate) == ("lowering", layout)]
    verdict = SAME if all(row.passed for row in (*converted, *lowered)) else DIFFERENT
    return verdict, worst(converted).max_noise_units


def _row(name: str, format_name: str, form: str, found: Inspection, verdict: str, units: float | None) -> Row:
    return Row(
        model=name,
        format=format_name,
        form=form,
        operators=sum(found.operators.values()),
        layout_ops=sum(found.layout_ops.values()),
        macs=found.macs,
        partitions=found.runtime.get("xnnpack_partitions"),
        verdict=verdict,
        noise_units=units,
    )


def _sentence(error: Exception) -> str:
    return first_line(error) if isinstance(error, EdgeAttnError) else f"{type(error).__name__}: {first_line(error)}"


def _refused(name: str, format_name: str, form: str, reason: str) -> Row:
    """A row without a file. Of a path on this machine, as a compiler names source lines, the file's name stays."""
    return Row(name, format_name, form, refusal=re.sub(r"(?<!\S)/\S*/", "", reason))
