"""What the target ``android`` pushes to a phone."""

from pathlib import Path

from edgeattn.setups import Setup
from edgeattn.system.progress import Progress
from edgeattn.targets._runner import native


class Android(Setup):
    """The native runners of LiteRT, onnxruntime and ExecuTorch for arm64, with their libraries."""

    about = "the native runners of LiteRT, onnxruntime and ExecuTorch for arm64, with their libraries"

    def missing(self) -> str | None:
        return native.missing()

    def build(self, progress: Progress) -> Path:
        return native.build(progress).folder


SETUP: Setup = Android()
