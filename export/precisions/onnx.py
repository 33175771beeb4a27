"""ONNX in lower precisions, by onnxruntime's own converter and quantiser."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from edgeattn.errors import ConversionError
from export.precisions import FEW_ROWS, FP16, INT8, Job
from export.quiet import quiet
from export.runtimes import Arrays
from export.source import first_line

EXTRA = "onnx"
PACKAGES = ("onnx", "onnxruntime")
REST = "fp32"
_PRODUCTS = ("Conv", "Gemm", "MatMul")
# What sums or inverts a whole map, and the exponential: an fp16 sum has 11 bits, and an epsilon of 1e-5 two digits.
_STATISTICS = ("ReduceMean", "ReduceSum", "ReduceMax", "Softmax", "Exp", "Sqrt", "Reciprocal")
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow")


def make(job: Job) -> dict[str, Any]:
    """Write ``job.path``.

    Raises:
        ConversionError: the quantiser refuses the artifact, or the ONNX checker what it made.
    """
    import onnx

    try:
        with quiet():
            model = _loaded(job)
            if job.precision == FP16:
                details = _fp16(model, job)
            elif job.precision == INT8:
                details = _static(model, job)
            else:
                details = _dynamic(model, job)
            onnx.checker.check_model(str(job.path), full_check=True)
    except Exception as error:
        job.path.unlink(missing_ok=True)
        raise ConversionError(f"onnxruntime's quantiser refuses {job.source.name}: {first_line(error)}") from error
    return details


def _loaded(job: Job) -> Any:
    """The fp32 model without the shapes that it tells of its weights: a quantiser transposes some, and forgets them."""
    import onnx

    model = onnx.load(str(job.source))
    weights = {tensor.name for tensor in model.graph.initializer}
    told = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(told)
    return model


def _fp16(model: Any, job: Job) -> dict[str, Any]:
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    kept = [node for node in model.graph.node if node.output[0] in {*_norms(model.graph), *job.keep}]
    converted = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=DEFAULT_OP_BLOCK_LIST,
        node_block_list=[node.name for node in kept],
    )
    _tidied(converted.graph)
    OnnxModel(converted).topological_sort()  # the converter puts its casts at the end
    job.path.write_bytes(converted.SerializeToString(deterministic=True))
    return {"kept_in_fp32": sorted({node.op_type for node in kept}), "kept_ops": len(kept), "edges": "float32"}


def _tidied(graph: Any) -> None:
    """Take out the casts that the converter puts between two nodes that both stay in fp32, and its twins.

    It writes fp32 -> fp16 -> fp32 there, which is where a sum of squares overflows; and one and the same cast once for
    each of its readers.
    """
    import onnx

    nodes = {node.output[0]: node for node in graph.node}
    casts = {name: (node.input[0], node.attribute[0].i) for name, node in nodes.items() if node.op_type == "Cast"}
    for node in nodes.values():
        for place, name in enumerate(node.input):
            source, to = casts.get(name, ("", 0))
            before, to_before = casts.get(source, ("", 0))
            if (to, to_before) == (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
                node.input[place] = before
    outputs = {value.name for value in graph.output}
    while unread := casts.keys() & nodes.keys() - outputs - {name for n in nodes.values() for name in n.input}:
        nodes = {name: node for name, node in nodes.items() if name not in unread}
    del graph.node[:]
    graph.node.extend(nodes.values())


def _norms(graph: Any) -> set[str]:
    """Outputs of the nodes that norms and softmax are made of: statistics, and the elementwise steps next to one."""
    statistics = {node.output[0] for node in graph.node if node.op_type in _STATISTICS}
    read = {name for node in graph.node if node.op_type in _STATISTICS for name in node.input}
    steps = [node for node in graph.node if node.op_type in _ELEMENTWISE]
    return statistics | {n.output[0] for n in steps if n.output[0] in read or statistics & set(n.input)}


class _Reader:
    """The calibration set, as onnxruntime asks for it."""

    def __init__(self, inputs: tuple[Arrays, ...]) -> None:
        self._rest: Iterator[Arrays] = iter(inputs)

    def get_next(self) -> Arrays | None:
        return next(self._rest, None)


def _static(model: Any, job: Job) -> dict[str, Any]:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    CalibrationDataReader.register(_Reader)
    chosen = [node for node in model.graph.node if node.output[0] in _in_eight_bits(model) - set(job.keep)]
    if not chosen:  # the quantiser takes an empty list for all of them
        raise ValueError("it has no convolution, linear layer or SiLU that int8 could take")
    quantize_static(
        model,
        str(job.path),
        _Reader(job.calibration),
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=[node.name for node in chosen],
        op_types_to_quantize=sorted({node.op_type for node in chosen}),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return _details(model, {node.output[0] for node in chosen}, "static_ops")


def candidates(path: Path) -> list[tuple[str, str]]:
    """(kind, output) of the operators that int8 takes, in the order of the graph."""
    import onnx

    model = onnx.load(str(path))
    taken = _in_eight_bits(model)
    return [(node.op_type, node.output[0]) for node in model.graph.node if node.output[0] in taken]


def _dynamic(model: Any, job: Job) -> dict[str, Any]:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    chosen = [n for n in model.graph.node if n.op_type in _PRODUCTS and n.output[0] not in job.keep]
    quantize_dynamic(
        model,
        str(job.path),
        op_types_to_quantize=list(_PRODUCTS),
        nodes_to_quantize=[node.name for node in chosen if not _is_depthwise(node)],
        weight_type=QuantType.QUInt8,  # onnxruntime has no ConvInteger with signed weights
        extra_options={"MatMulConstBOnly": True},
    )
    return _details(model, {node.output[0] for node in chosen}, "dynamic_ops")


def _is_depthwise(node: Any) -> bool:
    return any(a.name == "group" and a.i > 1 for a in node.attribute)


def _details(model: Any, chosen: set[str], name: str) -> dict[str, Any]:
    rest = [node.op_type for node in model.graph.node if node.output[0] not in chosen and node.op_type != "Constant"]
    return {name: len(chosen), "float_ops": len(rest), "kept_in_fp32": sorted(set(rest)), "edges": "float32"}


def _in_eight_bits(model: Any) -> set[str]:
    """Outputs of convolutions and linear layers on maps, of SiLU, and of the classifier."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes: dict[str, list[int]] = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.output)
    }
    weights: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    sigmoids: dict[str, str] = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Sigmoid"}

    def taken(node: Any) -> bool:
        shape = shapes.get(node.output[0], [])
        if node.op_type == "Conv":
            return bool(prod(shape[2:]) >= FEW_ROWS)
        if node.op_type == "MatMul":
            weight = weights.get(node.input[1], [0])
            return bool(prod(shape[:-1]) >= FEW_ROWS and weight[0] >= FEW_ROWS)
        if node.op_type == "Mul":  # SiLU: x times its own sigmoid
            one, other = node.input
            return bool(sigmoids.get(one) == other or sigmoids.get(other) == one)
        return node.op_type in ("Gemm", "Sigmoid")

    return {node.output[0] for node in graph.node if taken(node)}
