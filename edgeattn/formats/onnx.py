"""ONNX, through torch's own exporter (dynamo), channels-first."""

import re
from ast import literal_eval
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeattn.bundle.details import Details
from edgeattn.errors import ArtifactError, ConversionError
from edgeattn.formats import Format, Job
from edgeattn.formats import _onnx_external as external
from edgeattn.formats.graph import Graph, Op, TensorInfo, conv_macs, einsum_macs, is_one_hot, matmul_macs
from edgeattn.layout import Layout
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line, innermost

# The opset that torch's exporter writes without a version conversion; every onnxruntime since 1.14 runs it.
OPSET = 18
# Lists of the paths, and of the classes, of the modules that a node comes from, from the root to the node itself.
_ORIGINS = (_PATHS, _CLASSES) = ("pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy")


class Onnx(Format):
    suffix = ".onnx"
    extra = "onnx"
    packages = ("onnx", "onnxscript")
    read_packages = ("onnx",)
    layout: Layout = "channels_first"
    dynamic_batch = True

    def convert(self, job: Job, path: Path) -> Details:
        """Write ``path``; the details hold the opset.

        Raises:
            ConversionError: the exporter or the ONNX checker refuses the module.
        """
        import onnx
        import torch

        inputs = job.traced_inputs()
        batch = torch.export.Dim("batch")
        shapes = tuple({0: batch} for _ in inputs) if job.dynamic_batch else None
        try:
            with quiet():
                program = torch.onnx.export(
                    job.module,
                    tuple(inputs.values()),
                    dynamo=True,
                    external_data=False,
                    opset_version=OPSET,
                    input_names=list(inputs),
                    output_names=list(job.outputs),
                    dynamic_shapes=shapes,
                    verbose=False,
                )
            if program is None:
                raise ConversionError("torch.onnx.export gave no program for this module")
            proto = program.model_proto
            _keep_origins(proto)
            onnx.helper.set_model_props(proto, {**{p.key: p.value for p in proto.metadata_props}, **job.metadata})
            onnx.checker.check_model(proto, full_check=True)
            path.write_bytes(proto.SerializeToString(deterministic=True))
        except ConversionError:
            raise
        except Exception as error:
            # The exporter's own errors say in which of its steps it failed, and the first of them says why.
            raise ConversionError(f"torch.onnx.export refuses the module: {first_line(innermost(error))}") from error
        return Details(opset=next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")))

    def read(self, path: Path) -> Graph:
        """The operators of any .onnx file, functions inlined and subgraphs included. Weights beside it are not loaded.

        Raises:
            ArtifactError: the file is cut, empty or no valid ONNX model.
        """
        import onnx
        import onnx.inliner

        try:
            model, beside = external.load(path)
            # By its path: of a model in memory the checker looks for the weights in the working directory.
            onnx.checker.check_model(str(path))
            if model.functions:
                model = onnx.inliner.inline_local_functions(model)
            graph = _graph(onnx.shape_inference.infer_shapes(model), path.absolute().parent)
            if not beside:
                return graph
            return replace(graph, details={**graph.details, "external_data": external.described(path, beside)})
        except ArtifactError:
            raise
        except Exception as error:
            raise ArtifactError(f"{path} is not a readable ONNX model: {first_line(error)}") from error


FORMAT: Format = Onnx()


def _keep_origins(proto: Any) -> None:
    """Keep of the exporter's notes on each node those that :func:`origins` reads. Others hold paths of this machine."""
    for node in proto.graph.node:
        kept = [(entry.key, entry.value) for entry in node.metadata_props if entry.key in _ORIGINS]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)


def read_unchecked(path: Path, folder: Path) -> Graph:
    """As :meth:`Onnx.read`, for files with operators that the ONNX checker does not know (onnxruntime's own), and with
    weights beside another file, in ``folder``."""
    import onnx

    return _graph(onnx.load(str(path), load_external_data=False), folder)


def data_bytes(path: Path) -> int:
    """The bytes of weights that a file keeps beside it.

    Raises:
        ArtifactError: as :func:`Onnx.read`, where they cannot be there.
    """
    return sum(external.load(path)[1].values())


