"""ExecuTorch's .pte, through its own exporter, for its XNNPACK backend: whole maps, channels-last in memory."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.bundle.details import Details
from edgeattn.errors import ArtifactError, ConversionError
from edgeattn.formats import Format, Job
from edgeattn.formats import _pte as pte
from edgeattn.formats._pte_order import arrange
from edgeattn.formats.graph import Graph, Op, TensorInfo, conv_macs, is_one_hot, matmul_macs
from edgeattn.layout import Layout
from edgeattn.system import files
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line, innermost

# A .pte knows its inputs and outputs by their place; methods that give constants are ExecuTorch's way of metadata.
INPUT_NAMES, OUTPUT_NAMES = "input_names", "output_names"
# ATen's operators that only move or copy, as formats.graph knows them; XNNPACK's are below.
_MOVES = {
    "permute_copy": "Transpose", "transpose_copy": "Transpose", "t_copy": "Transpose",
    "_to_dim_order_copy": "Transpose", "as_strided_copy": "Gather",
    "index": "Gather", "index_select": "Gather", "pixel_shuffle": "PixelShuffle",
    "pixel_unshuffle": "PixelUnshuffle", "im2col": "Im2Col", "col2im": "Col2Im", "cat": "Concat", "stack": "Stack",
    "slice_copy": "Slice", "select_copy": "Slice", "split_copy": "Split", "split_with_sizes_copy": "Split",
    "expand_copy": "Expand", "repeat": "Tile", "constant_pad_nd": "Pad", "unbind_copy": "Split",
}  # fmt: skip
_XNNPACK = {"StaticTranspose": "Transpose", "StaticSlice": "Slice", "StaticConstantPad": "Pad", "Concatenate": "Concat"}
_SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int16": 2, "int32": 4, "int64": 8}
_XNNPACK_TYPES = {
    "fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "qint8": "int8", "quint8": "uint8", "qcint8": "int8",
    "qdint8": "int8", "qpint8": "int8", "qint32": "int32", "qcint32": "int32", "int32": "int32", "pfp32": "float32",
}  # fmt: skip


class ExecuTorch(Format):
    suffix = ".pte"
    extra = "executorch"
    packages = ("executorch",)
    read_packages = ("executorch",)
    layout: Layout = "channels_last_memory"
    picture_layout: Layout = "channels_last_memory"
    dynamic_batch = False
    # What is not among ATen's core operators, or has no portable kernel; col2im becomes a padding by less than nothing.
    lacks = frozenset({"_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "upsample_bicubic2d", "col2im"})

    def convert(self, job: Job, path: Path) -> Details:
        """Write ``path``.

        Raises:
            ConversionError: ExecuTorch's exporter refuses the module; the message ends with its own.
        """
        try:
            with quiet():
                import torch

                module, inputs = with_known_types(job)
                program = torch.export.export(module, inputs)
                content = compiled(program, {**edge_names(job.inputs, job.outputs), **job.metadata})
            path.write_bytes(content)
        except Exception as error:
            path.unlink(missing_ok=True)
            raise ConversionError(f"ExecuTorch refuses the module: {first_line(innermost(error))}") from error
        return Details()

    def read(self, path: Path) -> Graph:
        """The operators of any .pte file: those of its XNNPACK delegates, and those beside them.

        Raises:
            ArtifactError: the file is cut, empty or no ExecuTorch program.
        """
        try:
            content = files.read(path, 2**31)
            with quiet():
                parts = pte.unpack(content)
            return _Reader(parts).graph()
        except Exception as error:
            raise ArtifactError(f"{path} is not a readable ExecuTorch program: {first_line(error)}") from error


FORMAT: Format = ExecuTorch()


def with_known_types(job: Job) -> tuple[Any, tuple[Any, ...]]:
    """The module and its inputs, with integers that no kernel of ExecuTorch's takes as int32."""
    import torch

    from edgeattn.formats._edges import OTHER_INTEGERS, taken

    module, inputs = taken(job.module, job.inputs, dict.fromkeys(OTHER_INTEGERS, torch.int32))
    return module, tuple(inputs.values())


def edge_names(inputs: Any, outputs: Any) -> dict[str, list[str]]:
    """The methods that give the names of inputs and outputs."""
    return {INPUT_NAMES: list(inputs), OUTPUT_NAMES: list(outputs)}


