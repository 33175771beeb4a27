"""Core ML, as an ML program, through Apple's coremltools, channels-first."""

import json
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.bundle.details import Details
from edgeattn.errors import ArtifactError, ConversionError
from edgeattn.formats import ANSWER, LABELS, Format, Job
from edgeattn.formats.graph import Graph, Op, TensorInfo, conv_macs, einsum_macs, is_one_hot, matmul_macs
from edgeattn.formats.mil import classifier
from edgeattn.formats.mil.package import Weights, is_constant, main_function, model_file, read_spec, walk
from edgeattn.formats.mil.values import tensor_type
from edgeattn.layout import Layout
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line

# iOS 16 is the oldest target with every op that is needed; the phones of the paper's table run it.
DEPLOYMENT_TARGET = "iOS16"
MAX_BATCH = 64


class CoreMl(Format):
    suffix = ".mlpackage"
    extra = "coreml"
    packages = ("coremltools",)
    read_packages = ("coremltools",)
    layout: Layout = "channels_first"
    picture_layout: Layout = "channels_first"  # it has a type for images, whose values come channels-first
    dynamic_batch = True
    # The antialiased one is written without antialiasing (coremltools 9.0; pytorch/executorch issue 5728); col2im is
    # refused where patches overlap.
    lacks = frozenset(
        {
            "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "upsample_bicubic2d", "upsample_nearest2d",
            "_upsample_nearest_exact2d", "col2im",
        }
    )  # fmt: skip

    def convert(self, job: Job, path: Path) -> Details:
        """Write the package ``path``; the same module gives the same bytes.

        Raises:
            ConversionError: torch.export or coremltools refuses the module.
        """
        import torch

        from edgeattn.formats._edges import OTHER_INTEGERS, Apart, passed, taken

        try:
            with quiet():
                import coremltools as ct

                # It has no integers of 8 bits at its edges, and no input without dimensions.
                types = dict.fromkeys((torch.uint8, torch.int8, *OTHER_INTEGERS), torch.int32)
                inner, inputs = taken(job.module, job.traced_inputs(), types, scalars=False)
                if job.picture:
                    inputs[job.picture] = job.inputs[job.picture].float()
                batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
                shapes = tuple({0: batch} for _ in inputs) if job.dynamic_batch else None

                def exported(module: torch.nn.Module) -> Any:
                    program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=shapes)
                    return _with_strides(program.run_decompositions({}))

                program = exported(inner)
                if numbers := passed(program):
                    program = exported(Apart(inner, numbers))
                model = ct.convert(
                    program,
                    convert_to="mlprogram",
                    inputs=[_declared(ct, job, name, tuple(x.shape)) for name, x in inputs.items()],
                    outputs=[ct.TensorType(name=name) for name in job.outputs],
                    minimum_deployment_target=getattr(ct.target, DEPLOYMENT_TARGET),
                    compute_precision=ct.precision.FLOAT32,
                    pass_pipeline=_exact_passes(ct),
                )
                model.save(str(path))
            normalise(path, job.metadata, job.outputs)
        except Exception as error:
            shutil.rmtree(path, ignore_errors=True)
            raise ConversionError(f"coremltools refuses the module: {first_line(error)}") from error
        return Details(deployment_target=DEPLOYMENT_TARGET)

    def read(self, path: Path) -> Graph:
        """The operators of any .mlpackage that holds an ML program, with every weight's range in the file checked.

        Raises:
            ArtifactError: a file is missing or cut, or the model is no ML program.
        """
        try:
            spec = read_spec(path)
            function, block = main_function(spec)
            reader = _Reader(Weights(path), {value.name: _tensor(value) for value in function.inputs})
            ops = tuple(reader.ops(block))
            values = {output.name: _tensor(output) for op in walk(block) for output in op.outputs}
            return Graph(
                format="coreml",
                ops=ops,
                inputs=tuple(_tensor(value) for value in function.inputs),
                outputs=tuple(values[name] for name in classifier.outputs(block)),
                parameters=reader.parameters,
                details={
                    "opset": function.opset,
                    "specification_version": spec.specificationVersion,
                    "compressed": sorted({op.type for op in walk(block) if op.type.startswith("constexpr_")}),
                    "metadata": dict(sorted(spec.description.metadata.userDefined.items())),
                },
            )
        except Exception as error:
            raise ArtifactError(f"{path} is not a readable Core ML package: {first_line(error)}") from error


