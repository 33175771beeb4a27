"""The cores that a run is pinned to: parses the user's text, and formats it for the systems."""

import re

from edgeattn.errors import BadInputError


def parse(cores: str, *, present: str) -> list[int]:
    """The numbers of ``cores``: a list as ``4-7`` or ``0,4``, or a mask as ``0xf0``; ``present`` is the list of
    the device's cores ("" if unknown).

    Raises:
        BadInputError: it is neither, or names a core that is not there.
    """
    if re.fullmatch(r"0x[0-9a-f]+", cores, re.IGNORECASE):
        wanted = {bit for bit in range(int(cores, 16).bit_length()) if int(cores, 16) >> bit & 1}
    else:
        wanted = _numbers(cores)
    if not wanted:
        raise BadInputError(f"--cores {cores!r} names no core; give a list, as 4-7 or 0,4, or a mask, as 0xf0")
    if present and not wanted <= _numbers(present):
        raise BadInputError(f"--cores {cores} names a core that is not there; there are {present}")
    return sorted(wanted)


def mask(cores: str, *, present: str) -> str:
    """The same, as the hexadecimal mask that ``taskset`` takes."""
    return f"{sum(1 << core for core in parse(cores, present=present)):x}"


def _numbers(text: str) -> set[int]:
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part.strip())
        if not match:
            return set()
        numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers
