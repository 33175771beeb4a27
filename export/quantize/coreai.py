"""Core AI in lower precisions, by Apple's coreai-opt: activations and fp16 on the module, weights on the program.

Everything that is not in few bits is in fp16, as on a phone's Neural Engine, but for norms and softmax.
"""

from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from torch import fx

from edgeattn.bundle.details import Details
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ConversionError
from edgeattn.export.quantize import FEW_ROWS, FLOAT32, Job, Quantizer
from edgeattn.formats import Job as Conversion
from edgeattn.formats.aimodel import asset
from edgeattn.formats.aimodel.edges import in_float32
from edgeattn.formats.aimodel.program import Array, Program, Step, constant, is_constant, type_of
from edgeattn.formats.coreai import converted, exported
from edgeattn.precision import FP16, INT8, INT8_DYNAMIC, PALETTE4, PALETTE6
from edgeattn.system.output import quiet

# The operators of ATen that stay in fp32, with the elementwise ones next to them: norms and softmax.
_STATISTICS = ("_softmax", "amax", "exp", "mean", "reciprocal", "rsqrt", "sqrt", "sum")
_ELEMENTWISE = ("add", "div", "mul", "pow", "sub")
# The operators of ATen whose activations coreai-opt takes, and those that they become.
_LAYERS = {"conv2d": "conv2d", "linear": "broadcasting_batch_matmul"}
# The products and their operands that may be weights; of so few values they stay as they are: a table of sixteen for
# each small one costs more than it saves (6 dB in place of 26 on the digits).
_PRODUCTS = {"batch_matmul": (0, 1), "broadcasting_batch_matmul": (0, 1), "conv2d": (1,)}
_FEW_VALUES, _FEW_FOR_A_TABLE = 255, 1024
_COMPILED = "it compiles its k-means, which needs g++: apt-get install -y g++"


class CoreAiQuantizer(Quantizer):
    extra = "coreai"
    packages = ("coreai_opt", "sklearn")
    precisions = (FP16, INT8, INT8_DYNAMIC, PALETTE6, PALETTE4)
    rest = FP16
    needs_module = True

    def make(self, job: Job) -> Details:
        """Write the asset ``job.path``.

        Raises:
            ConversionError: coreai-opt refuses the module.
        """
        if job.conversion is None:
            raise ConversionError("coreai-opt begins at the module, and only its file is known here")
        try:
            with quiet():
                conversion, static, few = job.conversion(), 0, 0
                if job.precision == INT8:
                    layers = _layers(conversion)
                    kept = _kept_layers(layers, asset.load(job.source), job.keep)
                    rows = [layer.rows for layer in layers if layer.name not in kept]
                    static, few = sum(n >= FEW_ROWS for n in rows), sum(n < FEW_ROWS for n in rows)
                    conversion = _static(conversion, job.calibration, layers, kept)
                program, in_fp32 = _fp16(conversion)
                if job.precision not in (FP16, INT8):
                    program = _compressed(program, job)
                if job.edge_type == FLOAT32:
                    in_float32(program)
                asset.save(program, job.path, job.metadata)
        except Exception as error:
            asset.remove(job.path)
            raise ConversionError(f"coreai-opt refuses the module: {asset.reason(error)}") from error
        weights = f"{job.precision.bits} bit palettes" if job.precision.is_palette else "int8 per channel"
        return Details(
            static_ops=static if job.precision == INT8 else None,
            kept_in_fp32=tuple(sorted(in_fp32)),
            kept_ops=sum(in_fp32.values()),
            edges=FLOAT32 if job.edge_type == FLOAT32 else "float16",
            weights=None if job.precision == FP16 else weights,
            float_activations=few if job.precision == INT8 else None,
        )

    def candidates(self, path: Path) -> list[tuple[str, str]]:
        """(kind, output) of the operators that int8 takes, in the order of the program."""
        return [(step.kind, step.name) for step in _taken(asset.load(path)) if _rows(step) >= FEW_ROWS]


QUANTIZER: Quantizer = CoreAiQuantizer()


def _fp16(conversion: Conversion) -> tuple[Program, Counter[str]]:
    """The program in fp16, its edges too, and the operators that stay in fp32, by their kinds."""
    from coreai_opt.casting import cast_fp32_to_fp16

    program, inputs = exported(conversion)
    kept = {node for node in program.graph.nodes if _is_norm(node)}
    kinds = Counter(map(_kind, kept))
    program = cast_fp32_to_fp16(program, ignored_ops=kept.__contains__)
    return converted(program, inputs, conversion.outputs), kinds


def _kind(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet.__name__) if packet is not None else ""


def _is_norm(node: fx.Node) -> bool:
    """Whether an operator is part of a norm or a softmax: a statistic, or an elementwise operator next to one."""
    if _kind(node) in _STATISTICS:
        return True
    return _kind(node) in _ELEMENTWISE and any(
        _kind(other) in _STATISTICS for other in (*node.all_input_nodes, *node.users)
    )


@dataclass(frozen=True)
class _Layer:
    """A convolution or a linear layer, by its name in the exported module: its kind in Core AI, and the columns or rows
    of its output."""

    name: str
    kind: str
    rows: int


