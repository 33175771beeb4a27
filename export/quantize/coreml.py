"""Core ML in lower precisions, by coremltools' own passes on the fp32 package.

Everything that is not in eight bits is in fp16, as on a phone's Neural Engine. coremltools calibrates activations with
``MLModel.predict``, which needs macOS. Here mil_reference runs the program, and the same passes use its ranges.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from edgeattn.bundle.details import Details
from edgeattn.errors import ConversionError
from edgeattn.export.quantize import FEW_ROWS, FLOAT32, OWN, Job, Quantizer
from edgeattn.export.quantize._ranges import Ranges
from edgeattn.export.quantize._silu import Step, read_by_silu_alone
from edgeattn.formats.coreml import normalise
from edgeattn.formats.mil import classifier
from edgeattn.formats.mil.package import model_file
from edgeattn.precision import FP16, INT8, INT8_DYNAMIC, PALETTE4, PALETTE6
from edgeattn.runtimes import Observed, mil_reference
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line

_PRODUCTS = ("conv", "linear")
_STATISTICS = ("reduce_mean", "reduce_sum", "reduce_max", "softmax", "exp", "rsqrt", "sqrt", "inverse")
_ELEMENTWISE = ("add", "sub", "mul", "real_div", "pow", "square")


class CoreMlQuantizer(Quantizer):
    extra = "coreml"
    packages = ("coremltools",)
    precisions = (FP16, INT8, INT8_DYNAMIC, PALETTE6, PALETTE4)
    rest = FP16
    adds_in_fp16 = False

    def make(self, job: Job) -> Details:
        """Write the package ``job.path``.

        Raises:
            ConversionError: coremltools refuses the artifact.
        """
        try:
            with quiet():
                import coremltools as ct

                model, details = _fp16(_opened(ct, job.source), job)
                if job.precision != FP16:
                    step = _palettes if job.precision.is_palette else _static if job.precision == INT8 else _weights
                    model, details = step(model, job, details)
                elif job.edge_type == OWN:
                    model = _in_fp16(model)
                    details = replace(details, edges="float16")
                model.save(str(job.path))
            normalise(job.path, job.metadata)
        except Exception as error:
            shutil.rmtree(job.path, ignore_errors=True)
            raise ConversionError(f"coremltools refuses {job.source.name}: {first_line(error)}") from error
        return details

    def candidates(self, path: Path) -> list[tuple[str, str]]:
        """(kind, output) of the operators that int8 takes, in the order of the program."""
        from edgeattn.formats.mil.program import load

        candidates = []
        for step in load(path).steps:
            name, kind = next(iter(step.outputs.items()), ("", None))
            if step.op in _PRODUCTS and kind is not None and _rows(step.op, kind.shape) >= FEW_ROWS:
                candidates.append((step.op, name))
        return candidates


QUANTIZER: Quantizer = CoreMlQuantizer()


def _opened(ct: Any, path: Path) -> Any:
    """The model of a package; of a classifier's the probabilities, whose names are put back when it is normalised."""
    model = ct.models.MLModel(str(path), skip_model_load=True)
    spec = model.get_spec()
    if not classifier.take_off(spec):
        return model
    return ct.models.MLModel(spec, weights_dir=str(model_file(path).parent / "weights"), skip_model_load=True)


def _fp16(model: Any, job: Job) -> tuple[Any, Details]:
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
    from coremltools.models.utils import _apply_graph_pass

    kept: dict[str, str] = {}

    def in_fp16(op: Any) -> bool:
        if _is_norm(op) or op.outputs[0].name in job.keep:
            kept[op.outputs[0].name] = op.op_type
            return False
        return True

    changed = _apply_graph_pass(model, FP16ComputePrecision(op_selector=in_fp16), skip_model_load=True)
    return changed, Details(kept_in_fp32=tuple(sorted(set(kept.values()))), kept_ops=len(kept), edges=FLOAT32)


def _in_fp16(model: Any) -> Any:
    """The model with inputs and outputs in fp16 too, under their old names."""
    import coremltools as ct
    from coremltools.proto.FeatureTypes_pb2 import ArrayFeatureType

    half, full = ArrayFeatureType.ArrayDataType.FLOAT16, ArrayFeatureType.ArrayDataType.FLOAT32
    names = [output.name for output in model.get_spec().description.output]
    changed = ct.models.utils.change_input_output_tensor_type(model, full, half, input_names=["*"], output_names=["*"])
    spec = changed.get_spec()
    for new_name, name in zip([output.name for output in spec.description.output], names, strict=True):
        ct.utils.rename_feature(spec, new_name, name, rename_inputs=False)
    return ct.models.MLModel(spec, weights_dir=changed.weights_dir, skip_model_load=True)


