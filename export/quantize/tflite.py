"""TFLite in lower precisions, by Google's ai-edge-quantizer; XNNPACK runs each as one partition."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.bundle.details import Details
from edgeattn.errors import ConversionError
from edgeattn.export.quantize import FEW_ROWS, FLOAT32, OWN, Job, Quantizer
from edgeattn.export.quantize._ranges import Ranges
from edgeattn.export.quantize._silu import Step, parts_of_silu, read_by_silu_alone
from edgeattn.formats.tflite import builtin_kind, finished, unpack
from edgeattn.precision import FP16, FP32, INT8, INT8_DYNAMIC
from edgeattn.runtimes.litert import Observer, observed_name
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line

# XNNPACK computes in fp16 on ARM if the file's metadata allows it. With fp32 accumulation in the name it does not.
FP16_METADATA = {"reduced_precision_support": "fp16accfp16"}
_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


class TfLiteQuantizer(Quantizer):
    extra = "tflite"
    packages = ("ai_edge_quantizer", "ai_edge_litert")
    precisions = (FP16, INT8, INT8_DYNAMIC)
    rest = FP32
    adds_in_fp16 = True  # XNNPACK on ARM

    def make(self, job: Job) -> Details:
        """Write ``job.path``.

        Raises:
            ConversionError: the quantiser refuses the artifact.
        """
        try:
            with quiet():
                content, details = _fp16(job) if job.precision == FP16 else _int8(job)
            metadata = {**job.metadata, **(FP16_METADATA if job.precision == FP16 else {})}
            job.path.write_bytes(finished(content, metadata))
        except Exception as error:
            raise ConversionError(f"ai-edge-quantizer refuses {job.source.name}: {first_line(error)}") from error
        return details

    def candidates(self, path: Path) -> list[tuple[str, str]]:
        """(kind, output) of the operators that int8 takes, in the order of the graph."""
        return [(op.kind, op.output) for op in _ops(path.read_bytes())[0] if op.is_static]

    def observed(self, path: Path) -> dict[str, str]:
        """Their outputs by the names under which the format's runtime shows their values."""
        names = dict(enumerate(tensor.name.decode() for tensor in unpack(path.read_bytes()).subgraphs[0].tensors))
        return {observed_name(index, names): name for index, name in names.items()}


QUANTIZER: Quantizer = TfLiteQuantizer()


def _fp16(job: Job) -> tuple[bytes, Details]:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(str(job.source))
    for kind in _PRODUCTS:
        quantizer.add_weight_only_config(
            ".*", TFLOperationName[kind], num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING
        )
    return bytes(quantizer.quantize().quantized_model), Details(arithmetic="fp16 on ARM, fp32 on x86")


def _int8(job: Job) -> tuple[bytes, Details]:
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.quantizer import Quantizer

    ops, silus = _ops(job.source.read_bytes())
    static = [op for op in ops if op.is_static and op.output not in job.keep] if job.precision == INT8 else []
    chosen = {op.output for op in static}
    quantizer = Quantizer(str(job.source))
    for op in ops:
        if op.output in chosen:
            quantizer.add_static_config(op.scope, TFLOperationName[op.kind], 8, 8)
        elif op.kind in _PRODUCTS and op.output not in job.keep:
            quantizer.add_dynamic_config(op.scope, TFLOperationName[op.kind], 8)
    own = bool(static) and job.edge_type == OWN
    for edge in (TFLOperationName.INPUT, TFLOperationName.OUTPUT) if own else ():
        quantizer.add_static_config(".*", edge, 8, 8)
    ranges = _ranges(job, silus) if static else {}
    eight_bits = chosen | {op.output for op in ops if op.kind in _PRODUCTS and op.output not in job.keep}
    dynamic = len(eight_bits) - len(chosen)
    kept = sorted({op.kind for op in ops if op.output not in eight_bits})
    details = Details(
        static_ops=len(static),
        dynamic_ops=dynamic,
        float_ops=len(ops) - len(static) - dynamic,
        kept_in_fp32=tuple(kept),
        edges="int8" if own else FLOAT32,
    )
    return bytes(quantizer.quantize(ranges).quantized_model), details


class _Op:
    """An operator, with what a recipe needs."""

    def __init__(self, kind: str, output: str, rows: int, silu: bool) -> None:
        self.kind, self.output = kind, output
        # A recipe finds an operator by a pattern over the names of its outputs, each closed by a semicolon.
        self.scope = f"^{re.escape(output)};$"
        few = kind == "FULLY_CONNECTED" and rows < FEW_ROWS
        self.is_static = (kind in _PRODUCTS and not few) or kind == "PAD" or silu


def _ops(content: bytes) -> tuple[list[_Op], set[str]]:
    """The operators, and the names of the tensors that only SiLU reads."""
    model = unpack(content)
    graph = model.subgraphs[0]
    kinds = [builtin_kind(model.operatorCodes[op.opcodeIndex]) for op in graph.operators]
    names = [tensor.name.decode() for tensor in graph.tensors]
    steps = [
        Step(kind, tuple(names[i] for i in op.inputs if i >= 0), names[op.outputs[0]])
        for kind, op in zip(kinds, graph.operators, strict=True)
    ]
    parts, ops = parts_of_silu(steps), []
    for step, op in zip(steps, graph.operators, strict=True):
        shape = graph.tensors[op.outputs[0]].shape
        rows = int(np.prod(shape[:-1])) if len(shape) else 1
        ops.append(_Op(step.kind, step.output, rows, step.output in parts))
    return ops, read_by_silu_alone(steps, {names[i] for i in graph.outputs})


def _ranges(job: Job, silus: set[str]) -> dict[str, dict[str, Any]]:
    """The range of every tensor over the calibration set, in the quantiser's own form.

    Its own calibrator keeps a moving average of both ends, which cuts them off.
    """
    observer = Observer(job.source)
    ranges, ranks = Ranges(len(job.calibration), silus), {}
    for inputs in job.calibration:
        for index, value in observer.values(inputs):
            ranges.add(observer.names[index], value)
            ranks[observer.names[index]] = value.ndim
    return {
        name: {"min": np.full([1] * ranks[name], low, np.float32), "max": np.full([1] * ranks[name], high, np.float32)}
        for name, (low, high) in ranges.result().items()
    }
