"""C++ snippets: compiled for arm64 against the libraries that the native runners use, and run under emulation."""

import subprocess
from pathlib import Path
from unittest import mock

import pytest

from edgeattn.system import cache
from edgeattn.targets._runner import fetch, native
from edgeattn.targets.emulated_arm import toolchain

# LiteRT's wheel has no headers: these names of its own stand before the declarations of our runner.
LITERT_HEADERS = ("common", "compiled_model", "environment", "model", "opaque_options", "options", "tensor_buffer")
# One guard for all of them: `#pragma once` takes files that are alike for one only if they are of one second.
LITERT_SHIM = """#ifndef LITERT_SHIM
#define LITERT_SHIM
extern "C" {
#include "litert.h"
}
enum { kLiteRtHwAcceleratorCpu = LITERT_CPU, kLiteRtHwAcceleratorGpu = LITERT_GPU };
enum { kLiteRtTensorBufferLockModeRead = LITERT_READ, kLiteRtTensorBufferLockModeWrite = LITERT_WRITE };
#endif
"""


def onnxruntime_headers() -> Path:
    """The headers of onnxruntime 1.21, of Debian 13, in the user's cache: npm's package has none, and it only adds."""

    def build(folder: Path) -> None:
        with mock.patch.object(fetch, "SOURCES", fetch.SOURCES.replace("bookworm", "trixie")):
            fetch.fetch_debian(folder / "root", ("libonnxruntime-dev",), dependencies=False)

    return cache.once(cache.home() / "tests-onnxruntime-headers/1.21", build) / "root/usr/include/onnxruntime"


def litert_headers(folder: Path) -> Path:
    (folder / "litert/c").mkdir(parents=True)
    for name in LITERT_HEADERS:
        (folder / f"litert/c/litert_{name}.h").write_text(LITERT_SHIM)
    return folder


def compiled(code: str, folder: Path) -> list[str | Path]:
    """The command that runs a snippet under emulation, by the loader and with the libraries of our native runner; where
    Debian's packages are missing, the skip names them."""
    if absent := toolchain._missing_packages() or native.missing_packages():
        pytest.skip(absent)
    folder.mkdir()
    runtime = "onnxruntime" if "onnxruntime_cxx_api.h" in code else "litert"
    built, emulator = native.build(), toolchain.build()
    headers = onnxruntime_headers() if runtime == "onnxruntime" else litert_headers(folder)
    source, program, libraries = folder / "app.cc", folder / "app", built.folder / runtime
    source.write_text(code)
    compiler = ["aarch64-linux-gnu-g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-o", program, source]
    includes = ["-isystem", headers, "-isystem", fetch.data(".")]
    linked = [f"-L{libraries}", *(f"-l:{name}" for name in native.RUNTIMES[runtime]), "-Wl,--allow-shlib-undefined"]
    done = subprocess.run([*compiler, *includes, *linked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command = built.command(str(built.folder), runtime)
    return [*emulator.command("cortex-a76"), *command[:-1], program]


def run(command: list[str | Path], folder: Path, *words: str | Path) -> str:
    done = subprocess.run(
        [*command, *words],
        cwd=folder,
        env={"ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
