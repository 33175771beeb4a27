"""One file a set-up: what `edgeattn setup NAME` builds or fetches, once, into the cache folder of the user.

It holds ``SETUP``, a :class:`Setup`. One that a target needs has the target's name.
"""

from pathlib import Path
from typing import Protocol

from edgeattn.system.plugins import Registry
from edgeattn.system.progress import Say


class Setup(Protocol):
    """What is built before the first use; ``about`` says what that is."""

    about: str

    def missing(self) -> str | None:
        """What is not here, with the command that mends it; None if it is built."""

    def build(self, say: Say) -> Path:
        """Build it, if it is not there; the folder where it is.

        Raises:
            MissingError: what it takes is not installed, or cannot be fetched.
        """


SETUPS: Registry[Setup] = Registry(__name__, "setup")
