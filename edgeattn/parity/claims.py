"""Which precision a file has, by its own types: a manifest that calls it coarser would buy it coarser limits."""

from collections.abc import Iterator
from dataclasses import replace

from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.errors import ArtifactError, MissingError
from edgeattn.formats import FORMATS
from edgeattn.formats.graph import Graph
from edgeattn.precision import FP16, FP32, PRECISIONS

# The types of a format's own names, in lower case: those that weights or activations of few bits are held in.
_FEW_BITS = ("int8", "uint8", "int4", "uint4", "int6", "uint6", "int3", "uint3", "int2", "uint2", "int1", "uint1")
_HALF = ("float16", "fp16", "half")


def checked(bundle: Bundle) -> tuple[Bundle, tuple[str, ...]]:
    """The bundle with each artifact in the precision of its file, and a warning for each that the manifest calls
    otherwise. A file that cannot be read here keeps its own."""
    artifacts, warnings = [], []
    for artifact in bundle.manifest.artifacts:
        found = _precision(bundle, artifact)
        if found != artifact.precision:
            warnings.append(
                f"{artifact.file.path} is called {artifact.precision} by the manifest, and nothing in it is: it is "
                f"judged as {found}"
            )
            artifact = replace(artifact, precision=found, judged_on=None)
        artifacts.append(artifact)
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=tuple(artifacts))), tuple(warnings)


def in_arithmetic(artifact: Artifact, precision: str) -> Artifact:
    """The artifact as it is judged where a backend may compute in ``precision``, which is coarser than its own."""
    order = list(PRECISIONS)
    if not precision or order.index(precision) <= order.index(artifact.precision):
        return artifact
    return replace(artifact, precision=precision)


def _precision(bundle: Bundle, artifact: Artifact) -> str:
    if artifact.precision == FP32.name:
        return artifact.precision
    try:
        graph = FORMATS.get(artifact.format).read(bundle.path(artifact.file))
    except (ArtifactError, MissingError):
        return artifact.precision
    types = set(_types(graph))
    has_few, has_half = (any(name in types for name in names) for names in (_FEW_BITS, _HALF))
    # Core ML's weights are unpacked by operators of their own.
    has_few = has_few or bool(graph.details.get("compressed"))
    if has_few if PRECISIONS[artifact.precision].has_few_bits else has_half:
        return artifact.precision
    return FP16.name if has_half else FP32.name


def _types(graph: Graph) -> Iterator[str]:
    edges = {tensor.name for tensor in (*graph.inputs, *graph.outputs)}
    for op in graph.ops:
        # A picture in uint8 is no weight; a cast of it has no other operand of that type.
        yield from (tensor.dtype.lower() for tensor in (*op.inputs, *op.outputs) if tensor.name not in edges)
