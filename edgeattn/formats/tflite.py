"""TFLite, through Google's litert-torch, channels-last."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.details import Details
from edgeattn.bundle.preprocessing import read
from edgeattn.errors import ArtifactError, ConversionError
from edgeattn.formats import LABELS, PREPROCESSING, Format, Job
from edgeattn.formats import _tflite_metadata as own
from edgeattn.formats.graph import Graph, Op, TensorInfo, conv_macs, is_one_hot, is_one_hot_transposed, matmul_macs
from edgeattn.layout import Layout
from edgeattn.system import files
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line

_ITEM_SIZES = {"FLOAT32": 4, "INT32": 4, "FLOAT16": 2, "INT16": 2, "INT64": 8, "FLOAT64": 8, "UINT32": 4}


class TfLite(Format):
    suffix = ".tflite"
    extra = "tflite"
    packages = ("litert_torch",)
    read_packages = ("ai_edge_litert",)
    layout: Layout = "channels_last"
    dynamic_batch = False
    # nearest: another pixel is taken where the factor is not a whole number (litert-torch 0.10).
    # conv_transpose2d: with most paddings. col2im: it is written as a scatter, which LiteRT does not run.
    lacks = frozenset(
        {"upsample_nearest2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "conv_transpose2d", "col2im"}
    )

    def convert(self, job: Job, path: Path) -> Details:
        """Write ``path``.

        Raises:
            ConversionError: litert-torch refuses the module; the message ends with its own.
        """
        try:
            with quiet():
                import litert_torch
                import torch

                from edgeattn.formats._edges import OTHER_INTEGERS, taken
                from edgeattn.formats._tflite_module import NamedSignature, with_dense_tensors

                module, inputs = taken(job.module, job.inputs, dict.fromkeys(OTHER_INTEGERS, torch.int32))
                wrapped = NamedSignature(with_dense_tensors(module), job.outputs).eval()
                litert_torch.convert(wrapped, (), inputs).export(str(path))
            path.write_bytes(finished(path.read_bytes(), job.metadata))
        except Exception as error:
            path.unlink(missing_ok=True)
            raise ConversionError(f"litert-torch refuses the module: {_reason(error)}") from error
        return Details(signature="serving_default")

    def read(self, path: Path) -> Graph:
        """The operators of any .tflite file, all subgraphs.

        Raises:
            ArtifactError: the file is cut, empty or no TFLite model.
        """
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        try:
            content = files.read(path, 2**31)
            if content[4:8] != b"TFL3":
                raise ValueError("it does not start as a TFLite file does")
            with quiet():
                # The interpreter verifies every offset of the file; the generated reader below does not.
                Interpreter(
                    model_content=content,
                    experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                )
            model = schema.ModelT.InitFromPackedBuf(content, 0)
            reader = _Reader(model, content)
            ops = tuple(reader.op(graph, op) for graph in model.subgraphs for op in graph.operators or [])
            main = model.subgraphs[0]
            return Graph(
                format="tflite",
                ops=ops,
                inputs=reader.edge(main, main.inputs, "inputs"),
                outputs=reader.edge(main, main.outputs, "outputs"),
                parameters=reader.parameters(),
                details={
                    "schema_version": model.version,
                    "description": _text(model.description),
                    "metadata": {_text(m.name): reader.text(m.buffer) for m in model.metadata or []},
                },
            )
        except Exception as error:
            raise ArtifactError(f"{path} is not a readable TFLite model: {first_line(error)}") from error


FORMAT: Format = TfLite()


def finished(content: bytes, metadata: dict[str, str]) -> bytes:
    """The same model with the metadata entries that it lacks, each in a buffer of its own, and with tensors named by
    modules alone: the packages of their classes are up to a third of a small quantised file."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    # Of a copy whose tensors may be of other types.
    model.metadata = [entry for entry in model.metadata or [] if _text(entry.name) != own.NAME]
    present = {_text(entry.name) for entry in model.metadata}
    entries = {name: text.encode() for name, text in metadata.items() if name not in present}
    about = _about(model, metadata)
    if about:
        entries[own.NAME] = own.buffer(about)
    for name, data in sorted(entries.items()):
        entry, buffer = schema.MetadataT(), schema.BufferT()
        entry.name, entry.buffer = name, len(model.buffers)
        buffer.data = np.frombuffer(data, np.uint8)
        model.metadata.append(entry)
        model.buffers.append(buffer)
    for graph in model.subgraphs:
        names = [re.sub(r"(\w+\.)+|NamedSignature/", "", _text(tensor.name)) for tensor in graph.tensors]
        if len(set(names)) == len(names):  # quantisers find tensors by name
            for tensor, name in zip(graph.tensors, names, strict=True):
                tensor.name = name.encode()
    finished = pack(model, len(content))
    return own.with_labels(finished, about.labels) if about and about.labels else finished


