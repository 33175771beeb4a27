"""The streams of the process: closed, full, read by nobody, or in another encoding than UTF-8."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from typing import Any

from edgeattn.errors import BadInputError


def begin() -> None:
    """Make the streams fit to be written to.

    Raises:
        BadInputError: stdout is closed, or there is no working directory.
    """
    is_closed = sys.stdout is None
    # A file that is opened later would get the number of a closed stream, and with it what libraries print.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that a terminal does not have is no reason to fail
            stream.reconfigure(errors="replace")
    if is_closed:
        raise BadInputError("stdout is closed, so that no result can be printed: give it a file, or /dev/null")
    try:
        os.getcwd()
    except OSError as error:
        raise BadInputError("the working directory was deleted: go to one that exists") from error


@contextmanager
def writing() -> Iterator[None]:
    """What the block writes to stdout is there afterwards. A reader that has enough, as `head`, is no error.

    Raises:
        BadInputError: stdout cannot be written to.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        drop()
    except OSError as error:
        drop()
        raise BadInputError(f"the result cannot be written to stdout: {error.strerror or error}") from error


def drop() -> None:
    """Let nothing more be written to stdout: at its end, Python would try again, and fail."""
    with suppress(OSError, ValueError):  # in a test it has no descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def json(document: Any) -> str:
    """One JSON document that stdout can hold: all of it in ASCII where that has another encoding than UTF-8."""
    import json as standard

    from pydantic_core import PydanticSerializationError, to_json

    try:
        text = to_json(document, indent=2, inf_nan_mode="null").decode()
    except (PydanticSerializationError, UnicodeEncodeError):
        text = to_json(_clean(document), indent=2, inf_nan_mode="null").decode()
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return standard.dumps(standard.loads(text), indent=2)
    return text


def _clean(value: Any) -> Any:
    """The same without the bytes of file names that are no UTF-8."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value).encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(entry) for entry in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _clean(asdict(value))
    return value
