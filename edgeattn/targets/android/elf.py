"""What is read of a program or a library that a user gives: whether it is for arm64, and for which C library."""

from pathlib import Path

from edgeattn.errors import BadInputError

# e_machine of an ELF file.
_AARCH64 = 183


def check(path: Path, option: str) -> None:
    """Check that ``path`` is a program or a library for arm64; ``option`` is what the user typed, for the message.

    Raises:
        BadInputError: there is no such file, or it is none.
    """
    try:
        with path.open("rb") as file:
            start = file.read(20)
    except OSError as error:
        raise BadInputError(f"{option} cannot be read: {error.strerror}") from error
    if start[:4] != b"\x7fELF" or int.from_bytes(start[18:20], "little") != _AARCH64:
        raise BadInputError(f"{option} is no program for arm64")


def is_bionic(path: Path) -> bool:
    """Whether it is built for Android's C library: the names of what it needs stand in its table of strings."""
    content = path.read_bytes()
    return b"\0libc.so\0" in content and b"\0libc.so.6\0" not in content
