"""Fetches, once, the two runtimes that the page runs: onnxruntime-web and LiteRT.js, from npm, each file by its hash.

``npm/package-lock.json`` holds the hashes. The files that the page needs go, compressed, into a folder of the user's
cache, with their licences; the server serves that folder, and the page loads nothing from anywhere else.
"""

import gzip
import json
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from edgeattn.errors import MissingError
from edgeattn.system import cache, npm
from edgeattn.system.progress import Progress, silent

# The files that the page requests, and their paths in the packages.
_ORT, _LITERT = "onnxruntime-web/dist", "@litertjs/core"
FILES = {
    **{
        f"ort/{name}": f"{_ORT}/{name}"
        for name in (
            "ort.wasm.min.mjs",
            "ort-wasm-simd-threaded.mjs",
            "ort-wasm-simd-threaded.wasm",
            # WebGPU and WebNN are in a build of their own, twice as large.
            "ort.webgpu.min.mjs",
            "ort-wasm-simd-threaded.asyncify.mjs",
            "ort-wasm-simd-threaded.asyncify.wasm",
        )
    },
    "litert/index.js": f"{_LITERT}/dist/index.js",
    "litert/wasm-utils.js": "@litertjs/wasm-utils/dist/index.js",
    **{
        f"litert/litert_wasm_{build}internal.{suffix}": f"{_LITERT}/wasm/litert_wasm_{build}internal.{suffix}"
        # For browsers with relaxed SIMD: one thread, several, and WebGPU with some operators on the CPU (by JSPI); the
        # last for browsers without.
        for build in ("", "threaded_", "jspi_", "compat_")
        for suffix in ("js", "wasm")
    },
}
PACKAGES = {"onnxruntime-web": "onnxruntime-web", "litert.js": "@litertjs/core"}
_WHOSE = "the phone's runtimes come"
# LiteRT.js imports its helper by a package's name, which a browser resolves in a page only, not in a worker.
_BARE, _RELATIVE = b'from "@litertjs/wasm-utils"', b'from "./wasm-utils.js"'


def data(folder: str) -> Path:
    """A folder of files that come with this package: ``npm``, ``page`` or ``licences``."""
    return Path(str(resources.files("edgeattn.phone") / folder))


def missing() -> str | None:
    """What is missing, with the command that fixes it; None if the page can be served."""
    return None if _folder().is_dir() else "the phone's runtimes are not set up; run: edgeattn setup phone"


def ready() -> Path:
    """The folder of the runtimes: :data:`FILES`, each with ``.gz`` at its end, and ``versions.json``.

    Raises:
        MissingError: they were not fetched, or they are another version's.
    """
    if reason := missing():
        raise MissingError(reason)
    return _folder()


def versions(folder: Path) -> dict[str, str]:
    """The versions of the runtimes in ``folder``, by the names of :data:`PACKAGES`."""
    return dict(json.loads((folder / "versions.json").read_text()))


def build(progress: Progress = silent) -> Path:
    """Fetch the runtimes, unless they are here; return their folder.

    Raises:
        MissingError: npm is not installed, or cannot fetch them.
    """
    if missing():
        npm.installed(whose=_WHOSE)
    return cache.once(_folder(), lambda folder: _build(folder, progress))


def _folder() -> Path:
    return cache.folder_of("phone", *sorted(data("npm").iterdir()), *sorted(data("licences").iterdir()), Path(__file__))


def _build(folder: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        progress.plan(2)
        progress("fetching onnxruntime-web and LiteRT.js")
        packages = npm.fetch(data("npm"), Path(scratch), whose=_WHOSE)
        progress("compressing them")
        for name, path in FILES.items():
            content = (packages / path).read_bytes()
            if name == "litert/index.js":
                content = _with_relative_import(content)
            target = folder / f"{name}.gz"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(gzip.compress(content, mtime=0))
        package_versions = {
            name: json.loads((packages / path / "package.json").read_text())["version"]
            for name, path in PACKAGES.items()
        }
    shutil.copytree(data("licences"), folder / "licences")
    (folder / "versions.json").write_text(json.dumps(package_versions, indent=2) + "\n")


def _with_relative_import(script: bytes) -> bytes:
    if script.count(_BARE) != 1:
        raise MissingError("the set-up failed: this LiteRT.js imports other modules; update edgeattn")
    return script.replace(_BARE, _RELATIVE)
