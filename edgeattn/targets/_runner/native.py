"""Builds the native runners for arm64, one for each runtime, with every library that they need, in folders that can be
pushed to a phone.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeattn.errors import MissingError
from edgeattn.system import cache, npm
from edgeattn.system.progress import Progress, silent
from edgeattn.targets._runner import fetch

# What compiles a runner; and what the build for phones needs beyond.
PACKAGES = {
    "gcc-aarch64-linux-gnu": "aarch64-linux-gnu-gcc",
    "g++-aarch64-linux-gnu": "aarch64-linux-gnu-g++",
    "libc6-dev-arm64-cross": "/usr/aarch64-linux-gnu/include/stdio.h",
    **fetch.PACKAGES,
}
_PHONE_PACKAGES = {**PACKAGES, "npm": "npm"}
ARM_PACKAGES = ("libstdc++6",)
WHEELS = ("ai-edge-litert", "executorch")
# A runtime's own libraries, in the folder of its runner.
RUNTIMES = {
    "litert": ("libLiteRt.so",),
    "onnxruntime": ("libonnxruntime.so.1",),
    "executorch": tuple(
        f"libexecutorch{part}.so" for part in ("", "_threadpool", "_backend_xnnpack", "_kernels_optimized")
    ),
}
RUNTIME_OF = {".tflite": "litert", ".onnx": "onnxruntime", ".pte": "executorch"}
# Where a wheel has them.
_IN_WHEELS = {"litert": "ai_edge_litert", "executorch": "executorch/lib"}
_ONNXRUNTIME = "onnxruntime-node/bin/napi-v6/linux/arm64"
# What all need of GNU's libc, for systems without, as Android; glibc's loader first.
GLIBC = "glibc"
LIBRARIES = (
    "ld-linux-aarch64.so.1",
    *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1", "libstdc++.so.6"),
)
_LIBRARY_FOLDERS = ("lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu")
WARNINGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter")


@dataclass(frozen=True)
class Native:
    """The build: ``folder`` has a folder :data:`GLIBC`, and one for each of its runtimes, with its runner."""

    folder: Path

    def command(self, folder: str, runtime: str, *, further: Sequence[str] = ()) -> list[str]:
        """The command for the runner of ``runtime`` in ``folder``, an absolute path on the device: by the loader there.
        ``further`` are folders with libraries that it may load."""
        libraries = ":".join([f"{folder}/{GLIBC}", f"{folder}/{runtime}", *further])
        return [f"{folder}/{GLIBC}/{LIBRARIES[0]}", "--library-path", libraries, f"{folder}/{runtime}/runner"]


def built() -> bool:
    return _folder().is_dir()


def missing() -> str | None:
    """What is missing, with the command that fixes it; None if the runner is built."""
    if built():
        return None
    return missing_packages() or "the runners for phones are not built; run: edgeattn setup android"


def missing_packages() -> str | None:
    """The packages that the build needs and that are not installed, with the command that installs them."""
    return fetch.missing_packages("android", _PHONE_PACKAGES)


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
    if absent := missing_packages():
        raise MissingError(absent)
    return Native(cache.once(_folder(), lambda folder: _build(folder, progress)))


def add_glibc(root: Path, native: Path) -> None:
    """Put what the runners need of GNU's libc into the folder ``native``, from the file tree ``root``."""
    (native / GLIBC).mkdir(parents=True)
    for name in LIBRARIES:
        library = next(root / folder / name for folder in _LIBRARY_FOLDERS if (root / folder / name).exists())
        shutil.copy2(library, native / GLIBC / name)


def compile_from_wheels(root: Path, native: Path) -> None:
    """Put the runners whose runtimes have wheels (:data:`WHEELS`) into the folder ``native``, from the file tree
    ``root``."""
    wheels = root / fetch.DIST_PACKAGES
    for runtime, folder in _IN_WHEELS.items():
        _compile(runtime, wheels / folder, native, headers=wheels / folder / "../include")


def arguments(runtime: str, folder: Path, runner: Path, *, headers: Path | None = None) -> list[object]:
    """A compiler's arguments for the runner of ``runtime``, linked with that runtime's libraries in ``folder``.
    ``headers`` are needed where its interface is in C++."""
    source = next(file for file in fetch.data(".").iterdir() if file.stem == runtime and file.suffix in (".c", ".cc"))
    # Not as needed: what registers itself is called by no name.
    linked: list[object] = [
        f"-L{folder}",
        "-Wl,--no-as-needed",
        *(f"-l:{name}" for name in RUNTIMES[runtime]),
        "-Wl,--as-needed",
    ]
    if source.suffix == ".cc":
        assert headers
        portable = headers / "executorch/runtime/core/portable_type/c10"
        linked += ["-isystem", headers, "-isystem", portable, "-DC10_USING_CUSTOM_GENERATED_MACROS", "-lstdc++"]
    sources = [*map(fetch.data, ("runner.c", "job.c")), source]
    return ["-O2", "-s", "-o", runner, *sources, *linked, "-Wl,--allow-shlib-undefined", "-ldl"]


def _compile(runtime: str, libraries: Path, native: Path, *, headers: Path | None = None) -> None:
    """Put a runner into the folder ``native``, with its runtime's libraries of the folder ``libraries``."""
    folder = native / runtime
    folder.mkdir(parents=True)
    for name in RUNTIMES[runtime]:
        shutil.copy2(libraries / name, folder)
    cache.run(
        f"compiling the native runner of {runtime}",
        *("aarch64-linux-gnu-gcc", *WARNINGS, *arguments(runtime, folder, folder / "runner", headers=headers)),
    )


def _folder() -> Path:
    return fetch.folder_of("android", Path(__file__))


def _build(folder: Path, progress: Progress) -> None:
    root = folder / "root"
    progress.plan(4)
    progress("fetching Debian's ARM libraries")
    fetch.fetch_debian(root, ARM_PACKAGES)
    progress("fetching the ARM wheels of LiteRT and ExecuTorch")
    fetch.fetch_wheels(root, WHEELS)
    progress("fetching onnxruntime's library")
    packages = npm.fetch(fetch.data("."), root, whose="onnxruntime's library comes")
    progress("compiling the native runners")
    add_glibc(root, folder)
    compile_from_wheels(root, folder)
    _compile("onnxruntime", packages / _ONNXRUNTIME, folder)
    shutil.rmtree(root)
