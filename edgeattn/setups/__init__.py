"""One file per set-up: `edgeattn setup NAME` downloads or builds it, once, into the user's cache folder.

Each holds ``SETUP``, a :class:`Setup`; a target's set-up has the target's name. Only ``cli`` may import it.
"""

from pathlib import Path
from typing import Protocol

from edgeattn.system.plugins import Registry
from edgeattn.system.progress import Progress


class Setup(Protocol):
    """A build before the first use; ``about`` says what it builds."""

    about: str

    def missing(self) -> str | None:
        """What is missing, with the command that fixes it; None if it is built."""

    def build(self, progress: Progress) -> Path:
        """Build it, unless it is there; return its folder.

        Raises:
            MissingError: something that the build needs is not installed, or cannot be fetched.
        """


SETUPS: Registry[Setup] = Registry(__name__, "setup")
