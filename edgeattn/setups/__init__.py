"""One file per set-up: `edgeattn setup NAME` downloads or builds it, once, into the user's cache folder.

Each holds ``SETUP``, a :class:`Setup`; a target's set-up has the target's name. Only ``cli`` may import it.
"""

from pathlib import Path
from typing import Protocol

from edgeattn.system.plugins import Registry
from edgeattn.system.progress import Progress


class Setup(Protocol):
    """What is built before the first use; ``about`` says what that is."""

    about: str

    def missing(self) -> str | None:
        """What is not here, with the command that mends it; None if it is built."""

    def build(self, progress: Progress) -> Path:
        """Build it, if it is not there; the folder where it is.

        Raises:
            MissingError: what it takes is not installed, or cannot be fetched.
        """


SETUPS: Registry[Setup] = Registry(__name__, "setup")
