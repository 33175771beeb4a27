"""What a user should know of a good run: a line on stderr, so that stdout stays a document."""

import sys

from edgeattn.system.foreign import shown


def note(sentence: str) -> None:
    """Write ``sentence`` to stderr; what could not be seen on a terminal, or would steer it, is replaced."""
    sys.stderr.write(f"edgeattn: {shown(sentence)}\n")
