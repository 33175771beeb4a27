"""What `edgeattn phone` sends to a browser."""

from pathlib import Path

from export.phone import setup
from export.setups import Setup
from export.steps import Say


class Phone(Setup):
    """Onnxruntime-web and LiteRT.js, for any phone's browser."""

    about = "onnxruntime-web and LiteRT.js, for any phone's browser"

    def missing(self) -> str | None:
        return setup.missing()

    def build(self, say: Say) -> Path:
        return setup.build(say)


SETUP: Setup = Phone()
