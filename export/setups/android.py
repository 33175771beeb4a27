"""What the target ``android`` pushes to a phone."""

from pathlib import Path

from export.setups import Setup
from export.steps import Say
from export.targets import _arm_native


class Android(Setup):
    """The native runner for arm64, with its libraries."""

    about = "the native runner for arm64, with its libraries"

    def missing(self) -> str | None:
        return _arm_native.missing()

    def build(self, say: Say) -> Path:
        return _arm_native.build(say).folder


SETUP: Setup = Android()
