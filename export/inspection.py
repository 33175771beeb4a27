"""What is in an artifact: operators, layout and copy ops, multiply-adds, and what its runtime makes of it."""

import json
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeattn import errors
from edgeattn.cost import Graph, Op, count, in_category
from edgeattn.errors import ArtifactError
from export import plugins, probe
from export.runtimes import missing


@dataclass(frozen=True)
class Inspection:
    """One artifact, read. ``runtime`` says what its runtime makes of it, or why that is not known."""

    artifact: str
    format: str
    operators: dict[str, int]
    layout_ops: dict[str, int]
    layout_bytes: int
    copy_ops: dict[str, int]
    copy_bytes: int
    macs: int
    parameters: int
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    details: dict[str, Any]
    runtime: dict[str, Any]

    @property
    def worst_layout_ops(self) -> int:
        """Layout ops of the saved file or of the graph that its runtime makes of it, whichever has more."""
        as_optimised: dict[str, int] = self.runtime.get("layout_ops", {})
        return max(sum(self.layout_ops.values()), sum(as_optimised.values()))


def format_of(path: Path) -> ModuleType:
    """The format of a file, by its suffix."""
    if not path.exists():
        raise ArtifactError(f"there is no file {path}")
    known = {plugins.get("formats", name).SUFFIX: name for name in plugins.names("formats")}
    if path.suffix not in known:
        raise ArtifactError(f"{path} is no artifact that can be read; give one of {', '.join(sorted(known))}")
    return plugins.get("formats", known[path.suffix])


def inspect(path: Path) -> Inspection:
    """Read ``path`` (made by us or by anyone).

    Raises:
        ArtifactError: the file is missing, cut or of no known format.
        MissingError: the package that reads this format is not installed.
    """
    format_ = format_of(path)
    plugins.require(*format_.READ_PACKAGES, extra=format_.EXTRA)
    graph: Graph = format_.read(path)
    layout, copies = in_category(graph.ops, "layout"), in_category(graph.ops, "copy")
    return Inspection(
        artifact=str(path),
        format=graph.format,
        operators=count(graph.ops),
        layout_ops=count(layout),
        layout_bytes=_bytes(layout),
        copy_ops=count(copies),
        copy_bytes=_bytes(copies),
        macs=sum(op.macs for op in graph.ops),
        parameters=graph.parameters,
        inputs=tuple(asdict(t) for t in graph.inputs),
        outputs=tuple(asdict(t) for t in graph.outputs),
        details=graph.details,
        runtime=_runtime_view(graph.format, path),
    )


def inspect_apart(path: Path) -> Inspection:
    """As :func:`inspect`, for a file of anyone's: what it does to the libraries that open it, it does elsewhere.

    Raises:
        ArtifactError, MissingError: as :func:`inspect`; and ArtifactError, if it crashed, hung or filled the memory.
    """
    if not probe.concerns(path):
        return inspect(path)
    folder = str(Path(__file__).parent.parent)
    script = str(Path(__file__).with_name("_inspect.py"))
    said = probe.answer(path, probe.start(path, [script, folder, str(path)]))
    document = json.loads(said) if said else {"error": ["ArtifactError", f"{path} cannot be read"]}
    if "error" in document:
        kind, sentence = document["error"]
        raise getattr(errors, kind)(sentence)
    from pydantic import TypeAdapter

    return TypeAdapter(Inspection).validate_python(document["found"])


def _bytes(ops: Iterable[Op]) -> int:
    return sum(op.moved_bytes for op in ops)


def _runtime_view(format_: str, path: Path) -> dict[str, Any]:
    if format_ == "onnx":
        runtime = plugins.get("runtimes", "onnxruntime")
        return {"unknown": reason} if (reason := missing(runtime)) else _optimised(runtime, path)
    if format_ == "tflite":
        runtime = plugins.get("runtimes", "litert")
        return {"unknown": reason} if (reason := missing(runtime)) else {"xnnpack_partitions": runtime.partitions(path)}
    if format_ == "coreml":
        return {"unknown": "Core ML decides on the device; there is no such view outside macOS"}
    return {"unknown": "its runtime gives no such view"}


def _optimised(runtime: ModuleType, path: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "optimised.onnx"
        try:
            runtime.optimise(path, out)
        except ArtifactError as error:
            # The file is sound ONNX (it was read above), but this runtime does not take it: say so, do not hide it.
            return {"unknown": str(error)}
        ops = plugins.get("formats", "onnx").read_unchecked(out).ops
    return {
        "operators": count(ops),
        "layout_ops": count(in_category(ops, "layout")),
        "copy_ops": count(in_category(ops, "copy")),
        "reorder_ops": count(in_category(ops, "reorder")),
    }
