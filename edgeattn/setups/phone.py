"""What `edgeattn phone` sends to a browser."""

from pathlib import Path

from edgeattn.phone import setup
from edgeattn.setups import Setup
from edgeattn.system.progress import Say


class Phone(Setup):
    """Onnxruntime-web and LiteRT.js, for any phone's browser."""

    about = "onnxruntime-web and LiteRT.js, for any phone's browser"

    def missing(self) -> str | None:
        return setup.missing()

    def build(self, say: Say) -> Path:
        return setup.build(say)


SETUP: Setup = Phone()
