"""Files of the user: written whole or not at all; JSON of a known schema, read and checked."""

import os
from pathlib import Path
from typing import TypeVar

from edgeattn.errors import ArtifactError, BadInputError

T = TypeVar("T")


def check(*paths: Path | None) -> None:
    """Refuse early what could not be written at the end; None is no file.

    Raises:
        BadInputError: a folder does not exist or may not be written to, or the path is itself a folder.
    """
    for path in paths:
        if path is None:
            continue
        if not (folder := path.absolute().parent).is_dir() or path.is_dir():
            raise BadInputError(f"{path} cannot be written: name a file in a folder that exists")
        if not os.access(folder, os.W_OK):
            raise BadInputError(f"{path} cannot be written: you may not write to {folder}")


def write(path: Path, content: bytes) -> None:
    """Write ``path`` atomically.

    Raises:
        BadInputError: it cannot be written.
    """
    scratch = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        scratch.unlink(missing_ok=True)


def parse(content: bytes, kind: type[T], path: Path, *, newest: int, otherwise: str) -> T:
    """The JSON ``content`` of ``path`` as the dataclass ``kind``, which has a ``schema_version``.

    Args:
        newest: schema that this edgeattn reads; 1 is the oldest.
        otherwise: what to say of a file that is no such document at all.

    Raises:
        ArtifactError: in one sentence, what is wrong with it.
    """
    import json

    from pydantic import TypeAdapter, ValidationError

    try:
        version = json.loads(content)["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is {otherwise}") from error
    if not isinstance(version, int) or not 1 <= version <= newest:
        known = "1" if newest == 1 else f"1 to {newest}"
        raise ArtifactError(f"{path} has schema {version!r}, and this edgeattn reads {known}; update edgeattn")
    try:
        return TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path} is damaged at {place}: {first['msg']}") from error
