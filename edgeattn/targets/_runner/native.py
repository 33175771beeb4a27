"""Builds the native runner for arm64, with every library that it needs, in one folder that can be pushed to a phone."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgeattn.errors import MissingError
from edgeattn.system import cache
from edgeattn.system.progress import Progress, silent
from edgeattn.targets._runner import fetch

PACKAGES = {
    "gcc-aarch64-linux-gnu": "aarch64-linux-gnu-gcc",
    "libc6-dev-arm64-cross": "/usr/aarch64-linux-gnu/include/stdio.h",
    **fetch.PACKAGES,
}
ARM_PACKAGES = ("libstdc++6",)
WHEELS = ("ai-edge-litert",)
# The libraries in the runner's folder, for systems without GNU libc, as Android; glibc's loader first.
LIBRARIES = ("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6")
_LIBRARY_FOLDERS = ("lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu")
WARNINGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter")


@dataclass(frozen=True)
class Native:
    """The build: ``folder`` holds the runner and the libraries that it loads."""

    folder: Path

    def command(self, folder: str) -> list[str]:
        """The command that starts the runner in ``folder``, a path on the device: by the loader in the same folder."""
        return [f"{folder}/{LIBRARIES[0]}", "--library-path", folder, f"{folder}/runner"]


def built() -> bool:
    return _folder().is_dir()


def missing() -> str | None:
    """What is missing, with the command that fixes it; None if the runner is built."""
    if built():
        return None
    absent = fetch.missing_packages("android", PACKAGES)
    return absent or "the runner for phones is not built; run: edgeattn setup android"


def ready() -> Native:
    """The existing build.

    Raises:
        MissingError: there is none, or it is another version's.
    """
    if reason := missing():
        raise MissingError(reason)
    return Native(_folder())


def build(progress: Progress = silent) -> Native:
    """Build it, unless it is there; of two processes at once, one builds and the other waits.

    Raises:
        MissingError: a package of Debian is not installed, or something cannot be fetched.
    """
    if absent := fetch.missing_packages("android", PACKAGES):
        raise MissingError(absent)
    return Native(cache.once(_folder(), lambda folder: _build(folder, progress)))


def compile_runner(root: Path, native: Path) -> None:
    """Put the runner into the folder ``native``, with the libraries that it needs from the file tree ``root``."""
    native.mkdir(exist_ok=True)
    shutil.copy2(root / fetch.DIST_PACKAGES / "ai_edge_litert" / "libLiteRt.so", native)
    for name in LIBRARIES:
        library = next(root / folder / name for folder in _LIBRARY_FOLDERS if (root / folder / name).exists())
        shutil.copy2(library, native / name)
    cache.run(
        "compiling the native runner",
        *("aarch64-linux-gnu-gcc", *WARNINGS, "-s", "-o", native / "runner", fetch.data("runner.c")),
        *(f"-L{native}", "-lLiteRt", "-Wl,--allow-shlib-undefined"),
    )


def _folder() -> Path:
    return fetch.folder_of("android", Path(__file__))


def _build(folder: Path, progress: Progress) -> None:
    root = folder / "root"
    progress.plan(3)
    progress("fetching Debian's ARM libraries")
    fetch.fetch_debian(root, ARM_PACKAGES)
    progress("fetching the ARM wheel of LiteRT")
    fetch.fetch_wheels(root, WHEELS)
    progress("compiling the native runner")
    compile_runner(root, folder)
    shutil.rmtree(root)