FORMAT: Format = CoreMl()


def _with_strides(program: Any) -> Any:
    """A program of torch.export in which poolings have strides: without one it is the size of the window, and
    coremltools refuses the operator."""
    import torch

    aten = torch.ops.aten
    pools = {aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default,
             aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default}  # fmt: skip
    for node in program.graph.nodes:
        if node.target in pools and (len(node.args) == 2 or not node.args[2]):
            x, window, _, *rest = (*node.args, None) if len(node.args) == 2 else node.args
            node.args = (x, window, window, *rest)
    program.graph_module.recompile()
    return program


def takes_pictures(path: Path) -> bool:
    """Whether a package has an input of Core ML's own type for images."""
    return any(i.type.WhichOneof("Type") == "imageType" for i in read_spec(path).description.input)


def _declared(ct: Any, job: Job, name: str, shape: tuple[int, ...]) -> Any:
    """The input as coremltools takes it: an image where it takes a picture."""
    if name == job.picture:
        colours = ct.colorlayout.RGB if shape[1] == 3 else ct.colorlayout.GRAYSCALE
        return ct.ImageType(name=name, shape=shape, color_layout=colours)
    return ct.TensorType(name=name, shape=(ct.RangeDim(1, MAX_BATCH), *shape[1:]) if job.dynamic_batch else shape)


def _exact_passes(ct: Any) -> Any:
    """coremltools' passes, without the one that makes a batch_norm of a factor and a term along the channels: it leaves
    its epsilon at 1e-5, so that the result is 5e-6 too small, 40 times float32's own error."""
    pipeline = ct.PassPipeline.DEFAULT
    pipeline.remove_passes({"common::fuse_elementwise_to_batchnorm"})
    return pipeline


