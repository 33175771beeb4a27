"""What a vendor's library raises, as one sentence of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from edgeattn.errors import ArtifactError, EdgeAttnError


@contextmanager
def refusing(sentence: str) -> Iterator[None]:
    """Whatever a vendor's library raises in the block, as the end of ``sentence``.

    Raises:
        ArtifactError: so it says.
    """
    try:
        yield
    except EdgeAttnError:
        raise
    except Exception as error:
        raise ArtifactError(f"{sentence}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    cause: BaseException | None = error
    while cause is not None:  # torch says much around this one, and not what it means
        if type(cause).__name__ == "GuardOnDataDependentSymNode":
            return (
                "its control flow depends on the values of a tensor, which cannot be traced; use torch.where, or a "
                "fixed number of steps"
            )
        cause = cause.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