def compiled(program: Any, metadata: dict[str, Any]) -> bytes:
    """The file of an ``ExportedProgram``, with all that XNNPACK takes given to it, and with constants by name."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, EdgeProgramManager, to_edge_transform_and_lower

    # Its check refuses operators that take two types, which its portable kernels run.
    config = EdgeCompileConfig(_check_ir_validity=False)
    with _rejections() as why:
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], compile_config=config)
    if left := _left(lowered.exported_program().graph, why):
        metadata = {**metadata, pte.LEFT: json.dumps(left)}
        arrange(lowered.exported_program().graph_module)
    named = EdgeProgramManager(lowered.exported_program(), metadata, config)
    return pte.settled(bytes(named.to_executorch().buffer))


@contextmanager
def _rejections() -> Iterator[dict[str, str]]:
    """Why XNNPACK's partitioner leaves nodes out, by their names, as it logs it."""
    why: dict[str, str] = {}
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: why.update({str(getattr(record.msg, "node", "")): getattr(record.msg, "reason", "")})  # type: ignore[method-assign]
    logger, disabled = logging.getLogger("executorch.backends.xnnpack.partition.config"), logging.root.manager.disable
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logging.disable(logging.NOTSET)
    try:
        yield why
    finally:
        logging.disable(disabled)
        logger.propagate = propagates
        logger.setLevel(level)
        logger.removeHandler(handler)


def _left(graph: Any, why: dict[str, str]) -> list[tuple[str, str, str]]:
    """The operators beside the delegates in order: name, reason, and the path of the module that they come from."""
    left = []
    for node in graph.nodes:
        name = getattr(getattr(node.target, "_op", None), "_schema", None)
        if node.op != "call_function" or name is None:
            continue
        stack = node.meta.get("nn_module_stack") or {"": ("", "")}
        path = str(list(stack.values())[-1][0])
        left.append((name.name.rpartition("::")[2], why.get(node.name, "XNNPACK has no such operator"), path))
    return left


@dataclass(frozen=True)
class _Reader:
    """The operators of a file, in the order in which they run."""

    parts: pte.Pte

    def graph(self) -> Graph:
        from executorch.exir.schema import DelegateCall, KernelCall

        plan, ops = self.parts.plan, []
        for chain in plan.chains:
            for instruction in chain.instructions:
                call = instruction.instr_args
                if isinstance(call, KernelCall):
                    ops.append(self._kernel(plan.operators[call.op_index], call.args))
                elif isinstance(call, DelegateCall):
                    ops += self._delegate(call.delegate_index)
        metadata = {
            p.name: self.parts.constants(p.name)
            for p in self.parts.file.program.execution_plan
            if p is not plan and p.name not in (INPUT_NAMES, OUTPUT_NAMES, pte.LEFT)
        }
        return Graph(
            format="executorch",
            ops=tuple(ops),
            inputs=self._edges(plan.inputs, "input", INPUT_NAMES),
            outputs=self._edges(plan.outputs, "output", OUTPUT_NAMES),
            parameters=self._parameters(),
            details={
                "delegates": [delegate.id for delegate in plan.delegates],
                "metadata": {k: v[0] if len(v) == 1 else v for k, v in metadata.items()},
            },
        )

    def _edges(self, indices: list[int], side: str, method: str) -> tuple[TensorInfo, ...]:
        names = self.parts.constants(method)
        if len(names) != len(indices):
            names = [f"{side}_{k}" for k in range(len(indices))]
        return tuple(self._info(i, str(name)) for i, name in zip(indices, names, strict=True))

    def _info(self, index: int, name: str = "") -> TensorInfo:
        """A value of the program; one that is no tensor has no axes."""
        value = self.parts.plan.values[index].val
        if not hasattr(value, "sizes"):
            return TensorInfo(name or str(index), (), "int64", 8)
        dtype = {"float": "float32", "half": "float16", "double": "float64", "byte": "uint8", "char": "int8",
                 "short": "int16", "int": "int32", "long": "int64"}  # fmt: skip
        kind = dtype.get(value.scalar_type.name.lower(), value.scalar_type.name.lower())
        return TensorInfo(name or str(index), tuple(value.sizes), kind, _SIZES.get(kind, 1))

    def _kernel(self, operator: Any, args: list[int]) -> Op:
        """One of ATen's operators; its last argument is its output."""
        name = operator.name.rpartition("::")[2]
        values = [self.parts.plan.values[i].val for i in args]
        tensors = [i for i, value in zip(args, values, strict=True) if hasattr(value, "sizes")]
        outputs = tuple(map(self._info, tensors[-1:]))
        inputs = tuple(map(self._info, tensors[:-1]))
        macs: int | None = 0
        if outputs and len(inputs) > 1:
            if name == "convolution":
                macs = conv_macs(outputs[0].shape, inputs[1].shape[1:])
            elif name in ("mm", "bmm", "linear"):
                macs = matmul_macs(outputs[0].shape, inputs[0].shape[-1])
            elif name == "addmm":
                macs = matmul_macs(outputs[0].shape, inputs[1].shape[-1])
        kind = _MOVES.get(name, name)
        if name == "_to_dim_order_copy" and values[0].dim_order == values[-1].dim_order:
            kind = "Cast"
        constant = kind == "Gather" and all(getattr(v, "data_buffer_idx", 1) for v in values[1:2])
        return Op(kind, f"{name}:{args[-1]}", inputs, outputs, macs, constant_indices=constant)

    def _delegate(self, number: int) -> list[Op]:
        graph = self.parts.graphs[number]
        if graph is None:
            return [Op(self.parts.plan.delegates[number].id, f"delegate {number}")]
        values = {pte.tensor(v)["id_out"]: v for v in graph["xvalues"]}
        return [self._node(number, graph, values, node) for node in graph["xnodes"]]

    def _node(self, number: int, graph: dict[str, Any], values: dict[int, Any], node: dict[str, Any]) -> Op:
        union = node["xnode_union"]
        kind = re.sub(r"^XNN|(?<=Concatenate)\d$", "", node["xnode_union_type"])
        kind = _XNNPACK.get(kind, kind)
        ids = [v for k, v in union.items() if k in _INPUTS and v in values]
        inputs = tuple(_value(values[i]) for i in ids)
        outputs = tuple(_value(values[v]) for k, v in union.items() if k.startswith("output") and v in values)
        if kind == "Transpose" and not _moves(inputs[0].shape, union["perm"]):
            kind = "StaticReshape"
        one_hot = False
        if kind in ("Conv2d", "DepthwiseConv2d") and inputs[1].dtype == "float32":
            data = self.parts.data(graph, pte.tensor(values[union["filter_id"]])["constant_buffer_idx"])
            if data is not None:
                kernel = np.frombuffer(data, np.float32).reshape([n or 1 for n in inputs[1].shape])
                # A single weight scales a map, also by 1.
                one_hot = kernel.size > kernel.shape[0] and is_one_hot(
                    kernel, output_axis=3 if kind == "DepthwiseConv2d" else 0
                )
        name = f"{number}:{outputs[0].name}" if outputs else f"{number}:"
        return Op(kind, name, inputs, outputs, _macs(kind, inputs, outputs), one_hot_kernel=one_hot)

    def _parameters(self) -> int:
        plan = self.parts.plan
        own = {v.val.data_buffer_idx: prod(v.val.sizes) for v in plan.values if getattr(v.val, "data_buffer_idx", 0)}
        shared: dict[str, int] = {}
        graph: dict[str, Any]
        for graph in filter(None, self.parts.graphs):
            for value in map(pte.tensor, graph["xvalues"]):
                if index := value["constant_buffer_idx"]:
                    place = graph["constant_data"][index]
                    shared[place["named_key"] or f"{id(graph)}:{index}"] = prod(value["dims"])
        return int(sum(own.values()) + sum(shared.values()))


