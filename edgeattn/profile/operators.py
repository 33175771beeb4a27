"""Operators that a runtime timed, traced back to the layers of the model, and layout ops marked."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeattn.bundle.records import Operator
from edgeattn.formats import onnx
from edgeattn.formats.graph import Op
from edgeattn.system import plugins

# What onnxruntime appends when it makes a node of its own out of one of the file's.
_SUFFIX = re.compile(r"(_nchwc|_token_\d+|/\w*Fusion\w*/?|_fused)$")


def traced(path: Path, operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """The operators of the .onnx file ``path``, each with its layer where its name tells.

    onnxruntime names a fused node after the last one that went into it, or after the value that this one gives; it is
    put down to the nearest one before of its own kind, a convolution with its activation to the convolution. A node
    that it adds by itself (its reorders) has no layer.

    Raises:
        ArtifactError: the file is no ONNX model.
        MissingError: the package onnx is not installed.
    """
    plugins.require(*onnx.FORMAT.read_packages, extra=onnx.FORMAT.extra)
    known = onnx.origins(path)
    return tuple(_traced(operator, known) for operator in operators)


def marked(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """The operators of a file whose runtime names its kernels (``Transpose (ND, X32)``), the layout ops marked. A mark
    stays that is there: who made it had more than the kind to go by, as the package of Core ML."""
    kinds = (operator.kind.partition("(")[0].replace(" ", "").removeprefix("Static") for operator in operators)
    return tuple(
        replace(operator, layout=operator.layout or Op(kind, operator.name).category == "layout")
        for operator, kind in zip(operators, kinds, strict=True)
    )


def _traced(operator: Operator, known: dict[str, tuple[str, Op]]) -> Operator:
    name = operator.name
    while name not in known and (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
    layer, op = known.get(name, ("", None))
    ahead = op
    while ahead is not None and ahead.kind != operator.kind:
        before = ahead.inputs[0].name if ahead.inputs else ""
        origin, ahead = known.get(before, ("", None))
        if ahead is not None and ahead.kind == operator.kind:
            layer, op = origin, ahead
    if op is None or op.kind != operator.kind:
        # Of the runtime's own making: its kind alone says whether it only moves data.
        op = Op(operator.kind, operator.name)
    return replace(operator, layer=layer, layout=op.category == "layout")
