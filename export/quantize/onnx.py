"""ONNX in lower precisions, by onnxruntime's own converter and quantiser."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.bundle.details import Details
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ConversionError
from edgeattn.export.quantize import FEW_ROWS, FLOAT32, Job, Quantizer
from edgeattn.export.quantize._onnx_fp16 import convert
from edgeattn.export.quantize._onnx_weights import PRODUCTS, scale_per_channel, store_weights_in_int8
from edgeattn.export.quantize._ranges import Ranges
from edgeattn.export.quantize._silu import Step, parts_of_silu, read_by_silu_alone
from edgeattn.precision import FP16, FP32, INT8, INT8_DYNAMIC
from edgeattn.runtimes.onnxruntime import OnnxRuntime
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line

# The shape [B, C, 1, H * W] of a map, as a tensor's name.
_ROWS = "edgeattn_rows"


class OnnxQuantizer(Quantizer):
    extra = "onnx"
    packages = ("onnx", "onnxruntime")
    precisions = (FP16, INT8, INT8_DYNAMIC)
    rest = FP32
    adds_in_fp16 = False

    def make(self, job: Job) -> Details:
        """Write ``job.path``.

        Raises:
            ConversionError: the quantiser refuses the artifact, or the ONNX checker refuses the result.
        """
        import onnx

        try:
            with quiet():
                model = _load(job)
                if job.precision == FP16:
                    details = convert(model, job)
                else:
                    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
                    details = _static(model, job) if job.precision == INT8 else _dynamic(model, job)
                    made = onnx.load(str(job.path))
                    scale_per_channel(made.graph, weights)
                    store_weights_in_int8(made.graph, set(job.keep))
                    job.path.write_bytes(made.SerializeToString(deterministic=True))
                onnx.checker.check_model(str(job.path), full_check=True)
        except Exception as error:
            job.path.unlink(missing_ok=True)
            raise ConversionError(f"onnxruntime's quantiser refuses {job.source.name}: {first_line(error)}") from error
        return details

    def candidates(self, path: Path) -> list[tuple[str, str]]:
        """(kind, output) of the operators that int8 takes, in the order of the graph."""
        import onnx

        model = onnx.load(str(path))
        taken = _in_eight_bits(model)
        return [(node.op_type, node.output[0]) for node in model.graph.node if node.output[0] in taken]


QUANTIZER: Quantizer = OnnxQuantizer()


def _load(job: Job) -> Any:
    """The fp32 model without metadata and without the declared shapes of its weights, some of which the quantiser
    transposes."""
    import onnx

    model = onnx.load(str(job.source))
    weights = {tensor.name for tensor in model.graph.initializer}
    declared = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(declared)
    for node in model.graph.node:  # the source lines: only those of the fp32 file are read
        del node.metadata_props[:]
    return model


class _Once:
    """A single input for the quantiser's own calibrator, which needs one; all ranges are overridden."""

    def __init__(self, inputs: Arrays) -> None:
        self._rest = [inputs]

    def get_next(self) -> Arrays | None:
        return self._rest.pop() if self._rest else None


def _static(model: Any, job: Job) -> Details:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    CalibrationDataReader.register(_Once)
    names = _in_eight_bits(model) - set(job.keep)
    chosen = [node for node in model.graph.node if node.output[0] in names]
    if not chosen:  # for the quantiser an empty list means all nodes
        raise ValueError("it has no convolution, linear layer or SiLU that int8 could take")
    _stop_transposes(model.graph)
    quantize_static(
        model,
        str(job.path),
        _Once(job.calibration[0]),
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=[node.name for node in chosen],
        op_types_to_quantize=sorted({node.op_type for node in chosen}),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"TensorQuantOverrides": _ranges(model.graph, job)},
    )
    return replace(_details(model, {node.output[0] for node in chosen}), static_ops=len(chosen))


def _stop_transposes(graph: Any) -> None:
    """Insert a reshape that moves nothing before every mean over a map.

    onnxruntime runs int8 convolutions channels-last, and pushes the transposes after one through the operators that
    follow, up to such a mean, which is then five times as slow (6 % of a MobileViTv2). A reshape stops them.
    """
    import onnx

    axes = {
        tensor.name: list(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer if len(tensor.dims) == 1
    }
    nodes = []
    for node in graph.node:
        if node.op_type == "ReduceMean" and len(node.input) > 1 and axes.get(node.input[1]) == [2, 3]:
            held = f"{node.output[0]}_held"
            nodes.append(onnx.helper.make_node("Reshape", [node.input[0], _ROWS], [held], held))
            node.input[0] = held
        nodes.append(node)
    if len(nodes) > len(graph.node):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 0, 1, -1]), _ROWS))
    del graph.node[:]
    graph.node.extend(nodes)


def _ranges(graph: Any, job: Job) -> dict[str, list[dict[str, Any]]]:
    """The range of every tensor over the calibration set, in the quantiser's own form.

    Its own calibrator gives the extremes only.
    """
    silus = read_by_silu_alone(_steps(graph), {value.name for value in graph.output})
    ranges = Ranges(len(job.calibration), silus)
    for inputs in job.calibration:
        for name, value in inputs.items():
            ranges.add(name, value)
        OnnxRuntime().observe(job.source, inputs, lambda observed: ranges.add(observed.name, observed.value))
    return {
        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.result().items()
    }


def _steps(graph: Any) -> list[Step]:
    return [Step(node.op_type, tuple(node.input), node.output[0]) for node in graph.node]


def _dynamic(model: Any, job: Job) -> Details:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    chosen = [n for n in model.graph.node if n.op_type in PRODUCTS and n.output[0] not in job.keep]
    quantize_dynamic(
        model,
        str(job.path),
        op_types_to_quantize=list(PRODUCTS),
        nodes_to_quantize=[node.name for node in chosen if not _is_depthwise(node)],
        weight_type=QuantType.QUInt8,  # onnxruntime has no ConvInteger with signed weights
        extra_options={"MatMulConstBOnly": True},
    )
    return replace(_details(model, {node.output[0] for node in chosen}), dynamic_ops=len(chosen))


def _is_depthwise(node: Any) -> bool:
    return any(a.name == "group" and a.i > 1 for a in node.attribute)


def _details(model: Any, chosen: set[str]) -> Details:
    """The details of the nodes that are not ``chosen``."""
    rest = [node.op_type for node in model.graph.node if node.output[0] not in chosen and node.op_type != "Constant"]
    return Details(float_ops=len(rest), kept_in_fp32=tuple(sorted(set(rest))), edges=FLOAT32)


def _in_eight_bits(model: Any) -> set[str]:
    """Outputs of the nodes that int8 takes: convolutions and linear layers on maps, SiLU, and the classifier."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes: dict[str, list[int]] = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.output)
    }
    weights: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    silus = parts_of_silu(_steps(graph))

    def is_taken(node: Any) -> bool:
        shape = shapes.get(node.output[0], [])
        if node.op_type == "Conv":
            return bool(prod(shape[2:]) >= FEW_ROWS)
        if node.op_type == "MatMul":
            weight = weights.get(node.input[1], [0])
            return bool(prod(shape[:-1]) >= FEW_ROWS and weight[0] >= FEW_ROWS)
        return node.op_type == "Gemm" or node.output[0] in silus

    return {node.output[0] for node in graph.node if is_taken(node)}
