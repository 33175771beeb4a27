"""Weights in eight bits where onnxruntime's quantiser uses one scale for all channels, or leaves them in float."""

from collections import Counter
from math import prod
from typing import Any

import numpy as np

# ONNX operators with weights.
PRODUCTS = ("Conv", "Gemm", "MatMul")
# Fewer weights than this are not worth a DequantizeLinear.
FEW_WEIGHTS = 4096


def scale_per_channel(graph: Any, weights: dict[str, Any]) -> None:
    """Give the weights of every ConvInteger a scale per output channel. The quantiser uses one scale for all, although
    it multiplies by the scale after the convolution, where a scale per channel costs nothing."""
    import onnx

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "ConvInteger":
            name = node.input[1].removesuffix("_quantized")
            steps, scale = _rounded(weights[name], axis=0)
            for changed, value in (
                (node.input[1], (steps.astype(np.int16) + 128).astype(np.uint8)),
                (node.input[3], np.full(tuple(tensors[node.input[3]].dims), 128, np.uint8)),
                (f"{name}_scale", scale.reshape(1, -1, *[1] * (steps.ndim - 2))),
            ):
                tensors[changed].CopyFrom(onnx.numpy_helper.from_array(value, changed))


def store_weights_in_int8(graph: Any, kept: set[str]) -> None:
    """Store the remaining weights of products in int8 too; their arithmetic stays in float."""
    import onnx

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    added = []
    for node in list(graph.node):
        for index, name in enumerate(node.input[:2] if node.op_type in PRODUCTS else ()):
            tensor = tensors.get(name)
            if (
                tensor is None
                or tensor.data_type != onnx.TensorProto.FLOAT
                or prod(tensor.dims) < FEW_WEIGHTS
                or readers[name] > 1
                or node.output[0] in kept
            ):
                continue
            weight = onnx.numpy_helper.to_array(tensor)
            # Output channels are the rows of a left operand and of a kernel, else the columns.
            axis = 0 if index == 0 or node.op_type == "Conv" or _flag(node, "transB") else weight.ndim - 1
            steps, scale = _rounded(weight, axis)
            parts = {"steps": steps, "scale": scale, "zero": np.zeros(len(scale), np.int8)}
            graph.initializer.remove(tensor)
            graph.initializer.extend(onnx.numpy_helper.from_array(v, f"{name}_{part}") for part, v in parts.items())
            inputs = [f"{name}_{part}" for part in parts]
            added.append(onnx.helper.make_node("DequantizeLinear", inputs, [name], f"{name}_dequantize", axis=axis))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*added, *rest])


def _rounded(weight: Any, axis: int) -> tuple[Any, Any]:
    """int8 steps from -127 to 127, and the scale [channels] of each channel along ``axis``."""
    other_axes = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=other_axes, keepdims=True), 1e-30).astype(np.float32) / 127
    return np.round(weight / scale).astype(np.int8), scale.ravel()


def _flag(node: Any, name: str) -> bool:
    return any(a.name == name and a.i for a in node.attribute)