# The fields of XNNPACK's nodes that are inputs, in their order.
_INPUTS = (
    *("input_id", "input1_id", "input2_id", "input3_id", "input4_id", "input5_id", "query_id", "key_id", "value_id"),
    *("scale_id", "mask_id", "filter_id", "bias_id"),
)


def _value(value: dict[str, Any]) -> TensorInfo:
    inner = pte.tensor(value)
    dtype = inner["datatype"].removeprefix("xnn_datatype_")
    kind = _XNNPACK_TYPES.get(dtype, dtype)
    steps = value["xvalue_union"].get("quant_params") or {}
    scale = steps.get("scale") if isinstance(steps.get("scale"), float) else None
    zero_point = steps.get("zero_point") if scale is not None else None
    return TensorInfo(str(inner["id_out"]), tuple(inner["dims"]), kind, _SIZES.get(kind, 1), scale, zero_point)


def _moves(shape: tuple[int | None, ...], order: list[int]) -> bool:
    """Whether a permutation changes the order of the axes that are longer than 1."""
    long = [i for i in order if shape[i] != 1]
    return long != sorted(long)


def _macs(kind: str, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> int | None:
    if len(inputs) < 2 or not outputs:
        return 0
    shape, second = outputs[0].shape, inputs[1].shape
    if kind == "Conv2d":
        return conv_macs(shape, second[1:])
    if kind == "DepthwiseConv2d":
        return conv_macs(shape, second[1:3])
    if kind == "ConvTranspose2d":
        return conv_macs(inputs[0].shape, (second[0], *second[1:3]))
    if kind == "FullyConnected":
        return matmul_macs(shape, second[-1])
    if kind == "BatchMatrixMultiply":
        return matmul_macs(shape, inputs[0].shape[-1])
    return 0
