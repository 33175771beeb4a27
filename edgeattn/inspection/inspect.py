"""What is in an artifact: operators, layout and copy ops, multiply-adds, and its runtime's view of it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeattn import errors
from edgeattn.errors import ArtifactError
from edgeattn.formats import FORMATS
from edgeattn.formats.graph import Op, count, in_category
from edgeattn.inspection import sandbox as probe
from edgeattn.runtimes import RUNTIMES, missing
from edgeattn.system import files, plugins


@dataclass(frozen=True)
class Inspection:
    """One artifact, read. ``runtime`` is its runtime's view of it, or why there is none; ``macs`` are multiply-adds,
    None if they depend on axes that it leaves free."""

    artifact: str
    format: str
    operators: dict[str, int]
    layout_ops: dict[str, int]
    layout_bytes: int
    copy_ops: dict[str, int]
    copy_bytes: int
    macs: int | None
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


def format_of(path: Path) -> str:
    """The name of a file's format, by its suffix.

    Raises:
        ArtifactError: there is no such file (a pipe or a device is none), or no such format.
    """
    if not path.exists():
        raise ArtifactError(f"there is no file {path}")
    if not path.is_dir():  # a package is one
        files.check_regular(path)
    known = {format_.suffix: name for name, format_ in FORMATS.items()}
    if path.suffix not in known:
        raise ArtifactError(f"{path} is no artifact that can be read; give one of {', '.join(sorted(known))}")
    return known[path.suffix]


def inspect(path: Path) -> Inspection:
    """Read ``path`` (made by us or by anyone).

    Raises:
        ArtifactError: the file is missing, cut or of no known format.
        MissingError: the package that reads this format is not installed.
    """
    format_ = FORMATS.get(format_of(path))
    plugins.require(*format_.read_packages, extra=format_.extra)
    graph = format_.read(path)
    macs = [op.macs for op in graph.ops]
    layout, copies = in_category(graph.ops, "layout"), in_category(graph.ops, "copy")
    return Inspection(
        artifact=str(path),
        format=graph.format,
        operators=count(graph.ops),
        layout_ops=count(layout),
        layout_bytes=_bytes(layout),
        copy_ops=count(copies),
        copy_bytes=_bytes(copies),
        macs=None if None in macs else sum(n for n in macs if n is not None),
        parameters=graph.parameters,
        inputs=tuple(asdict(t) for t in graph.inputs),
        outputs=tuple(asdict(t) for t in graph.outputs),
        details=graph.details,
        runtime=_runtime_view(graph.format, path),
    )


def inspect_apart(path: Path) -> Inspection:
    """As :func:`inspect`, for an untrusted file: the libraries open it in a process of its own.

    Raises:
        ArtifactError, MissingError: as :func:`inspect`; and ArtifactError, if it crashed, hung or filled the memory.
    """
    if not probe.concerns(path):
        return inspect(path)
    folder = str(Path(__file__).parent.parent.parent)
    script = str(Path(__file__).with_name("_inspect_child.py"))
    output = probe.answer(path, probe.start(path, [script, folder, str(path)]))
    document = json.loads(output) if output else {"error": ["ArtifactError", f"{path} cannot be read"]}
    if "error" in document:
        kind, sentence = document["error"]
        raise getattr(errors, kind)(sentence)
    from pydantic import TypeAdapter

    return TypeAdapter(Inspection).validate_python(document["found"])


def _bytes(ops: Iterable[Op]) -> int:
    return sum(op.moved_bytes for op in ops)


def _runtime_view(format_: str, path: Path) -> dict[str, Any]:
    """The view of the first runtime of the format that has one, or why there is none."""
    reason = "there is no runtime of this format"
    for _, runtime in RUNTIMES.items():
        if runtime.format != format_:
            continue
        if runtime.examine:
            absent = missing(runtime)
            return {"unknown": absent} if absent else runtime.examine(path)
        reason = runtime.unexamined
        break
    return {"unknown": reason}
