"""Text from outside (a device, a file, a vendor's library), on its way to a person: it steers no terminal and no page.

All such text goes through :func:`shown` or :func:`sentence`.
"""

import unicodedata

# Of one text of a device; a longer one is cut.
MOST_CHARACTERS = 400
_CUT = " …"


def shown(text: str, *, keep: str = "") -> str:
    """``text`` with a replacement character for each that cannot be seen or would steer a terminal: escapes and other
    controls, overrides of the direction of writing, halves of characters. Those in ``keep`` stay as they are."""
    if text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else _replacement(c) for c in text)


def sentence(text: str, most: int = MOST_CHARACTERS) -> str:
    """``text`` as one line of at most ``most`` characters, safe as by :func:`shown`."""
    start = text[: 8 * most]  # before the words are split: it may be very long
    line = shown(" ".join(start.split()))
    return line if len(line) <= most and len(start) == len(text) else line[: most - len(_CUT)] + _CUT


def plain_name(name: str) -> bool:
    """Whether ``name`` can stand in a line of a file, a command or a table: not empty, no control character."""
    return bool(name) and shown(name) == name


def _replacement(character: str) -> str:
    return " " if unicodedata.category(character) == "Zs" else "\N{REPLACEMENT CHARACTER}"
