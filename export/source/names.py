"""Names of inputs and outputs as every format takes them."""

import keyword
import re
from collections.abc import Collection, Sequence

_NOT_IN_NAMES = re.compile(r"\W", re.ASCII)
# A converter passes inputs by keyword, to a method.
_TAKEN = ("self",)
# File systems and formats take longer ones, but they are written into every message.
_LONGEST = 100


def safe(names: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """The names that the files have: letters of ASCII, digits and _, and no two the same, nor one of ``taken``.

    A name that is such a one already stays.
    """
    result: list[str] = []
    for name in names:
        stem = _NOT_IN_NAMES.sub("_", name)[:_LONGEST]
        if not stem or stem[0].isdigit() or keyword.iskeyword(stem) or stem in _TAKEN:
            stem = f"x_{stem}"
        new, number = stem, 1
        while new in result or new in taken or (new != name and new in names):
            new, number = f"{stem}_{number}", number + 1
        result.append(new)
    return result
