"""What a user should know of a good run: a line on stderr, so that stdout stays a document."""

import sys


def note(sentence: str) -> None:
    """Write ``sentence`` to stderr; what could not be seen on a terminal, or would steer it, is replaced."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in sentence)
    sys.stderr.write(f"edgeattn: {shown}\n")