def _about(model: Any, metadata: dict[str, str]) -> own.About | None:
    """What TFLite's own metadata says of a model; None if nothing is known."""
    told, labels = metadata.get(PREPROCESSING), tuple(json.loads(metadata.get(LABELS, "[]")))
    if not told and not labels:
        return None
    reader, graph = _Reader(model, b""), model.subgraphs[0]
    # In the graph's order, which the metadata follows; that of the signature is another.
    inputs, outputs = ([reader.info(graph.tensors[i]) for i in side] for side in (graph.inputs, graph.outputs))
    preprocessing, channels = read(json.loads(told), "the model") if told else None, 0
    shape = inputs[0].shape
    # Its readers know no other order of channels, and no preprocessing of one input of several.
    if preprocessing and len(inputs) == 1 and len(shape) == 4 and shape[3] in (1, 3):
        is_bytes = inputs[0].dtype == "uint8" and inputs[0].scale is None
        channels = shape[3] if is_bytes or preprocessing.channels != "BGR" else 0
        preprocessing = None if is_bytes else preprocessing
    labelled = next((number for number, t in enumerate(outputs) if t.shape[-1:] == (len(labels),)), 0)
    taken, given = (tuple(t.name for t in side) for side in (inputs, outputs))
    return own.About(taken, given, channels, preprocessing, labels, labelled)