def normalise(path: Path, metadata: dict[str, str], outputs: tuple[str, ...] = ()) -> None:
    """Remove what differs between two conversions of one module: random identifiers, the date, debug files.

    ``metadata`` is added to the metadata of the tools; ``outputs`` are the names that the outputs must have, in order.
    """
    from coremltools.proto import Model_pb2

    for extra in path.iterdir():
        if extra.name not in ("Manifest.json", "Data"):
            extra.unlink()
    manifest = json.loads((path / "Manifest.json").read_text())
    # Identifiers only have to be unique within the package: derive them from the paths.
    renamed = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])) for old, item in manifest["itemInfoEntries"].items()
    }
    manifest["itemInfoEntries"] = {renamed[k]: v for k, v in manifest["itemInfoEntries"].items()}
    manifest["rootModelIdentifier"] = renamed[manifest["rootModelIdentifier"]]
    (path / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")

    file = model_file(path)
    spec = Model_pb2.Model.FromString(file.read_bytes())
    spec.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    spec.description.metadata.userDefined.update(metadata)
    if outputs:
        _name_all(spec, outputs)
    labels = json.loads(metadata.get(LABELS, "[]"))
    if classifier.is_asked(metadata.get(ANSWER), labels) and _is_for_vision(spec):
        classifier.put(spec, labels)
    file.write_bytes(spec.SerializeToString(deterministic=True))
    file.chmod(0o644)


def _is_for_vision(spec: Any) -> bool:
    """Whether a model takes one image, and gives one output."""
    inputs, outputs = spec.description.input, spec.description.output
    return len(inputs) == len(outputs) == 1 and inputs[0].type.WhichOneof("Type") == "imageType"


def _name_all(spec: Any, names: tuple[str, ...]) -> None:
    """Give every output of a model's one function its name, by an identity where its value has another one: of several
    names of one value, coremltools keeps the last.

    Raises:
        ValueError: the model has another number of outputs.
    """
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    if len(block.outputs) != len(names) or len(spec.description.output) != len(names):
        raise ValueError(f"it wrote {len(block.outputs)} outputs, not {len(names)}")
    kinds = {output.name: output.type for op in block.operations for output in op.outputs}
    for i, (present, name) in enumerate(zip(list(block.outputs), names, strict=True)):
        if present == name:
            continue
        identity = block.operations.add(type="identity")
        identity.inputs["x"].arguments.add(name=present)
        identity.outputs.add(name=name).type.CopyFrom(kinds[present])
        identity.attributes["name"].CopyFrom(_text(name))
        block.outputs[i] = name
        spec.description.output[i].name = name


def _text(value: str) -> Any:
    from coremltools.proto import MIL_pb2

    text = MIL_pb2.Value()
    text.type.tensorType.dataType = MIL_pb2.STRING
    text.immediateValue.tensor.strings.values.append(value)
    return text


def _tensor(value: Any) -> TensorInfo:
    kind = tensor_type(value.type)
    if kind is None:
        return TensorInfo(value.name, (), "other", 1)
    dtype = np.dtype(kind.dtype.numpy)
    return TensorInfo(value.name, kind.shape, dtype.name, dtype.itemsize)


class _Reader:
    """Walks one program; records its constants and checks the weight file that they point into."""

    def __init__(self, weights: Weights, edges: dict[str, TensorInfo]) -> None:
        self.weights, self.edges = weights, edges
        self.tensors: dict[str, TensorInfo] = {}
        self.constants: dict[str, Any] = {}
        self.parameters = 0

    def ops(self, block: Any) -> Iterable[Op]:
        for op in walk(block):
            outputs = tuple(_tensor(value) for value in op.outputs)
            self.tensors.update({info.name: info for info in outputs})
            if is_constant(op):
                self._constant(op, outputs[0])
                continue
            yield self._op(op, outputs)

    def _constant(self, op: Any, info: TensorInfo) -> None:
        value = op.attributes.get("val")
        self.constants[info.name] = value
        for literal in (*op.attributes.values(), *(a.value for i in op.inputs.values() for a in i.arguments)):
            if literal.WhichOneof("value") == "blobFileValue":
                self.weights.blob(literal)
        if "float" in info.dtype:
            self.parameters += info.size_bytes // info.itemsize

    def _op(self, op: Any, outputs: tuple[TensorInfo, ...]) -> Op:
        names = {key: [a.name for a in value.arguments if a.name] for key, value in op.inputs.items()}
        inputs = {key: tuple(self.tensors[n] for n in values if n in self.tensors) for key, values in names.items()}
        return Op(
            kind=op.type,
            name=outputs[0].name if outputs else "",
            inputs=tuple(info for key in ("x", "values", "y") for info in inputs.get(key, ())),
            outputs=outputs,
            macs=self._macs(op.type, names, inputs, outputs),
            constant_indices=any(n in self.constants for n in names.get("indices", ())),
            one_hot_kernel=op.type in ("conv", "conv_transpose") and self._one_hot(op.type, names["weight"][0]),
        )

    def _macs(
        self,
        kind: str,
        names: dict[str, list[str]],
        inputs: dict[str, tuple[TensorInfo, ...]],
        outputs: tuple[TensorInfo, ...],
    ) -> int | None:
        if kind == "conv":
            return conv_macs(outputs[0].shape, inputs["weight"][0].shape[1:])
        if kind == "conv_transpose":
            x = self.edges.get(names["x"][0]) or inputs["x"][0]
            return conv_macs(x.shape, inputs["weight"][0].shape[1:])
        if kind == "linear":
            return matmul_macs(outputs[0].shape, inputs["weight"][0].shape[-1])
        if kind == "matmul":
            transposed = self._scalar(names["transpose_x"][0]) if names.get("transpose_x") else False
            return matmul_macs(outputs[0].shape, inputs["x"][0].shape[-2 if transposed else -1])
        if kind == "einsum":
            return einsum_macs(str(self._scalar(names["equation"][0])), [t.shape for t in inputs["values"]])
        return 0

    def _scalar(self, name: str) -> Any:
        tensor = self.constants[name].immediateValue.tensor
        return getattr(tensor, tensor.WhichOneof("value")).values[0]

    def _one_hot(self, kind: str, name: str) -> bool:
        value, info = self.constants.get(name), self.tensors[name]
        if value is None or value.WhichOneof("value") != "blobFileValue" or info.dtype not in ("float16", "float32"):
            return False
        kernel = self.weights.blob(value).view(info.dtype.replace("float", "f")[0] + str(info.itemsize))
        return is_one_hot(kernel.reshape([n or 1 for n in info.shape]), output_axis=int(kind == "conv_transpose"))