def _rows(op: str, shape: Sequence[int | None]) -> int:
    """The number of columns in the output [B, C, ...] of a convolution, or of rows in a linear layer's [..., C]."""
    return prod(n or 1 for n in (shape[2:] if op == "conv" else shape[:-1]))


def _is_norm(op: Any) -> bool:
    """Whether an operator is part of a norm or a softmax: a statistic, or an elementwise operator next to one."""
    if op.op_type in _STATISTICS:
        return True
    before = [var.op.op_type for value in op.inputs.values() for var in _vars(value) if var.op is not None]
    after = [reader.op_type for out in op.outputs for reader in out.child_ops]
    return op.op_type in _ELEMENTWISE and any(kind in _STATISTICS for kind in (*before, *after))


def _vars(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _static(model: Any, job: Job, details: Details) -> tuple[Any, Details]:
    """What ``coremltools.optimize.coreml.linear_quantize_activations`` does, with the ranges that are observed here."""
    import coremltools.optimize as cto
    from coremltools.converters.mil.mil.passes.graph_pass import PassOption
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
    from coremltools.models.utils import _apply_graph_pass

    ranges, few = _ranges(model, job)
    eight = cto.coreml.OpLinearQuantizerConfig(mode="linear")
    kept = dict.fromkeys((*few, *job.keep))
    config = cto.coreml.OptimizationConfig(op_type_configs={"conv": eight, "linear": eight}, op_name_configs=kept)
    passes = []
    for name in ("insert_prefix_quantize_dequantize_pair", "insert_suffix_quantize_dequantize_pair"):
        step = PASS_REGISTRY[f"compression::{name}"]
        step.set_options([PassOption("config", config), PassOption("activation_stats", ranges)])
        passes.append(step)
    passes.append(PASS_REGISTRY["common::dequantize_quantize_pair_elimination"])
    changed = _apply_graph_pass(model, passes, spec_version=_ios17(), skip_model_load=True)
    compressed, details = _weights(changed, job, details)
    return compressed, replace(details, float_activations=len(kept))


def _ios17() -> int:
    import coremltools as ct

    return int(ct.target.iOS17)


def _weights(model: Any, job: Job, details: Details) -> tuple[Any, Details]:
    import coremltools.optimize as cto

    eight = cto.coreml.OpLinearQuantizerConfig(mode="linear_symmetric", granularity="per_channel")
    config = cto.coreml.OptimizationConfig(global_config=eight, op_name_configs=dict.fromkeys(job.keep))
    return cto.coreml.linear_quantize_weights(model, config), replace(details, weights="int8 per channel")


def _palettes(model: Any, job: Job, details: Details) -> tuple[Any, Details]:
    """Each weight as a table of values from k-means, and indices into it; tables of one size, as iOS 16 needs."""
    import coremltools.optimize as cto

    bits = job.precision.bits
    table = cto.coreml.OpPalettizerConfig(mode="kmeans", nbits=bits)
    config = cto.coreml.OptimizationConfig(global_config=table, op_name_configs=dict.fromkeys(job.keep))
    return cto.coreml.palettize_weights(model, config), replace(details, weights=f"{bits} bit palettes")


def _ranges(model: Any, job: Job) -> tuple[dict[str, dict[str, float]], list[str]]:
    """The ranges of all tensors over the calibration set, and the names of the products on few rows."""
    few: set[str] = set()

    def observe(observed: Observed) -> None:
        ranges.add(observed.name, observed.value)
        if observed.op in _PRODUCTS and _rows(observed.op, observed.value.shape) < FEW_ROWS:
            few.add(observed.name)

    with tempfile.TemporaryDirectory() as scratch:
        model.save(str(package := Path(scratch, "fp16.mlpackage")))
        with mil_reference.opened(package) as session:
            program = session.program
            steps = [Step(step.op, tuple(step.reads), next(iter(step.outputs), "")) for step in program.steps]
            ranges = Ranges(len(job.calibration), read_by_silu_alone(steps, program.outputs))
            for inputs in job.calibration:
                for name, value in inputs.items():
                    ranges.add(name, value)
                session.run_observed(inputs, observe)
    return {name: {"rmin": low, "rmax": high} for name, (low, high) in ranges.result().items()}, sorted(few)
