"""What is in an artifact: operators, layout and copy ops, multiply-adds, and what its runtime makes of it."""

import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

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
    probe.check(path)
    return inspect_checked(path, format_)


def inspect_checked(path: Path, format_: ModuleType) -> Inspection:
    """As :func:`inspect`, of a file that is known not to harm the libraries that open it."""
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


def _bytes(ops: Iterable[Op]) -> int:
    return sum(op.moved_bytes for op in ops)


def _runtime_view(format_: str, path: Path) -> dict[str, Any]:
    if format_ == "onnx":
        runtime = plugins.get("runtimes", "onnxruntime")
        return {"unknown": reason} if (reason := missing(runtime)) else _optimised(runtime, path)
    if format_ == "tflite":
        runtime = plugins.get("runtimes", "litert")
        return {"unknown": reason} if (reason := missing(runtime)) else {"xnnpack_partitions": runtime.partitions(path)}
    return {"unknown": "Core ML decides on the device; there is no such view outside macOS"}


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
