"""Weights that an .onnx file keeps in files beside it: found, checked to lie in its folder, and hashed.

torch.onnx writes them so by default, and no file of protobuf can hold 2 GB.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from edgeattn.errors import ArtifactError


def load(path: Path) -> tuple[Any, dict[str, int]]:
    """The model of ``path`` without the weights beside it, and the sizes in bytes of the files that hold these.

    Raises:
        ArtifactError: a file lies outside the model's folder, is missing, or is too short.
        Exception: onnx cannot read ``path``.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return model, _files(path, tensors(model))


def tensors(model: Any) -> Iterator[Any]:
    """All tensors of a model: those of its functions and subgraphs too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)


def is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == type(tensor).EXTERNAL)


def _files(path: Path, found: Iterable[Any]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for tensor in filter(is_external, found):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if name not in sizes:
            sizes[name] = _size(path, name)
        try:
            offset, length = (int(entries.get(key) or 0) for key in ("offset", "length"))
        except ValueError:
            offset = length = -1
        if min(offset, length) < 0 or offset + length > sizes[name]:
            raise ArtifactError(
                f"{path} keeps {tensor.name or 'a tensor'} at a place that {name} does not have: it has "
                f"{sizes[name]:,} bytes; copy it again, whole"
            )
    return sizes


def _size(path: Path, name: str) -> int:
    """The size of a file beside the model; nothing outside its folder is looked at."""
    relative, folder = PurePosixPath(name), path.absolute().parent
    outside = not relative.parts or relative.is_absolute() or ".." in relative.parts or "\0" in name
    outside = outside or bool(PureWindowsPath(name).drive)
    file = folder if outside else folder / name
    try:
        if outside or not file.resolve().is_relative_to(folder.resolve()):
            raise ArtifactError(f"{path} keeps weights outside its folder, in {name!r}: they are not read")
        if file.is_symlink() or not file.is_file():
            there = "is no plain file" if file.exists() else "is missing"
            raise ArtifactError(f"{path} keeps its weights in {name}, which {there}: put it into the same folder")
        return file.stat().st_size
    except OSError as error:  # a name that is too long
        raise ArtifactError(f"{path} keeps its weights in {name[:80]!r}, which cannot be read") from error


def described(path: Path, sizes: dict[str, int]) -> dict[str, str]:
    """The files of :func:`load` by name, for people: bytes and hash."""
    found = {}
    for name, size in sizes.items():
        with (path.absolute().parent / name).open("rb") as file:
            found[name] = f"{size:,} bytes, SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    return found
