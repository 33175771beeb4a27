"""Core AI, the successor of Core ML, through Apple's coreai-torch, channels-first: an .aimodel is a folder."""

from pathlib import Path
from typing import Any

from edgeattn.bundle.details import Details
from edgeattn.errors import ArtifactError, ConversionError
from edgeattn.formats import Format, Job
from edgeattn.formats.aimodel import asset
from edgeattn.formats.aimodel.program import Program, Step, Type, constant, is_constant, type_of
from edgeattn.formats.graph import Graph, Op, TensorInfo, conv_macs, is_one_hot, matmul_macs
from edgeattn.layout import Layout
from edgeattn.system.output import quiet

# The first with Core AI, as macOS 27 is.
DEPLOYMENT_TARGET = "iOS27"
_INDEXED = ("gather_nd", "gather_along_axis", "scatter_nd", "scatter_along_axis")
# Weights that are stored in another form than the one that is computed with.
_DECOMPRESSING = ("blockwise_shift_scale", "dequantize", "lut_to_dense", "sparse_with_bitmask_to_dense")


class CoreAi(Format):
    suffix = ".aimodel"
    extra = "coreai"
    packages = ("coreai_torch", "coreai")
    read_packages = ("coreai",)
    layout: Layout = "channels_first"
    dynamic_batch = True
    # The antialiased ones and overlapping folds are refused; bicubic is written as sixteen gathers, and nearest-exact
    # as one.
    lacks = frozenset(
        {
            "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_nearest_exact2d", "col2im",
            "upsample_bicubic2d",
        }
    )  # fmt: skip

    def convert(self, job: Job, path: Path) -> Details:
        """Write the asset ``path``; the same module gives the same bytes.

        Raises:
            ConversionError: torch.export or coreai-torch refuses the module.
        """
        try:
            with quiet():
                program, inputs = exported(job)
                asset.save(converted(program, inputs, job.outputs), path, job.metadata)
        except Exception as error:
            asset.remove(path)
            raise ConversionError(f"coreai-torch refuses the module: {asset.reason(error)}") from error
        return Details(deployment_target=DEPLOYMENT_TARGET)

    def read(self, path: Path) -> Graph:
        """The operators of any .aimodel, those inside composites too, with the program's hash checked.

        Raises:
            ArtifactError: a file is missing or cut, or Apple's reader refuses the program.
        """
        try:
            program = asset.load(path)
            inputs, outputs = program.edges()
            steps = list(program.inside())
            constants = [type_of(step.op.results[0].type) for step in steps if step.kind == "constant"]
            # A number of no dimension is an epsilon, or what a pad is filled with.
            floats = [kind for kind in constants if "float" in kind.dtype and kind.shape]
            return Graph(
                format="coreai",
                ops=tuple(_op(step) for step in steps if step.kind != "constant"),
                inputs=tuple(_info(name, kind) for name, kind in inputs),
                outputs=tuple(_info(name, kind) for name, kind in outputs),
                parameters=sum(_info("", kind).size_bytes // kind.itemsize for kind in floats),
                details={
                    **_summary(path),
                    "functions": sorted(program.graphs),
                    "compressed": sorted({step.kind for step in steps if step.kind in _DECOMPRESSING}),
                    "metadata": asset.own_metadata(path),
                },
            )
        except Exception as error:
            raise ArtifactError(f"{path} is not a readable Core AI asset: {asset.reason(error)}") from error


FORMAT: Format = CoreAi()


def exported(job: Job) -> tuple[Any, tuple[str, ...]]:
    """The module as a program of torch.export in the operators that coreai-torch has, and the names of its inputs."""
    import torch
    from coreai_torch import get_decomp_table

    from edgeattn.formats._edges import Apart, passed, taken

    # It computes in 32 bits at most, and says so of its edges.
    inner, inputs = taken(job.module, job.traced_inputs(), {torch.int64: torch.int32, torch.float64: torch.float32})
    shapes = tuple({0: torch.export.Dim("batch", min=1)} for _ in inputs) if job.dynamic_batch else None

    def program_of(module: torch.nn.Module) -> Any:
        program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=shapes)
        return program.run_decompositions(get_decomp_table())

    program = program_of(inner)
    # It keeps one name of each value.
    if numbers := passed(program) | _repeated(program):
        program = program_of(Apart(inner, numbers))
    return program, tuple(inputs)


def converted(program: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Program:
    """A program of torch.export in Core AI's own operators, by coreai-torch."""
    from coreai_torch import TorchConverter

    # Its other mode writes the stack, with the paths of this machine, into the file.
    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
    converter.add_exported_program(program, input_names=list(inputs), output_names=list(outputs))
    return Program(converter.to_coreai())


def _repeated(program: Any) -> frozenset[int]:
    """The numbers of a program's outputs that are an output before."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    values = list(output.args[0])
    return frozenset(number for number, value in enumerate(values) if value in values[:number])


def _summary(path: Path) -> dict[str, object]:
    """What the asset says of itself: Apple's own summary."""
    from coreai.authoring import AIModelAsset

    summary = AIModelAsset.load(path).summary(include_statistics=True)
    if summary is None:
        return {}
    return {
        "compatibility_version": summary._compatibility_version,
        "storage_types": dict(sorted(summary.storage_types)),
        "compute_types": sorted(summary.compute_types),
    }


def _info(name: str, kind: Type) -> TensorInfo:
    return TensorInfo(name, kind.shape, kind.dtype, kind.itemsize)


def _op(step: Step) -> Op:
    op = step.op
    types = [type_of(value.type) for value in op.operands]
    results = tuple(_info(name, type_of(value.type)) for name, value in zip(step.results, op.results, strict=True))
    return Op(
        kind=step.kind,
        name=step.name,
        inputs=tuple(_info("", kind) for kind, value in zip(types, op.operands, strict=True) if not is_constant(value)),
        outputs=results,
        macs=_macs(step.kind, types, results),
        constant_indices=step.kind in _INDEXED and is_constant(op.operands[_indices(step.kind)]),
        one_hot_kernel=step.kind in ("conv2d", "conv_transpose2d") and _one_hot(step.kind, op.operands[1]),
    )


def _indices(kind: str) -> int:
    """The operand with the indices."""
    return 2 if kind == "gather_along_axis" else 1


def _macs(kind: str, types: list[Type], results: tuple[TensorInfo, ...]) -> int | None:
    if kind in ("conv2d", "conv3d"):
        return conv_macs(results[0].shape, types[1].shape[1:])
    if kind in ("conv_transpose2d", "conv_transpose3d"):
        return conv_macs(types[0].shape, types[1].shape[1:])
    if kind in ("batch_matmul", "broadcasting_batch_matmul"):
        return matmul_macs(results[0].shape, types[0].shape[-1])
    return 0


def _one_hot(kind: str, kernel: Any) -> bool:
    if not is_constant(kernel) or "float" not in type_of(kernel.type).dtype:
        return False
    return is_one_hot(constant(kernel.owner), output_axis=int(kind == "conv_transpose2d"))
