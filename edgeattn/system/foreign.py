"""Text from outside (a device, a file, a vendor's library), on its way to a person: it steers no terminal and no page.

All such text goes through :func:`shown`, :func:`sentence` or, as JSON, :func:`escaped`.
"""

import json
import re
import unicodedata
from collections.abc import Callable

# Of one text of a device; a longer one is cut.
MOST_CHARACTERS = 400
_CUT = " …"


def shown(text: str, *, keep: str = "") -> str:
    """``text`` with a replacement character for each that cannot be seen or would steer a terminal: escapes and other
    controls, overrides of the direction of writing, halves of characters. Those in ``keep`` stay as they are."""
    return _each_unseen(text, keep, lambda character: "\N{REPLACEMENT CHARACTER}")


def escaped(document: str) -> str:
    """A JSON ``document`` with such characters, which can only be in its strings, as escapes of JSON: the values stay
    the same."""
    return _each_unseen(document, "\n", lambda character: json.dumps(character)[1:-1])


def sentence(text: str, most: int = MOST_CHARACTERS) -> str:
    """``text`` as one line of at most ``most`` characters, safe as by :func:`shown`."""
    start = text[: 8 * most]  # before the words are split: it may be very long
    line = shown(" ".join(start.split()))
    return line if len(line) <= most and len(start) == len(text) else line[: most - len(_CUT)] + _CUT


def plain_name(name: str) -> bool:
    """Whether ``name`` can stand in a line of a file, a command or a table: not empty, no control character."""
    return bool(name) and shown(name) == name


def _each_unseen(text: str, keep: str, instead: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    # Parts without such a character, which are nearly all, are passed on as they are.
    parts = re.split("(\n)", text)
    return "".join(part if part.isprintable() else _changed(part, keep, instead) for part in parts)


def _changed(text: str, keep: str, instead: Callable[[str], str]) -> str:
    return "".join(c if c in keep or _is_seen(c) else instead(c) for c in text)


def _is_seen(character: str) -> bool:
    # Zs: a space that is not broken, or a thin one.
    return character.isprintable() or unicodedata.category(character) == "Zs"
