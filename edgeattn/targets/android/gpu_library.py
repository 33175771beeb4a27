"""The user's GPU library: an accelerator for LiteRT, which a native runner loads, with whatever that loads itself.

A library for Android needs Android's own C library, and a process has one: so its runner is compiled for that one too,
by the user's NDK, and linked with the LiteRT beside it. One for Linux on arm64 is loaded by the runner that phones get
otherwise; it needs a Vulkan driver for Linux beside it.
"""

import hashlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from edgeattn.errors import BadInputError, MissingError
from edgeattn.runtimes.litert_gpu import CHOSEN
from edgeattn.system import cache
from edgeattn.targets._runner import fetch, native
from edgeattn.targets.android import elf

# Its name in a record. The arithmetic is what the accelerator chooses, so it is judged by the limits of fp16.
RUNTIME = CHOSEN
# Its name on the phone: the first of those that LiteRT looks for.
NAME = "libLiteRtGpuAccelerator.so"
FOLDER, RUNNER = "gpu", "runner"
_NDK = ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")
# The oldest Android that the runner is for: 8.0.
_API = 26


@dataclass(frozen=True)
class GpuLibrary:
    """The accelerator at ``path``. ``runner`` is a native runner for Android's own C library; None: the usual one."""

    path: Path
    runner: Path | None

    @property
    def files(self) -> dict[str, Path]:
        """What is pushed, by the names on the phone: the library, and the shared libraries and the manifests of Vulkan
        drivers beside it."""
        beside = sorted([*self.path.parent.glob("*.so*"), *self.path.parent.glob("*.json")])
        found = {file.name: file for file in beside if file.is_file() and file != self.path}
        return {**found, NAME: self.path, **({RUNNER: self.runner} if self.runner else {})}

    def exports(self, folder: str) -> str:
        """Shell before the runner's command, with the files in ``folder`` on the phone; or ""."""
        drivers = ":".join(f"{folder}/{name}" for name in self.files if name.endswith(".json"))
        variables = {
            **({"LD_LIBRARY_PATH": folder} if self.runner else {}),
            **({"VK_ICD_FILENAMES": drivers} if drivers else {}),
        }
        return "".join(f"export {name}={shlex.quote(value)} && " for name, value in variables.items())

    @property
    def litert_version(self) -> str:
        """The version of a LiteRT of the user's, which does not tell it, by its hash; "" for ours."""
        return f"sha256 {_digits(self.path.with_name(_LITERT))}" if self.runner else ""

    @property
    def about(self) -> str:
        """Its name and hash, for a record."""
        return f"{self.path.name}, sha256 {_digits(self.path)}"


(_LITERT,) = native.RUNTIMES["litert"]


def find(path: Path) -> GpuLibrary:
    """The library at ``path``, with a runner for it.

    Raises:
        BadInputError: there is no such file, or it lacks its LiteRT.
        MissingError: there is no NDK, or it does not compile the runner.
    """
    option = f"--gpu-library {path}"
    elf.check(path, option)
    if not elf.is_bionic(path):
        return GpuLibrary(path, None)
    litert = path.with_name(_LITERT)
    if not litert.is_file():
        raise BadInputError(f"{option} is built for Android, and needs the {_LITERT} of the same release beside it")
    elf.check(litert, f"{_LITERT} beside {option}")
    sources = [*sorted(fetch.data(".").iterdir()), Path(__file__), litert]
    folder = cache.folder_of("android-gpu", *sources)
    clang = _clang(option) if not folder.is_dir() else ""
    return GpuLibrary(path, cache.once(folder, lambda scratch: _compile(clang, litert, scratch)) / RUNNER)


def _clang(option: str) -> str:
    ndk = next((value for name in _NDK if (value := os.environ.get(name))), "")
    found = sorted(Path(ndk).glob("toolchains/llvm/prebuilt/*/bin/clang")) if ndk else []
    if not found:
        raise MissingError(
            f"{option} is built for Android, and a runner that can load it is compiled by an Android NDK; set "
            f"{_NDK[0]} to the folder of one"
        )
    return str(found[0])


def _compile(clang: str, litert: Path, folder: Path) -> None:
    runner = native.arguments("litert", litert.parent, folder / RUNNER)
    cache.run("compiling the native runner for Android", clang, f"--target=aarch64-linux-android{_API}", *runner)


def _digits(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