def origins(path: Path) -> dict[str, tuple[str, Op]]:
    """The module that each operator comes from, and the operator, by its name and by the names of its outputs.

    A module is a dotted path; what a module computes without a submodule is ``PATH.function()``, as in
    :mod:`edgeattn.export.recording`. It is "" if the file's exporter does not record it.

    Raises:
        ArtifactError: as :func:`read`.
    """
    import onnx

    ops = {op.name: op for op in FORMAT.read(path).ops}
    by_name = {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        if node.name in ops:
            origin = _module(node), ops[node.name]
            by_name.update(dict.fromkeys([*node.output, node.name], origin))
    return by_name


def _module(node: Any) -> str:
    """The module of a node, from the notes of torch's exporter."""
    notes = {entry.key: entry.value for entry in node.metadata_props}
    try:
        *_, path, function = literal_eval(notes[_PATHS])
        *_, inside, _ = literal_eval(notes[_CLASSES])
    except (KeyError, ValueError, SyntaxError):
        return ""
    function = re.sub(r"_\d+$", "", function)
    return path if path and inside.startswith("torch.nn.") else f"{path}.{function}()".removeprefix(".")


def _graph(model: Any, folder: Path) -> Graph:
    """``folder`` holds the weights that are not in the model."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    proto = model.graph
    weights = {t.name: t for t in _initializers(proto)}
    infos = {name: _initializer_info(t) for name, t in weights.items()}
    for value in (*proto.input, *proto.value_info, *proto.output):
        infos.setdefault(value.name, _info(value))
    ops = tuple(_op(node, infos, weights, folder) for node in _nodes(proto) if node.op_type != "Constant")
    return Graph(
        format="onnx",
        ops=ops,
        inputs=tuple(infos[v.name] for v in proto.input if v.name not in weights),
        outputs=tuple(infos[v.name] for v in proto.output),
        parameters=sum(t.size_bytes // t.itemsize for n, t in infos.items() if n in weights and "int64" not in t.dtype),
        details={
            "opset": opsets.get("ai.onnx"),
            "opsets": opsets,
            "ir_version": model.ir_version,
            "metadata": {entry.key: entry.value for entry in model.metadata_props},
        },
    )


def _nodes(proto: Any) -> Iterable[Any]:
    for node in proto.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _initializers(proto: Any) -> Iterable[Any]:
    """Initializers, and the values of Constant nodes under the name of their output."""
    import onnx

    yield from proto.initializer
    for node in proto.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            yield tensor


def _dtype(code: int) -> tuple[str, int]:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(code) if code else None
    return (str(dtype), dtype.itemsize) if dtype is not None else ("unknown", 4)


def _initializer_info(tensor: Any) -> TensorInfo:
    return TensorInfo(tensor.name, tuple(tensor.dims), *_dtype(tensor.data_type))


def _info(value: Any) -> TensorInfo:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return TensorInfo(value.name, shape, *_dtype(tensor.elem_type))


def _op(node: Any, infos: dict[str, TensorInfo], weights: dict[str, Any], folder: Path) -> Op:
    import onnx

    inputs = tuple(infos.get(name, TensorInfo(name, (), "unknown", 4)) for name in node.input if name)
    outputs = tuple(infos.get(name, TensorInfo(name, (), "unknown", 4)) for name in node.output if name)
    kernel = weights.get(node.input[1]) if len(node.input) > 1 else None
    return Op(
        kind=node.op_type,
        name=node.name,
        inputs=inputs,
        outputs=outputs,
        macs=_macs(node, inputs, outputs),
        constant_indices=kernel is not None,
        one_hot_kernel=node.op_type in ("Conv", "FusedConv", "ConvTranspose")
        and kernel is not None
        and is_one_hot(
            onnx.numpy_helper.to_array(kernel, str(folder)), output_axis=int(node.op_type == "ConvTranspose")
        ),
    )


def _macs(node: Any, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> int | None:
    if not outputs or len(inputs) < 2:
        return 0
    shape, second = outputs[0].shape, inputs[1].shape
    first = inputs[0].shape
    if not shape or not first:  # not in the file
        return 0
    attributes = {a.name: a for a in node.attribute}
    if node.op_type in ("Conv", "FusedConv", "QLinearConv", "ConvInteger"):
        kernel = inputs[3].shape if node.op_type == "QLinearConv" else second
        return conv_macs(shape, kernel[1:])
    if node.op_type == "ConvTranspose":
        return conv_macs(first, second[1:])
    if node.op_type == "Gemm":
        transposed = "transA" in attributes and attributes["transA"].i
        return matmul_macs(shape, first[0 if transposed else -1])
    if node.op_type in ("MatMul", "FusedMatMul", "QLinearMatMul", "MatMulInteger"):
        transposed = "transA" in attributes and attributes["transA"].i
        return matmul_macs(shape, first[-2 if transposed else -1])
    if node.op_type == "Einsum":
        return einsum_macs(attributes["equation"].s.decode(), [t.shape for t in inputs])
    return 0