def with_all_outputs(content: bytes) -> tuple[bytes, dict[int, str]]:
    """The same model with every value of every op as an output, named value_ and its tensor's number in the signature;
    and the kind of op by tensor number."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    graph, ops = model.subgraphs[0], {}
    for op in graph.operators or []:
        ops.update(dict.fromkeys(map(int, op.outputs), builtin_kind(model.operatorCodes[op.opcodeIndex])))
    new = [i for i in ops if i not in graph.outputs]
    graph.outputs = np.array([*graph.outputs, *new], np.int32)
    for signature in model.signatureDefs or []:
        for number in new:
            value = schema.TensorMapT()
            value.name, value.tensorIndex = f"value_{number}", number
            signature.outputs.append(value)
    return pack(model, len(content)), ops


# ai_edge_litert.tools.flatbuffer_utils reads and writes models too, but does not align buffers to 16 bytes, as the
# schema requires, and renumbers them when it reads.
def unpack(content: bytes) -> Any:
    """The ``ModelT`` of a file; weights that are behind its flatbuffer are moved into it."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model: Any, size_bytes: int) -> bytes:
    """The file of a ``ModelT``, which is about ``size_bytes`` long."""
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]  # the package is not typed
        """Aligns buffers to 16 bytes, as the schema requires; the generated Python code does not."""

        def StartVector(self, size: int, number: int, alignment: int) -> int:  # noqa: N802  # flatbuffers' name
            return int(super().StartVector(size, number, max(alignment, 16 if size == 1 else 1)))

    builder = Builder(size_bytes + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _reason(error: BaseException) -> str:
    """The line with the error in a long compiler dump."""
    lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return lines[0][-300:] if lines else first_line(error)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


@cache
def _enum_names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def builtin_kind(code: Any) -> str:
    """The kind of an ``OperatorCodeT``, by the schema's own name; ``CUSTOM`` for every custom operator."""
    from ai_edge_litert import schema_py_generated as schema

    return _enum_names(schema.BuiltinOperator)[max(code.builtinCode, code.deprecatedBuiltinCode)]


class _Reader:
    """Looks tensors, types and constants of one model up."""

    def __init__(self, model: Any, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.model, self.content = model, content
        self.types = _enum_names(schema.TensorType)

    def info(self, tensor: Any) -> TensorInfo:
        kind = self.types[tensor.type]
        signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
        shape = tuple(None if n < 0 else int(n) for n in signature) if signature is not None else ()
        steps = tensor.quantization
        per_tensor = steps is not None and steps.scale is not None and len(steps.scale) == 1
        scale, zero_point = (float(steps.scale[0]), int(steps.zeroPoint[0])) if per_tensor else (None, None)
        return TensorInfo(_text(tensor.name), shape, kind.lower(), _ITEM_SIZES.get(kind, 1), scale, zero_point)

    def edge(self, graph: Any, indices: Any, side: str) -> tuple[TensorInfo, ...]:
        """Inputs or outputs, by the names of the signature where the file has one, in its order."""
        for signature in self.model.signatureDefs or []:
            entries = getattr(signature, side)
            return tuple(replace(self.info(graph.tensors[e.tensorIndex]), name=_text(e.name)) for e in entries)
        return tuple(self.info(graph.tensors[i]) for i in indices)

    def constant(self, tensor: Any) -> bytes | None:
        buffer = self.model.buffers[tensor.buffer]
        if buffer.data is not None and len(buffer.data):
            return bytes(bytearray(buffer.data))
        if buffer.offset > 1 and buffer.size:  # large models keep their weights behind the flatbuffer
            return self.content[buffer.offset : buffer.offset + buffer.size]
        return None

    def text(self, buffer: int) -> str:
        """A metadata entry, if it is text; else its size."""
        data = self.model.buffers[buffer].data
        content = b"" if data is None else bytes(bytearray(data))
        printable = content.rstrip(b"\0").decode(errors="replace")
        return printable if printable.isprintable() else f"{len(content)} bytes"

    def parameters(self) -> int:
        """Elements of all constant tensors that are no shapes or indices."""
        total = 0
        for graph in self.model.subgraphs:
            for tensor in graph.tensors:
                info = self.info(tensor)
                index_like = info.dtype in ("int32", "int64") and not (
                    tensor.quantization is not None and tensor.quantization.scale is not None
                )
                if not index_like and self.constant(tensor) is not None:
                    total += info.size_bytes // info.itemsize
        return total

    def op(self, graph: Any, op: Any) -> Op:
        code = self.model.operatorCodes[op.opcodeIndex]
        kind = builtin_kind(code)
        if kind == "CUSTOM":
            kind = _text(code.customCode)
        tensors = [graph.tensors[i] for i in op.inputs if i >= 0]
        inputs = tuple(self.info(t) for t in tensors)
        outputs = tuple(self.info(graph.tensors[i]) for i in op.outputs)
        return Op(
            kind=kind,
            name=outputs[0].name if outputs else "",
            inputs=inputs,
            outputs=outputs,
            macs=_macs(kind, op, inputs, outputs),
            constant_indices=len(tensors) > 1 and self.constant(tensors[1]) is not None,
            one_hot_kernel=self._one_hot(kind, op, tensors),
        )

    def _one_hot(self, kind: str, op: Any, tensors: list[Any]) -> bool:
        if kind not in ("CONV_2D", "TRANSPOSE_CONV", "DEPTHWISE_CONV_2D") or len(tensors) < 2:
            return False
        data, info = self.constant(tensors[1]), self.info(tensors[1])
        if data is None or info.dtype not in ("float32", "float16"):
            return False
        kernel: npt.NDArray[np.generic] = np.frombuffer(data, info.dtype).reshape([n or 1 for n in info.shape])
        if kind == "TRANSPOSE_CONV":  # [O, H, W, I]; a smaller stride adds neighbours up, a greater one adds zeros
            no_overlap = (op.builtinOptions.strideH, op.builtinOptions.strideW) == kernel.shape[1:3]
            return no_overlap and is_one_hot_transposed(kernel, input_axis=3)
        return is_one_hot(kernel, output_axis=3 if kind == "DEPTHWISE_CONV_2D" else 0)


def _macs(kind: str, op: Any, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> int | None:
    if len(inputs) < 2 or not outputs:
        return 0
    shape, first, second = outputs[0].shape, inputs[0].shape, inputs[1].shape
    if kind == "CONV_2D":
        return conv_macs(shape, second[1:])
    if kind == "DEPTHWISE_CONV_2D":
        return conv_macs(shape, second[1:3])
    if kind == "FULLY_CONNECTED":
        return matmul_macs(shape, second[-1])
    if kind == "BATCH_MATMUL":
        transposed = bool(op.builtinOptions.adjX)
        return matmul_macs(shape, first[-2 if transposed else -1])
    if kind == "TRANSPOSE_CONV":  # (output shape, kernel [O, H, W, I], input)
        return conv_macs(inputs[2].shape, (second[0], *second[1:3]))
    return 0
