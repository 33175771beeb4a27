"""Files that a command writes for the user: checked before any work, written whole or not at all."""

import os
from pathlib import Path

from edgeattn.errors import BadInputError


def check(*paths: Path | None) -> None:
    """Refuse early what could not be written at the end; None is no file.

    Raises:
        BadInputError: a folder does not exist, or the path is itself a folder.
    """
    for path in paths:
        if path is not None and (not path.absolute().parent.is_dir() or path.is_dir()):
            raise BadInputError(f"{path} cannot be written: name a file in a folder that exists")


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
