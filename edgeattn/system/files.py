"""Files of the user: written whole or not at all, read within limits; JSON of a known schema."""

import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from edgeattn.errors import ArtifactError, BadInputError
from edgeattn.system import scratch

T = TypeVar("T")
# No manifest and no file of records comes near it; an untrusted file must not fill the memory.
MOST_BYTES = 2**28


def check(*paths: Path | None, sources: Iterable[Path] = ()) -> None:
    """Refuse early what could not be written at the end, or would replace what is read; None is no file.

    Raises:
        BadInputError: a folder does not exist or may not be written to, or the path is itself a folder; or it is one
            of ``sources``, a file of a bundle, or another of ``paths``.
    """
    taken = {source.resolve(): "it is a source" for source in sources}
    for path in paths:
        if path is None:
            continue
        _check(path)
        place = path.resolve()
        if place in taken:
            raise BadInputError(f"{path} would be overwritten, and {taken[place]}; name another file")
        if (bundle := _bundle_of(place)) is not None:
            raise BadInputError(f"{path} would be overwritten, and it is a file of the bundle {bundle}; name another")
        taken[place] = "another result goes there too"


def _bundle_of(place: Path) -> Path | None:
    """The bundle whose manifest, or a file that this names, is at ``place``."""
    for folder in place.parents:
        try:
            manifest = json.loads(read(folder / "manifest.json"))
        except (ValueError, RecursionError):  # ArtifactError is a ValueError: there is no such file
            continue
        if not isinstance(manifest, dict) or not {"schema_version", "artifacts"} <= manifest.keys():
            continue
        own = place.relative_to(folder).as_posix()
        if own == "manifest.json" or any(own == text or own.startswith(f"{text}/") for text in _texts(manifest)):
            return folder
    return None


def _texts(document: object) -> Iterator[str]:
    """Every text in a JSON document that could be the name of a file."""
    if isinstance(document, str):
        if document:
            yield document
    elif isinstance(document, dict | list):
        for part in document.values() if isinstance(document, dict) else document:
            yield from _texts(part)


def _check(path: Path) -> None:
    """Refuse a path in no folder, or in one that may not be written to, or a folder."""
    try:
        good = (folder := path.absolute().parent).is_dir() and not path.is_dir()
    except OSError as error:  # a name that is too long
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from error
    if not good:
        raise BadInputError(f"{path} cannot be written: name a file in a folder that exists")
    if not os.access(folder, os.W_OK):
        raise BadInputError(f"{path} cannot be written: you may not write to {folder}")


def write(path: Path, content: bytes) -> None:
    """Write ``path`` atomically.

    Raises:
        BadInputError: it cannot be written.
    """
    made: Path | None = None
    try:
        descriptor, made = scratch.file(path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        made.replace(path)
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if made is not None:
            with suppress(OSError):
                made.unlink(missing_ok=True)


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """An untrusted file, open for reading if it is a regular one: a pipe would be waited for without end, a device
    read without end.

    Raises:
        ArtifactError: the reason, in one sentence; also if reading it fails in the block.
    """
    try:
        # Not blocking, as the open of a pipe is; it is then looked at, and not its name, which may name another now.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ArtifactError(f"{path} is no file")
            yield file
    except ArtifactError:
        raise
    except IsADirectoryError as error:
        raise ArtifactError(f"{path} is no file") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise ArtifactError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def check_regular(path: Path, most_bytes: int | None = None) -> None:
    """Refuse what a library must not open by its name: all but regular files, and those of more than ``most_bytes``.

    Raises: as :func:`read`.
    """
    with opened(path) as file:
        _check_size(path, file, most_bytes)


def _check_size(path: Path, file: BufferedReader, most_bytes: int | None) -> None:
    size = os.fstat(file.fileno()).st_size
    if most_bytes is not None and size > most_bytes:
        raise ArtifactError(f"{path} has {size:,} bytes; more than {most_bytes:,} are not read")


def read(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of an untrusted file: no device, no pipe, and no more than ``most_bytes``.

    Raises:
        ArtifactError: the reason, in one sentence.
    """
    with opened(path) as file:
        _check_size(path, file, most_bytes)
        return file.read(most_bytes)


def start(path: Path, most_bytes: int) -> bytes:
    """The first ``most_bytes`` of an untrusted file.

    Raises: as :func:`read`.
    """
    with opened(path) as file:
        return file.read(most_bytes)


@cache
def _adapter(kind: Any) -> Any:
    """Cached: an adapter takes longer to make than to use."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def parse(content: bytes, kind: type[T], path: Path, *, newest: int, otherwise: str) -> T:
    """The JSON ``content`` of ``path`` as the dataclass ``kind``, which has a ``schema_version``.

    Args:
        newest: the newest schema that this edgeattn reads; 1 is the oldest.
        otherwise: what the message calls a file that is no such document.

    Raises:
        ArtifactError: what is wrong with it, in one sentence.
    """
    from pydantic import ValidationError

    try:
        version = json.loads(content)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} is {otherwise}") from error
    if not isinstance(version, int) or not 1 <= version <= newest:
        known = "1" if newest == 1 else f"1 to {newest}"
        raise ArtifactError(f"{path} has schema {version!r}, and this edgeattn reads {known}; update edgeattn")
    try:
        document: T = _adapter(kind).validate_json(content)  # type: ignore[arg-type]  # a class is hashable
        return document
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path} is damaged at {field}: {first['msg'].removeprefix('Value error, ')}") from error
