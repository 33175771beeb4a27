"""Converts a lowered module to one format, in each requested precision."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgeattn.bundle import manifest
from edgeattn.bundle.details import Details
from edgeattn.bundle.preprocessing import document
from edgeattn.bundle.tensors import Arrays, to_edge
from edgeattn.errors import ArtifactError, ConversionError, EdgeAttnError, MissingError
from edgeattn.export import keeping, quantize, running
from edgeattn.export.calibration import Calibration
from edgeattn.export.quantize import QUANTIZERS, Quantizer
from edgeattn.export.quantize._bias import correct_biases
from edgeattn.export.quantize._half import for_half
from edgeattn.export.source import Source
from edgeattn.formats import ANSWER, FORMATS, LABELS, PREPROCESSING, Job
from edgeattn.layout import Layout
from edgeattn.lowering import Lowering, in_layout
from edgeattn.precision import FP16, FP32, INT8, Precision
from edgeattn.runtimes import Backend, backends
from edgeattn.system.progress import Progress, silent

# Golden cases that resemble real data; the others of the battery test the arithmetic.
LIKE_DATA = ("example", "photograph")


@dataclass(frozen=True)
class Converter:
    """Writes the artifacts of one format into ``folder``; a lower precision is made from an fp32 artifact, which is
    written to ``scratch`` if it is not in the bundle.

    int8 starts from a form with biases corrected for the rounding of the weights; fp16 from a form that sums in parts,
    where the runtime adds in fp16 too. These forms are converted separately.
    ``user_cases`` are the user's own golden cases, on which int8 is judged too; ``beyond_fp16`` are the cases with
    values that fp16 cannot represent; ``cases`` are the inputs of all of them.
    """

    source: Source
    lowering: Lowering
    format: str
    folder: Path
    scratch: Path
    calibration: Calibration | None = None
    user_cases: tuple[str, ...] = ()
    beyond_fp16: dict[str, str] = field(default_factory=dict)
    cases: dict[str, Arrays] = field(default_factory=dict)
    edge_layout: str | None = None
    dynamic_batch: bool = False
    keep: tuple[str, ...] = ()
    edge_type: str = quantize.FLOAT32
    auto_keep: bool = False
    progress: Progress = silent

    def convert(self, precision: Precision) -> manifest.Artifact:
        """One artifact.

        Raises:
            ConversionError: the converter or the quantiser refuses the module, or no runtime here takes what it wrote.
        """
        path = self.folder / f"{self.source.name}-{precision.name}{FORMATS.get(self.format).suffix}"
        try:
            artifact = self._converted(precision, path)
            running.check(artifact, path, self.source.inputs, self.source.outputs)
        except EdgeAttnError as error:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if not isinstance(error, ArtifactError):
                raise
            reason = str(error).replace(f"{path.parent}/", "")  # that folder has another name when it is done
            raise ConversionError(reason) from error
        return replace(artifact, beyond={**self._beyond_integers(artifact), **artifact.beyond})

    def _beyond_integers(self, artifact: manifest.Artifact) -> dict[str, str]:
        """The cases with integers that the artifact's narrower ones cannot hold, with the reason."""
        reasons = {name: running.too_large(artifact.inputs, inputs) for name, inputs in self.cases.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def _converted(self, precision: Precision, path: Path) -> manifest.Artifact:
        format_ = FORMATS.get(self.format)
        judged_on, beyond = None, {}
        if precision == FP32:
            details = self._write(self._module, path)
        else:
            base = self._base(precision)
            examples = () if self.calibration is None else self.calibration.inputs
            taken = self._declared(format_.read(base).inputs)
            inputs = tuple({t.name: to_edge(example[t.name].numpy(), t) for t in taken} for example in examples)
            job = quantize.Job(
                source=base,
                path=path,
                precision=precision,
                conversion=partial(self._conversion, precision),
                calibration=inputs,
                metadata=self._metadata,
                edge_type=self.edge_type,
            )
            kept = self._kept(job)
            details = self._quantiser.make(self._keeping(job, kept))
            if kept:
                details = replace(details, kept_by_name=kept)
            if FP16 in (precision, self._quantiser.rest):
                beyond = self.beyond_fp16
            covered = self.calibration.covers if self.calibration and precision.has_few_bits else LIKE_DATA
            # The example always, whatever was calibrated on: a set unlike it must not choose its own judge.
            judged_on = tuple(dict.fromkeys(("example", *covered, *self.user_cases)))
        graph = format_.read(path)
        # In the model's order, as far as they are its outputs: TFLite's signatures are sorted by name.
        order = {name: number for number, name in enumerate(self.source.outputs)}
        outputs = sorted(graph.outputs, key=lambda output: order.get(output.name, len(order)))
        return manifest.Artifact(
            format=self.format,
            precision=precision.name,
            file=manifest.describe(self.folder, path),
            lowering=format_.layout,
            inputs=self._declared(graph.inputs),
            outputs=self._declared(outputs),
            details=details,
            judged_on=judged_on,
            beyond=beyond,
        )

    def _kept(self, job: quantize.Job) -> tuple[str, ...]:
        """The operators that stay in float, by their names in the plain fp32 artifact: of ``keep`` those that this
        format has (the pipeline refuses a name that no format has), and what ``auto_keep`` adds."""
        if not self.keep and not (self.auto_keep and job.precision == INT8):
            return ()
        plain = replace(job, source=self._base(FP32), conversion=partial(self._conversion, FP32))
        known = {output for _, output in self._quantiser.candidates(plain.source)}
        names = tuple(name for name in self.keep if name in known)
        if self.auto_keep and job.precision == INT8:
            if self._backend is None:
                raise MissingError(f"--auto-keep measures, and nothing here runs {self.format}")
            names += keeping.choose(plain, names, self._backend, lambda n: self._keeping(job, n), self.progress)
        return names

    def _keeping(self, job: quantize.Job, names: tuple[str, ...]) -> quantize.Job:
        """``job`` with these operators in float, from a base in which their layers have their own biases: what stays in
        float has no rounding to be corrected for."""
        job = replace(job, keep=self._renamed(names, job.source))
        if not job.keep or self._backend is None or self.calibration is None or not job.precision.is_calibrated:
            return job
        example = self._in_edge_layouts(self.calibration.inputs[0])
        layers = keeping.layers_behind(
            job.keep, job.source, job.calibration[0], self._backend, self._corrected, example
        )
        if not layers:
            return job
        source = self._base(job.precision, layers)
        conversion = partial(self._conversion, job.precision, layers)
        return replace(job, source=source, conversion=conversion, keep=self._renamed(names, source))

    def _renamed(self, names: tuple[str, ...], path: Path) -> tuple[str, ...]:
        """What operators of the plain fp32 artifact are called in another form of it: biases may change names."""
        if not names:
            return ()
        before, after = (self._quantiser.candidates(file) for file in (self._base(FP32), path))
        if len(before) != len(after):
            return tuple(output for _, output in after if output in names)
        return tuple(new for (_, old), (_, new) in zip(before, after, strict=True) if old in names)

    @cached_property
    def _backend(self) -> Backend | None:
        return next((each for each in backends(self.format) if not each.missing), None)

    @property
    def _quantiser(self) -> Quantizer:
        return QUANTIZERS.get(self.format)

    @property
    def _edge_layout(self) -> Layout:
        return "channels_first" if self.edge_layout == "channels_first" else FORMATS.get(self.format).layout

    @cached_property
    def _module(self) -> nn.Module:
        last = [n for n, name in enumerate(self.source.inputs) if self._layout_of(name) == "channels_last"]
        return self.lowering.with_edges(self._edge_layout, last)

    @property
    def _metadata(self) -> dict[str, str]:
        preprocessing = self.source.preprocessing
        entries = {PREPROCESSING: json.dumps(document(preprocessing), sort_keys=True)} if preprocessing else {}
        if self.source.labels:
            entries[LABELS] = json.dumps(self.source.labels, ensure_ascii=False)
        if self.source.answer != "values":
            entries[ANSWER] = self.source.answer
        return entries

    def _layout_of(self, name: str) -> Layout:
        """The layout of an input."""
        return FORMATS.get(self.format).picture_layout if name == self.source.picture else self._edge_layout

    def _in_edge_layouts(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(in_layout(x, self._layout_of(name)) for name, x in inputs.items())

    def _base(self, precision: Precision, own: tuple[str, ...] = ()) -> Path:
        """The fp32 artifact that a precision is made from: the bundle's own, or one of a form for this precision, in
        which the layers ``own`` have their own biases."""
        suffix = FORMATS.get(self.format).suffix
        plain_fp32 = self.folder / f"{self.source.name}-{FP32.name}{suffix}"
        # A quantiser of modules takes names alone of it.
        form, build = self._form(FP32 if self._quantiser.needs_module else precision, own)
        if plain_fp32.exists() and form == "plain":
            return plain_fp32
        path = self.scratch / f"{self.format}-{form}{'-own' if own else ''}{suffix}"
        if own and path.exists():  # of other layers
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not path.exists():
            self._write(build(), path)
        return path

    def _form(self, precision: Precision, own: tuple[str, ...] = ()) -> tuple[str, Callable[[], nn.Module]]:
        """The form of the module that a precision starts from: its name, and a function that builds it."""
        if precision == FP16 and self._quantiser.adds_in_fp16:
            return "half", lambda: for_half(self._module)
        # Not for palettes: their rounding is only known after k-means.
        if precision.is_calibrated and self.calibration is not None:
            return "corrected", lambda: self._with_corrected_biases(own) if own else self._corrected
        return "plain", lambda: self._module

    @cached_property
    def _corrected(self) -> nn.Module:
        return self._with_corrected_biases(())

    def _with_corrected_biases(self, own: tuple[str, ...]) -> nn.Module:
        assert self.calibration is not None
        examples = map(self._in_edge_layouts, self.calibration.inputs)
        return correct_biases(self._module, examples, own)

    def _conversion(self, precision: Precision, own: tuple[str, ...] = ()) -> Job:
        """What the fp32 artifact that a precision is made from is converted from."""
        _, build = self._form(precision, own)
        return self._job(build())

    def _job(self, module: nn.Module) -> Job:
        inputs = dict(zip(self.source.inputs, self._in_edge_layouts(self.source.inputs), strict=True))
        dynamic_batch = self.dynamic_batch and FORMATS.get(self.format).dynamic_batch
        return Job(
            module,
            inputs,
            tuple(self.source.outputs),
            dynamic_batch,
            self._metadata,
            self.source.picture,
        )

    def _write(self, module: nn.Module, path: Path) -> Details:
        return FORMATS.get(self.format).convert(self._job(module), path)

    def _declared(self, tensors: Any) -> tuple[manifest.Tensor, ...]:
        return tuple(
            manifest.Tensor(
                t.name, t.shape, t.dtype, self._layout_of(t.name) if len(t.shape) == 4 else None, t.scale, t.zero_point
            )
            for t in tensors
        )
