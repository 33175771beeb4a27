"""What the target ``emulated-arm`` runs in."""

from pathlib import Path

from edgeattn.setups import Setup
from edgeattn.system.progress import Progress
from edgeattn.targets.emulated_arm import toolchain


class EmulatedArm(Setup):
    """QEMU with the counting plugin, an ARM Python, and the native runners."""

    about = "QEMU with the counting plugin, an ARM Python, and the native runners"

    def missing(self) -> str | None:
        return toolchain.missing()

    def build(self, progress: Progress) -> Path:
        return toolchain.build(progress).folder


SETUP: Setup = EmulatedArm()
