"""An .mlpackage on disk: its specification, its program, and the bytes of its weight file.

The files are read as they are: coremltools' own loader rewrites the package's manifest. All errors here are
ValueError, OSError or KeyError; the caller adds the package's path.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.system.files import read
from edgeattn.system.output import quiet

_BLOB_SENTINEL = 0xDEADBEEF
_BLOB_RECORD_BYTES = 64
# The most that protobuf reads.
_MAX_BYTES = 2**31


def model_file(path: Path) -> Path:
    """The specification's file, as the manifest names it."""
    manifest = json.loads(read(path / "Manifest.json"))
    entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    return _inside(path, path / "Data" / str(entry), "its manifest names a file outside the package")


def read_spec(path: Path) -> Any:
    """The specification (a protobuf ``Model``) of a package that holds an ML program."""
    with quiet():
        from coremltools.proto import Model_pb2
    spec = Model_pb2.Model.FromString(read(model_file(path), _MAX_BYTES))
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise ValueError(f"it holds a {kind or 'empty model'}; only ML programs can be read")
    return spec


def main_function(spec: Any) -> tuple[Any, Any]:
    """The function that Core ML runs by default, and its block."""
    name = spec.description.defaultFunctionName or "main"
    if name not in spec.mlProgram.functions:
        raise ValueError(f"its program has no function {name!r}")
    function = spec.mlProgram.functions[name]
    if function.opset not in function.block_specializations:
        raise ValueError(f"its program has no block for its opset {function.opset!r}")
    return function, function.block_specializations[function.opset]


def walk(block: Any) -> Iterator[Any]:
    """Every operation of a block and of the blocks inside it, in order."""
    for op in block.operations:
        yield op
        for inner in op.blocks:
            yield from walk(inner)


def is_constant(op: Any) -> bool:
    """Whether an operation is a constant of the file, compressed or not."""
    return op.type == "const" or bool(op.type.startswith("constexpr_"))


class Weights:
    """The weight files of a package, memory-mapped; every access is checked against the file's size."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def blob(self, value: Any) -> npt.NDArray[np.uint8]:
        """The bytes of a constant: a 64-byte record of (sentinel, type, size, offset) points to them.

        The view is copy-on-write, so the file never changes.
        """
        _, offset, size = self.locate(value)
        return self._file(value.blobFileValue.fileName)[offset : offset + size]

    def locate(self, value: Any) -> tuple[Path, int, int]:
        """The file, the offset and the number of these bytes."""
        name, start = value.blobFileValue.fileName, value.blobFileValue.offset
        data = self._file(name)
        record = data[start : start + _BLOB_RECORD_BYTES].tobytes()
        if len(record) < _BLOB_RECORD_BYTES:
            raise ValueError("its weight file is cut")
        sentinel, _, size, offset = struct.unpack_from("<IIQQ", record)
        if sentinel != _BLOB_SENTINEL:
            raise ValueError("its weight file is damaged")
        if offset + size > len(data):
            raise ValueError("its weight file is cut")
        return self._path(name), offset, size

    def _file(self, name: str) -> npt.NDArray[np.uint8]:
        if name not in self._files:
            file = self._path(name)
            if not file.is_file():
                raise ValueError(f"its weight file {name.removeprefix('@model_path/')} is missing")
            self._files[name] = np.memmap(file, np.uint8, "c")
        return self._files[name]

    def _path(self, name: str) -> Path:
        file = self._package / "Data/com.apple.CoreML" / name.removeprefix("@model_path/")
        return _inside(self._package, file, f"it names the weight file {name!r}, outside the package")


def _inside(package: Path, file: Path, message: str) -> Path:
    if not file.resolve().is_relative_to(package.resolve()):
        raise ValueError(message)
    return file
