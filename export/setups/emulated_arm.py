"""What the target ``emulated-arm`` runs in."""

from pathlib import Path

from export.setups import Setup
from export.steps import Say
from export.targets import _arm_setup


class EmulatedArm(Setup):
    """QEMU with the counting plugin, an ARM Python, and the native runner."""

    about = "QEMU with the counting plugin, an ARM Python, and the native runner"

    def missing(self) -> str | None:
        return _arm_setup.missing()

    def build(self, say: Say) -> Path:
        return _arm_setup.build(say).folder


SETUP: Setup = EmulatedArm()
