"""What `edgeattn phone` sends to a browser."""

from pathlib import Path

from edgeattn.phone import setup
from edgeattn.setups import Setup
from edgeattn.system.progress import Progress


class Phone(Setup):
    """Onnxruntime-web and LiteRT.js, for any phone's browser."""

    about = "onnxruntime-web and LiteRT.js, for any phone's browser"

    def missing(self) -> str | None:
        return setup.missing()

    def build(self, progress: Progress) -> Path:
        return setup.build(progress)


SETUP: Setup = Phone()