def _layers(conversion: Conversion) -> tuple[_Layer, ...]:
    """In the order in which they run."""
    import torch

    program = torch.export.export(conversion.module, tuple(conversion.traced_inputs().values()))
    found = []
    for node in program.graph.nodes:
        if kind := _LAYERS.get(_kind(node)):
            shape = node.meta["val"].shape
            found.append(_Layer(node.name, kind, prod(shape[2:] if kind == "conv2d" else shape[:-1])))
    return tuple(found)


def _kept_layers(layers: tuple[_Layer, ...], program: Program, names: tuple[str, ...]) -> frozenset[str]:
    """The names of the layers that become these operators of the fp32 program."""
    steps = _taken(program)
    if names and [step.kind for step in steps] != [layer.kind for layer in layers]:
        raise ValueError("its operators are not one for each layer, so that none can be kept by its name")
    return frozenset(layer.name for layer, step in zip(layers, steps, strict=False) if step.name in names)


def _taken(program: Program) -> list[Step]:
    """The operators that convolutions and linear layers become."""
    kinds = _LAYERS.values()
    return [step for step in program.steps() if step.kind in kinds and is_constant(step.op.operands[1])]


def _rows(step: Step) -> int:
    """The columns in the output [B, C, ...] of a convolution, or the rows in a linear layer's [..., C]."""
    shape = type_of(step.op.results[0].type).shape
    return prod(n or 1 for n in (shape[2:] if step.kind == "conv2d" else shape[:-1]))


def _static(
    conversion: Conversion, calibration: tuple[Arrays, ...], layers: tuple[_Layer, ...], kept: frozenset[str]
) -> Conversion:
    """The module with convolutions and linear layers in eight bits, by the ranges over the calibration set."""
    import torch
    from coreai_opt.quantization import ModuleQuantizerConfig, QuantizationSpec, Quantizer, QuantizerConfig
    from coreai_opt.quantization.config import OpQuantizerConfig

    # The whole range, as our other quantisers take it; a moving average cuts what the last example does not have.
    observed = QuantizationSpec(dtype=torch.int8, qscheme="asymmetric", qparam_calculator_cls="global_minmax")
    both = OpQuantizerConfig(op_input_spec={"*": observed}, op_output_spec=None)
    weights = OpQuantizerConfig(op_input_spec=None, op_output_spec=None)
    # By the operator: a lowered module has kept the user's own module paths, and several operators may share one.
    names = {layer.name: both if layer.rows >= FEW_ROWS else weights for layer in layers if layer.name not in kept}
    others = ModuleQuantizerConfig(op_input_spec=None, op_output_spec=None, op_state_spec=None, op_name_config=names)
    quantizer = Quantizer(conversion.module, QuantizerConfig(global_config=others))
    prepared = quantizer.prepare(tuple(conversion.traced_inputs().values()))
    with quantizer.calibration_mode(), torch.no_grad():
        for inputs in calibration:
            prepared(*(torch.tensor(inputs[name]).to(x.dtype) for name, x in conversion.inputs.items()))
    module = quantizer.finalize()
    made = sum("constexpr_blockwise_shift_scale" in str(node.target) for node in module.graph.nodes)
    if made != len(names):
        raise ValueError(f"it made int8 of {made} of {len(names)} layers")
    return replace(conversion, module=module)


def _compressed(program: Program, job: Job) -> Program:
    """Each large weight in eight bits per channel, or as indices into a table by k-means."""
    from coreai_opt.coreai_utils import DType, palettize_weights, quantize_weights

    program.normalise()
    names = [step.name for step in _products(asset.load(job.source))]
    kept = {number for number, name in enumerate(names) if name in job.keep}
    few = _FEW_FOR_A_TABLE if job.precision.is_palette else _FEW_VALUES
    before = _weights(program, few)
    if job.precision.is_palette:
        made = palettize_weights(
            program.vendors,
            lut_dtype=None,
            n_bits=job.precision.bits,
            weight_num_threshold=few,
            # One process, and all digits.
            num_kmeans_workers=1,
            enable_fast_kmeans_mode=False,
        )
    else:
        made = quantize_weights(program.vendors, DType.INT8, weight_num_threshold=few)
    result = Program(made)
    # What it fails at it leaves as it is, with a line in its log.
    if left := _weights(result, few):
        raise ValueError(f"it left {len(left)} of {len(before)} weights as they were; {_COMPILED}")
    steps = _products(result)
    for (number, operand), value in before.items():
        if number in kept:
            result.put(steps[number].op, operand, value)
    return result


def _products(program: Program) -> list[Step]:
    return [step for step in program.steps() if step.kind in _PRODUCTS]


def _weights(program: Program, few: int) -> dict[tuple[int, int], Array]:
    """The weights of more than ``few`` values that coreai-opt takes, those that products alone read: by the number of
    the product, and of its operand."""
    found = {}
    for number, step in enumerate(_products(program)):
        for operand in _PRODUCTS[step.kind]:
            value = step.op.operands[operand]
            kind = type_of(value.type)
            if is_constant(value) and "float" in kind.dtype and prod(n or 1 for n in kind.shape) > few:
                users = {program.kind(use.owner) for use in value.uses}
                if users <= _PRODUCTS.keys():
                    found[number, operand] = constant(value.owner).copy()
    return found
