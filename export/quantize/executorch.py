"""ExecuTorch in lower precisions: fp16 by its own types, eight bits by its XNNPACK quantiser (PT2E, in torchao)."""

import copy
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeattn.bundle.details import Details
from edgeattn.errors import ConversionError
from edgeattn.export.quantize import FEW_ROWS, FLOAT32, OWN, Job, Quantizer
from edgeattn.export.quantize._ranges import Ranges
from edgeattn.export.quantize._silu import Step, read_by_silu_alone
from edgeattn.formats import Job as Conversion
from edgeattn.formats.executorch import FORMAT, compiled, edge_names, with_known_types
from edgeattn.formats.graph import Op
from edgeattn.lowering.capture import with_dtype
from edgeattn.precision import FP16, FP32, INT8, INT8_DYNAMIC
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line, innermost

# In a file, and in a graph of ATen.
_PRODUCTS = ("Conv2d", "DepthwiseConv2d", "FullyConnected")
_CONV, _LINEAR = torch.ops.aten.conv2d.default, torch.ops.aten.linear.default
_RELU = torch.ops.aten.relu.default
# Of int8: nothing smaller matters, and it is no zero that all are divided by.
_SMALLEST_STEP = 2.0**-40


class ExecuTorchQuantizer(Quantizer):
    extra = "executorch"
    packages = ("executorch", "torchao")
    precisions = (FP16, INT8, INT8_DYNAMIC)
    rest = FP32
    needs_module = True
    adds_in_fp16 = True  # XNNPACK

    def make(self, job: Job) -> Details:
        """Write ``job.path``.

        Raises:
            ConversionError: ExecuTorch refuses the module in this precision.
        """
        if job.conversion is None:
            raise ConversionError(f"ExecuTorch's quantiser begins at the module, and {job.source.name} is a file alone")
        conversion = job.conversion()
        try:
            with quiet():
                program, details = (_half if job.precision == FP16 else _eight_bits)(job, conversion)
                names = edge_names(conversion.inputs, conversion.outputs)
                content = compiled(program, {**names, **job.metadata})
            job.path.write_bytes(content)
        except Exception as error:
            raise ConversionError(
                f"ExecuTorch refuses {job.source.name} in {job.precision.name}: {first_line(innermost(error))}"
            ) from error
        return details

    def candidates(self, path: Path) -> list[tuple[str, str]]:
        """(kind, output) of the operators that int8 takes, in the order of the graph."""
        return [(op.kind, op.name) for op in FORMAT.read(path).ops if op.kind in _PRODUCTS and _is_much(op)]


QUANTIZER: Quantizer = ExecuTorchQuantizer()


class _InHalf(nn.Module):
    """A module in fp16 whose inputs and outputs are float32, or fp16 too."""

    def __init__(self, inner: nn.Module, *, own_edges: bool) -> None:
        super().__init__()
        # A graph names its types: pixels in bytes become float32 by name.
        self.inner = with_dtype(inner, torch.float16) if isinstance(inner, fx.GraphModule) else inner.half()
        self.own_edges = own_edges

    def forward(self, *inputs: Tensor) -> Any:
        """What the module gives."""
        result = self.inner(*(x.half() if x.is_floating_point() else x for x in inputs))
        outputs = result if isinstance(result, tuple) else (result,)
        if not self.own_edges:
            outputs = tuple(y.float() if y.is_floating_point() else y for y in outputs)
        return outputs if isinstance(result, tuple) else outputs[0]


def _half(job: Job, conversion: Conversion) -> tuple[Any, Details]:
    own = job.edge_type == OWN
    whole, inputs = with_known_types(conversion)
    module = _InHalf(copy.deepcopy(whole), own_edges=own).eval()
    inputs = tuple(x.half() if own and x.is_floating_point() else x for x in inputs)
    return torch.export.export(module, inputs), Details(edges="float16" if own else FLOAT32)


