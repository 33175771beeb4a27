"""LiteRT's GPU accelerator, which is in the package: WebGPU, on Vulkan, Metal or Direct3D; on any machine with a Vulkan
driver, one in software too.

It runs in a process of its own (``_litert_gpu_child.py``): a driver may crash, hang, and write to both streams.
"""

import io
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ctypes.util import find_library
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import MissingError, RefusedError
from edgeattn.runtimes import Left, Runtime, Session, Share, Signature, ValueCallback, _litert_gpu_child
from edgeattn.runtimes.litert import Observer, as_declared
from edgeattn.system.foreign import sentence

# The name in a report, and the arithmetic that is asked for: fp32, or what the accelerator chooses by itself.
FP32, CHOSEN = "litert gpu, fp32", "litert gpu"
# Chromium brings a driver in software. It is taken where no other one is installed.
_SOFTWARE = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
_DRIVERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d")
# Compiling a large model for a driver in software takes a minute; a driver that hangs is not waited for without end.
_LIMIT_S = 600
_LOG_BYTES = 2**20


class LiteRtGpu(Runtime):
    format = "tflite"
    extra = "tflite"
    packages = ("ai_edge_litert",)
    variants: Mapping[str, str] = {FP32: "fp32", CHOSEN: "fp16"}
    arithmetic: Mapping[str, str] = {CHOSEN: "fp16"}
    on_request = True

    def unavailable(self) -> str | None:
        if sys.platform != "linux":
            return None  # Metal or Direct3D, which the system has
        if not find_library("vulkan"):
            return "there is no Vulkan; install it with: apt-get install -y libvulkan1"
        if not environment():
            return (
                "there is no Vulkan driver; install that of your GPU, or one in software: apt-get install -y chromium"
            )
        return None

    def version(self) -> str:
        from importlib.metadata import version as installed

        return installed("ai-edge-litert")

    @contextmanager
    def open(self, path: Path, threads: int = 1, variant: str = "") -> Iterator[Session]:
        """Load ``path`` on the accelerator, with LiteRT's CPU kernels for what it leaves.

        Raises:
            RefusedError: it refuses the file, crashes or hangs.
            MissingError: there is no GPU, and no driver.
        """
        with _child(path, self.variants[variant or FP32]) as session:
            yield session

    def observe(self, path: Path, inputs: Arrays, callback: ValueCallback) -> None:
        """Run a copy of ``path`` in which every value is an output; as :meth:`LiteRt.observe`, in fp32."""
        observer = Observer(path)
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(observer.content)
            with _child(copy, "fp32") as session:
                values = session.run(inputs)
        by_number = {observer.numbers[name]: value for name, value in values.items()}
        for index in observer.ops:  # in the order of execution
            if index in by_number:
                callback(observer.observed(index, by_number[index]))

    def share(self, path: Path, variant: str = "") -> Share:
        """The operators that it takes, and for each that it leaves the reason in its own words."""
        with _child(path, self.variants[variant or FP32]) as session:
            return replace(session.share, backend=variant or FP32)


RUNTIME: Runtime = LiteRtGpu()


def environment() -> dict[str, str] | None:
    """What a process needs to find a driver; None if there is none."""
    own = "VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES"
    if any(os.environ.get(name) for name in own) or any(
        Path(folder).is_dir() and any(Path(folder).iterdir()) for folder in _DRIVERS
    ):
        return dict(os.environ)
    return os.environ | {"VK_ICD_FILENAMES": str(_SOFTWARE)} if _SOFTWARE.exists() else None


def in_software() -> str:
    """A warning if the driver that :func:`environment` finds is Chromium's, in software; "" otherwise."""
    if str(_SOFTWARE) not in (environment() or {}).get("VK_ICD_FILENAMES", ""):
        return ""
    return "its GPU is a driver in software (SwiftShader): these times are no GPU's"


@contextmanager
def _child(path: Path, precision: str) -> Iterator["_Session"]:
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-P", "-W", "ignore", _litert_gpu_child.__file__, str(path.absolute()), precision]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, env=environment())
        try:
            yield _Session(path, process, log)
        finally:
            process.kill()
            process.communicate()


class _Session(Session):
    def __init__(self, path: Path, process: "subprocess.Popen[bytes]", log: Any) -> None:
        self.path, self.process, self.log = path, process, log
        about = self._answer()
        self.signature = Signature({n: tuple(shape) for n, shape in about["inputs"].items()}, tuple(about["outputs"]))
        self.types = about["types"]
        self.share = _share(self._text(), about["operators"], alone=about["alone"])
        self.note = "" if about["alone"] else f"{len(self.share.left)} operators are not on the GPU"

    def run(self, inputs: Arrays) -> Arrays:
        with io.BytesIO() as content:
            given = {n: as_declared(x, np.dtype(self.types[n])) if n in self.types else x for n, x in inputs.items()}
            np.savez(content, **given)  # type: ignore[arg-type]  # arrays by name
            with suppress(BrokenPipeError):  # its end is told below
                assert self.process.stdin is not None
                _litert_gpu_child.write(self.process.stdin, content.getvalue())
        answer = self._answer()
        assert self.process.stdout is not None
        if answer["finer"]:
            self.note = "it computes in fp32: this driver has no 16-bit arithmetic, or does not use it"
        with np.load(io.BytesIO(_litert_gpu_child.read(self.process.stdout)), allow_pickle=False) as found:
            return dict(found)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], _LIMIT_S)[0]:
            self.process.kill()
            raise RefusedError(f"LiteRT's GPU accelerator did not come to an end with {self.path} within {_LIMIT_S} s")
        content = _litert_gpu_child.read(self.process.stdout)
        if not content:
            code = self.process.wait()
            raise RefusedError(f"LiteRT's GPU accelerator ended the process that ran {self.path} (code {code})")
        answer: dict[str, Any] = json.loads(content)
        if "error" not in answer:
            return answer
        text = self._text()
        if "No adapters found" in text or "GPU accelerator could not be loaded" in text:
            raise MissingError(
                "there is no GPU that its Vulkan driver knows; one in software: apt-get install -y chromium"
            )
        raise RefusedError(f"LiteRT's GPU accelerator refuses {self.path}: {sentence(answer['error'], 200)}")

    def _text(self) -> str:
        self.log.seek(0)
        text: str = self.log.read(_LOG_BYTES).decode(errors="replace")
        return text


def _share(log: str, operators: int, *, alone: bool) -> Share:
    """What the accelerator says of the operators that it leaves to the CPU."""
    adapter = re.search(r"Selected adapter: ([^,\n]+)", log)
    note = f"on {sentence(adapter[1], 80)}" if adapter else ""
    text = log.partition(_litert_gpu_child.WITH_CPU)[2] if not alone else log
    counted = re.search(r"(\d+) operations will run on the GPU, and the remaining (\d+) operations", text)
    listed = re.search(r"not supported by GPU delegate:\n((?:[A-Z_0-9]+: .*\n)*)", text)
    left = tuple(
        Left(kind, sentence(reason, 200), sentence(name, 200))
        for kind, reason, name in re.findall(
            r"^([A-Z_0-9]+): (.*?)(?:(?<=\.) (\S*[./;]\S*))?$", listed[1] if listed else "", re.MULTILINE
        )
    )
    if alone or not counted:
        return Share(CHOSEN, operators - len(left), left, None, note)
    taken, number = int(counted[1]), int(counted[2])
    # Of operators that it leaves for the same reason it names one.
    more = tuple(Left("", "for one of these reasons") for _ in range(number - len(left)))
    return Share(CHOSEN, taken, (*left, *more), None, note)
