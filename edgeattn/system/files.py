"""Files of the user: written whole or not at all, read within limits; JSON of a known schema."""

import os
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from edgeattn.errors import ArtifactError, BadInputError

T = TypeVar("T")
# No manifest and no file of records comes near it; an untrusted file must not fill the memory.
MOST_BYTES = 2**28


def check(*paths: Path | None) -> None:
    """Refuse early what could not be written at the end; None is no file.

    Raises:
        BadInputError: a folder does not exist or may not be written to, or the path is itself a folder.
    """
    for path in paths:
        if path is None:
            continue
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
    scratch = path.with_name(f".edgeattn.{os.getpid()}")  # the name itself may be as long as names can be
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def read(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of an untrusted file: no device, no pipe, and no more than ``most_bytes``.

    Raises:
        ArtifactError: the reason, in one sentence.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path} is no file")
        if status.st_size > most_bytes:
            raise ArtifactError(f"{path} has {status.st_size:,} bytes; more than {most_bytes:,} are not read")
        with path.open("rb") as file:
            return file.read(most_bytes)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


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
    import json

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
        raise ArtifactError(f"{path} is damaged at {field}: {first['msg']}") from error
