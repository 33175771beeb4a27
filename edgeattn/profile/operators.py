"""Assigns the operators that a runtime timed to layers of the model, and marks layout ops."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeattn.bundle.records import Operator
from edgeattn.formats import onnx
from edgeattn.formats.graph import Op
from edgeattn.system import plugins

# Suffixes of the nodes that onnxruntime makes from a node of the file.
_SUFFIX = re.compile(r"(_nchwc|_token_\d+|/\w*Fusion\w*/?|_fused)$")


def assign_layers(path: Path, operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """The operators of the .onnx file ``path``, each with its layer if its name identifies one.

    onnxruntime names a fused node after its last part, or after that part's output. The operator is assigned to the
    nearest earlier node of its own kind: a convolution with its activation to the convolution. A node that onnxruntime
    adds, such as a reorder, has no layer.

    Raises:
        ArtifactError: the file is no ONNX model.
        MissingError: the package onnx is not installed.
    """
    plugins.require(*onnx.FORMAT.read_packages, extra=onnx.FORMAT.extra)
    nodes = onnx.origins(path)
    return tuple(_assign_layer(operator, nodes) for operator in operators)


def mark_layout_ops(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """The operators of a runtime that names its kernels (``Transpose (ND, X32)``), with the layout ops marked. An
    existing mark stays: it rests on more than the kind, for instance on the package of Core ML."""
    kinds = (operator.kind.partition("(")[0].replace(" ", "").removeprefix("Static") for operator in operators)
    return tuple(
        replace(operator, layout=operator.layout or Op(kind, operator.name).category == "layout")
        for operator, kind in zip(operators, kinds, strict=True)
    )


def _assign_layer(operator: Operator, nodes: dict[str, tuple[str, Op]]) -> Operator:
    name = operator.name
    while name not in nodes and (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
    layer, op = nodes.get(name, ("", None))
    earlier = op
    while earlier is not None and earlier.kind != operator.kind:
        value = earlier.inputs[0].name if earlier.inputs else ""
        earlier_layer, earlier = nodes.get(value, ("", None))
        if earlier is not None and earlier.kind == operator.kind:
            layer, op = earlier_layer, earlier
    if op is None or op.kind != operator.kind:
        # Added by the runtime: only its kind shows whether it is a layout op.
        op = Op(operator.kind, operator.name)
    return replace(operator, layer=layer, layout=op.category == "layout")