def _eight_bits(job: Job, conversion: Conversion) -> tuple[Any, Details]:
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as vendor
    from torchao.quantization.pt2e import allow_exported_model_train_eval, quantize_pt2e

    is_dynamic = job.precision == INT8_DYNAMIC
    module, inputs = with_known_types(conversion)
    graph: Any = torch.export.export(module, inputs).module()
    products = [node for node in graph.graph.nodes if node.target in (_CONV, _LINEAR)]
    taken = [node for node, is_kept in zip(products, _kept(job, len(products)), strict=True) if not is_kept]
    taken = [node for node in taken if _rows(node) >= FEW_ROWS and node.meta["val"].shape[_channels(node)] > 1]
    if is_dynamic:
        taken = [node for node in taken if not _is_depthwise(node)]
    # The quantiser takes a product together with the ReLU behind it, or not at all.
    rectified = [user for node in taken for user in node.users if user.target == _RELU]
    names = {node.name for node in (*taken, *rectified)}
    quantizer = vendor.XNNPACKQuantizer()
    config = vendor.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=is_dynamic)
    for kind in (torch.ops.aten.conv2d, torch.ops.aten.linear):
        quantizer.set_operator_type(kind.default, config)
    quantizer.set_filter_function(lambda node: node.op == "get_attr" or node.name in names)
    prepared = quantize_pt2e.prepare_pt2e(graph, quantizer)
    _let_steps_be_small(prepared)
    allow_exported_model_train_eval(prepared)
    with torch.no_grad():
        if is_dynamic:
            prepared(*inputs)
        else:
            _calibrate(prepared, job, conversion)
    converted = quantize_pt2e.convert_pt2e(prepared)
    details = Details(
        static_ops=0 if is_dynamic else len(taken),
        dynamic_ops=len(taken) if is_dynamic else 0,
        float_activations=len(products) - len(taken),
        edges=FLOAT32,
    )
    return torch.export.export(converted, inputs), details


def _kept(job: Job, number: int) -> list[bool]:
    """Whether each product stays in float by its name, which is that of the file."""
    ops = [op for op in FORMAT.read(job.source).ops if op.kind in _PRODUCTS] if job.keep else []
    if job.keep and len(ops) != number:
        raise ValueError(f"its file has {len(ops)} products and not {number}, so that none can be kept by its name")
    return [op.name in job.keep for op in ops] or [False] * number


def _calibrate(prepared: Any, job: Job, conversion: Conversion) -> None:
    """The ranges of :mod:`edgeattn.export.quantize._ranges` for the observers of activations."""
    silus = _read_by_silu_alone(prepared)
    observers = {  # but for those of weights
        node.target: node.name in silus
        for node in prepared.graph.nodes
        if node.op == "call_module" and node.args[0].op != "get_attr"
    }
    ranges = Ranges(len(job.calibration), {name for name, is_silus in observers.items() if is_silus})
    handles = [prepared.get_submodule(name).register_forward_hook(partial(_add, ranges, name)) for name in observers]
    for example in job.calibration:
        # Copied into a tensor that lies in memory as the example does.
        prepared(*(torch.empty_like(x).copy_(torch.from_numpy(example[n])) for n, x in conversion.inputs.items()))
    for handle in handles:
        handle.remove()
    for name, (low, high) in ranges.result().items():
        _settle(prepared, name, low, high)


def _let_steps_be_small(prepared: Any) -> None:
    """The vendor's steps of weights are 2^-12 at least: too much where a factor such as 1/255 of pixels is in them."""
    for node in prepared.graph.nodes:
        if node.op == "call_module" and node.args[0].op == "get_attr":
            prepared.get_submodule(node.target).eps.fill_(_SMALLEST_STEP)


def _add(ranges: Ranges, name: str, _module: nn.Module, inputs: tuple[Tensor, ...], _output: Any) -> None:
    ranges.add(name, inputs[0].detach().numpy())


def _settle(prepared: Any, name: str, low: float, high: float) -> None:
    """Replace an observer by one that has seen just these two values."""
    from torchao.quantization.pt2e import MinMaxObserver

    old = prepared.get_submodule(name)
    new = MinMaxObserver(
        dtype=old.dtype, qscheme=old.qscheme, quant_min=old.quant_min, quant_max=old.quant_max, eps=_SMALLEST_STEP
    )
    new(torch.tensor([low, high]))
    parent, _, last = name.rpartition(".")
    setattr(prepared.get_submodule(parent), last, new)


def _read_by_silu_alone(prepared: Any) -> set[str]:
    """The names of the nodes that only a SiLU reads."""
    nodes = list(prepared.graph.nodes)
    steps = [
        Step(getattr(node.target, "_opname", node.op), tuple(x.name for x in node.all_input_nodes), node.name)
        for node in nodes
        if node.op in ("call_function", "call_module")
    ]
    (output,) = (node for node in nodes if node.op == "output")
    return read_by_silu_alone(steps, {node.name for node in output.all_input_nodes})


def _rows(node: fx.Node) -> int:
    """The number of columns in the output [B, C, ...] of a convolution, or of rows in a linear layer's [..., C]."""
    shape = node.meta["val"].shape
    return int(prod(shape) // max(1, shape[_channels(node)]))


def _channels(node: fx.Node) -> int:
    return 1 if node.target is _CONV else -1


def _is_depthwise(node: fx.Node) -> bool:
    return node.target is _CONV and len(node.args) > 6 and bool(node.args[6] != 1)


def _is_much(op: Op) -> bool:
    """Whether an operator of a file has many rows, and more than one channel."""
    shape = op.outputs[0].shape
    return prod(n or 1 for n in shape[:-1]) >= FEW_ROWS and shape[-1] != 1
