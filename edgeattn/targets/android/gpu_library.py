"""The user's GPU library: an accelerator for LiteRT, which the native runner loads, with whatever that loads itself."""

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from edgeattn.errors import BadInputError
from edgeattn.runtimes.litert_gpu import CHOSEN
from edgeattn.targets.android import elf

# Its name in a record. The arithmetic is what the accelerator chooses, so it is judged by the limits of fp16.
RUNTIME = CHOSEN
# Its name on the phone: the first of those that LiteRT looks for.
NAME = "libLiteRtGpuAccelerator.so"
FOLDER = "gpu"


@dataclass(frozen=True)
class GpuLibrary:
    """The accelerator at ``path``."""

    path: Path

    @property
    def files(self) -> dict[str, Path]:
        """What is pushed, by the names on the phone: the library, and the shared libraries and the manifests of Vulkan
        drivers beside it."""
        beside = sorted([*self.path.parent.glob("*.so*"), *self.path.parent.glob("*.json")])
        return {**{file.name: file for file in beside if file.is_file() and file != self.path}, NAME: self.path}

    def exports(self, folder: str) -> str:
        """Shell before the runner's command, with the library in ``folder`` on the phone: its Vulkan drivers, or ""."""
        drivers = ":".join(f"{folder}/{name}" for name in self.files if name.endswith(".json"))
        return f"export VK_ICD_FILENAMES={shlex.quote(drivers)} && " if drivers else ""

    @property
    def about(self) -> str:
        """Its name and hash, for a record."""
        return f"{self.path.name}, sha256 {hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]}"


def find(path: Path) -> GpuLibrary:
    """The library at ``path``.

    Raises:
        BadInputError: there is no such file, or the runner cannot load it.
    """
    option = f"--gpu-library {path}"
    elf.check(path, option)
    if elf.is_bionic(path):
        raise BadInputError(
            f"{option} is built for Android's own C library, and the native runner uses GNU's, beside which it cannot "
            "be loaded; give a build for Linux on arm64, as the one in ai-edge-litert's aarch64 wheel"
        )
    return GpuLibrary(path)
