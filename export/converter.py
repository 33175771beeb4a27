"""One lowered form in one format, in every precision that was asked for."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from edgeattn.bundle import manifest as bundle
from edgeattn.bundle.details import Details
from edgeattn.export import quantize as lower
from edgeattn.export.calibration import Calibration
from edgeattn.export.quantize import QUANTIZERS, Quantizer
from edgeattn.export.quantize._bias import correct_biases
from edgeattn.export.quantize._half import for_half
from edgeattn.export.source import Source
from edgeattn.formats import FORMATS, Job
from edgeattn.layout import Layout
from edgeattn.lowering import Lowering, to_channels_last
from edgeattn.precision import FP16, FP32, Precision

# The name under which all formats carry what the model expects of an image, as JSON.
PREPROCESSING = "edgeattn.preprocessing"
# Golden cases of the kind that a model is made for; the others of the battery try the arithmetic.
LIKE_DATA = ("example", "photograph")


@dataclass(frozen=True)
class Converter:
    """Writes the artifacts of one format into ``folder``; a lower precision is made from an fp32 artifact, which is
    written to ``scratch`` if it is not in the bundle.

    That of int8 has its biases corrected for the rounding of the weights, and that of fp16 its sums in parts where the
    runtime adds in fp16 too: these are converted a second time.
    ``given_cases`` are the golden cases of the user's own, on which int8 is judged too; ``beyond_fp16`` are those with
    values that fp16 cannot hold.
    """

    source: Source
    lowering: Lowering
    format: str
    folder: Path
    scratch: Path
    calibration: Calibration | None = None
    given_cases: tuple[str, ...] = ()
    beyond_fp16: dict[str, str] = field(default_factory=dict)
    edge_layout: str | None = None
    dynamic_batch: bool = False
    keep: tuple[str, ...] = ()
    edge_type: str = lower.FLOAT32

    def convert(self, precision: Precision) -> bundle.Artifact:
        """One artifact.

        Raises:
            ConversionError: the converter or the quantiser refuses the module.
        """
        format_ = FORMATS.get(self.format)
        judged_on, beyond = None, {}
        path = self.folder / f"{self.source.name}-{precision.name}{format_.suffix}"
        if precision == FP32:
            details = self._write(self._module, path)
        else:
            base = self._base(precision)
            given = () if self.calibration is None else self.calibration.inputs
            inputs = tuple({n: self._as_edge(x).numpy() for n, x in one.items()} for one in given)
            job = lower.Job(base, path, precision, inputs, self._metadata, self._kept(base), self.edge_type)
            details = self._quantiser.make(job)
            if job.keep:
                details = replace(details, kept_by_name=job.keep)
            if FP16 in (precision, self._quantiser.rest):
                beyond = self.beyond_fp16
            covered = self.calibration.covers if self.calibration and precision.has_few_bits else LIKE_DATA
            judged_on = (*covered, *self.given_cases)
        graph = format_.read(path)
        return bundle.Artifact(
            format=self.format,
            precision=precision.name,
            file=bundle.describe(self.folder, path),
            lowering=format_.layout,
            inputs=self._declared(graph.inputs),
            outputs=self._declared(graph.outputs),
            details=details,
            judged_on=judged_on,
            beyond=beyond,
        )

    @property
    def _quantiser(self) -> Quantizer:
        return QUANTIZERS.get(self.format)

    @property
    def _edge(self) -> Layout:
        wanted_first = self.edge_layout == "channels_first"
        last = FORMATS.get(self.format).layout == "channels_last" and not wanted_first
        return "channels_last" if last else "channels_first"

    @cached_property
    def _module(self) -> nn.Module:
        return self.lowering.with_edges(self._edge)

    @property
    def _metadata(self) -> dict[str, str]:
        told = self.source.preprocessing
        return {PREPROCESSING: json.dumps(told, sort_keys=True)} if told else {}

    def _as_edge(self, x: Any) -> Any:
        return to_channels_last(x).contiguous() if self._edge == "channels_last" else x

    def _base(self, precision: Precision) -> Path:
        """An fp32 artifact to start from: the bundle's own, or one of a form that is made for this precision."""
        suffix = FORMATS.get(self.format).suffix
        own = self.folder / f"{self.source.name}-{FP32.name}{suffix}"
        kind, made = self._form(precision)
        if own.exists() and kind == "plain":
            return own
        path = self.scratch / f"{self.format}-{kind}{suffix}"
        if not path.exists():
            self._write(made(), path)
        return path

    def _kept(self, base: Path) -> tuple[str, ...]:
        """Those names that are of this format; another's are told from a mistake by their being nowhere else."""
        if not self.keep:
            return ()
        known = {output for _, output in self._quantiser.candidates(base)}
        return tuple(name for name in self.keep if name in known)

    def _form(self, precision: Precision) -> tuple[str, Callable[[], nn.Module]]:
        """Of the module that a precision starts from: its name, and what makes it."""
        if precision == FP16 and self._quantiser.adds_in_fp16:
            return "half", lambda: for_half(self._module)
        # A palette rounds in a way of its own, which is not known before.
        if precision.is_calibrated and self.calibration is not None:
            return "corrected", partial(self._corrected, self.calibration)
        return "plain", lambda: self._module

    def _corrected(self, calibration: Calibration) -> nn.Module:
        return correct_biases(self._module, (tuple(map(self._as_edge, one.values())) for one in calibration.inputs))

    def _write(self, module: nn.Module, path: Path) -> Details:
        format_ = FORMATS.get(self.format)
        inputs = {name: self._as_edge(x) for name, x in self.source.inputs.items()}
        free = self.dynamic_batch and format_.dynamic_batch
        job = Job(module, inputs, tuple(self.source.outputs), free, self._metadata)
        return format_.convert(job, path)

    def _declared(self, tensors: Any) -> tuple[bundle.Tensor, ...]:
        return tuple(
            bundle.Tensor(t.name, t.shape, t.dtype, self._edge if len(t.shape) == 4 else None, t.scale, t.zero_point)
            for t in tensors
        )
