"""An exception of a vendor's library as one sentence of ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from edgeattn.errors import EdgeAttnError, RefusedError

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def refusing(sentence: str) -> Iterator[None]:
    """Turn an exception of a vendor's library into ``sentence``, with the first line of its text at the end.

    Raises:
        RefusedError: with that sentence.
    """
    try:
        yield
    except EdgeAttnError:
        raise
    except Exception as error:
        raise RefusedError(f"{sentence}: {first_line(error)}") from error


def innermost(error: BaseException) -> BaseException:
    """What an error was made from, in the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    cause: BaseException | None = error
    while cause is not None:  # torch wraps this one in other errors, and does not explain it
        if type(cause).__name__ == "GuardOnDataDependentSymNode":
            return (
                "its control flow depends on the values of a tensor, which cannot be traced; use torch.where, or a "
                "fixed number of steps"
            )
        cause = cause.__cause__
    try:
        text = _COLOURS.sub("", str(error))
    except Exception:  # noqa: BLE001  # an error of a user's own may fail to tell what it is
        text = ""
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)[:300]
