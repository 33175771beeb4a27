"""Builds, once, the toolchain of `emulated-arm`: QEMU and the counting plugin, an ARM Python, the native runners.

All of it goes into a folder of the user's cache; nothing is installed on the machine.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from edgeattn.errors import MissingError
from edgeattn.system import cache
from edgeattn.system.progress import Progress, silent
from edgeattn.targets._runner import fetch
from edgeattn.targets._runner import native as _arm_native

# Debian's packages that must be installed here, each with a command or file of it: its presence proves the package's.
PACKAGES = {
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdio.h",
    **_arm_native.PACKAGES,
}
# QEMU is fetched too, whatever the machine has: Debian 13's takes no plugins, and QEMU 9 has another plugin interface.
HOST_PACKAGES = ("qemu-user",)
ARM_PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", *_arm_native.ARM_PACKAGES)
WHEELS = ("numpy", "onnxruntime", *_arm_native.WHEELS)
PYTHON = "usr/bin/python3.11"

_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARMV82 = f"{_ARMV8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
# Each core's part number and features in /proc/cpuinfo: runtimes choose their kernels by it, and crash on the host's.
# `max` is QEMU's sum of all extensions; it has the part number of a Neoverse V1, which has SVE too.
CPUS = {
    "cortex-a53": ("0xd03", _ARMV8),
    "cortex-a76": ("0xd0b", _ARMV82),
    "neoverse-n1": ("0xd0c", f"{_ARMV82} ssbs"),
    "max": ("0xd40", f"{_ARMV82} sha3 sm3 sm4 sha512 sve asimdfhm i8mm bf16"),
}


@dataclass(frozen=True)
class Emulator:
    """The toolchain in ``folder``."""

    folder: Path

    def root(self, cpu: str) -> Path:
        """The file tree of one core; they differ in /proc/cpuinfo alone."""
        return self.folder / "cpu" / cpu

    @property
    def qemu(self) -> list[str]:
        """The command that starts QEMU, by the loader and with the libraries that were fetched with it."""
        host = self.folder / "host"
        loader = next((host / "lib").glob("*/ld-linux-*.so.*"))
        libraries = f"{loader.parent}:{host / 'usr' / 'lib' / loader.parent.name}"
        return [str(loader), "--library-path", libraries, str(host / "usr" / "bin" / "qemu-aarch64")]

    @property
    def plugin(self) -> Path:
        return self.folder / "counter.so"

    @property
    def native(self) -> Path:
        """The native runners of LiteRT and ExecuTorch and every library that they need, in a folder that can be pushed
        to a phone."""
        return self.folder / "native"

    @property
    def versions(self) -> dict[str, str]:
        """The versions of its packages."""
        return dict(json.loads((self.folder / "versions.json").read_text()))

    def command(self, cpu: str, *, plugin: str | None = None) -> list[str]:
        """The command before an ARM program and its arguments; ``plugin`` are the counting plugin's options."""
        counting = ["-plugin", f"{self.plugin},{plugin}"] if plugin else []
        return [*self.qemu, "-cpu", cpu, "-L", str(self.root(cpu)), *counting]

    def python(self, cpu: str, *, plugin: str | None = None) -> list[str]:
        """The same, with the ARM Python."""
        return [*self.command(cpu, plugin=plugin), str(self.root(cpu) / PYTHON)]

    def runner(self, cpu: str, runtime: str, *, plugin: str | None = None) -> list[str]:
        """The same, with the native runner of a runtime, started as on a phone: by the loader in its folder."""
        return [*self.command(cpu, plugin=plugin), *_arm_native.Native(self.native).command(str(self.native), runtime)]


def missing() -> str | None:
    """What is missing, with the command that fixes it; None if a run can start."""
    if absent := _missing_packages():
        return absent
    if not _folder().is_dir():
        return "the emulated core is not set up; run: edgeattn setup emulated-arm"
    return None


def ready() -> Emulator:
    """The existing build.

    Raises:
        MissingError: there is none, or it is another version's.
    """
    if reason := missing():
        raise MissingError(reason)
    return Emulator(_folder())


def build(progress: Progress = silent) -> Emulator:
    """Build it, unless it is there; of two processes at once, one builds and the other waits.

    Raises:
        MissingError: a package of Debian is not installed, or something cannot be fetched.
    """
    if absent := _missing_packages():
        raise MissingError(absent)
    return Emulator(cache.once(_folder(), lambda folder: _build(folder, progress)))


def _missing_packages() -> str | None:
    return fetch.missing_packages("emulated-arm", PACKAGES)


def _folder() -> Path:
    return fetch.folder_of("emulated-arm", Path(__file__), Path(_arm_native.__file__))


def _build(folder: Path, progress: Progress) -> None:
    emulator = Emulator(folder)
    progress.plan(4)
    progress("fetching QEMU and Debian's ARM packages")
    architecture = cache.run("asking for this machine's architecture", "dpkg", "--print-architecture").strip()
    versions = fetch.fetch_debian(folder / "host", HOST_PACKAGES, architecture=architecture)
    versions |= fetch.fetch_debian(folder / "root", ARM_PACKAGES)
    progress("fetching the ARM wheels of numpy, onnxruntime, LiteRT and ExecuTorch")
    versions |= fetch.fetch_wheels(folder / "root", WHEELS)
    progress("compiling the counting plugin and the native runners")
    _compile(emulator)
    for cpu in CPUS:
        _make_root(folder, cpu)
    progress("first start")
    imports = "import numpy, onnxruntime, ctypes, ai_edge_litert.interpreter"
    plugin = f"out={folder}/counts"
    # Also compiles the imported modules, which takes some seconds under emulation, once and for all.
    cache.run("the first start", *emulator.python("cortex-a76", plugin=plugin), "-c", imports)
    (folder / "counts").unlink()
    (folder / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


def _compile(emulator: Emulator) -> None:
    cache.run(
        "compiling the plugin",
        *("gcc", *_arm_native.WARNINGS, "-shared", "-fPIC", "-o", emulator.plugin, fetch.data("counter.c")),
    )
    root = emulator.folder / "root"
    _arm_native.add_glibc(root, emulator.native)
    _arm_native.compile_from_wheels(root, emulator.native)


def _make_root(folder: Path, cpu: str) -> None:
    part, features = CPUS[cpu]
    root = folder / "cpu" / cpu
    (root / "proc").mkdir(parents=True)
    for entry in (folder / "root").iterdir():
        if entry.name != "proc":
            (root / entry.name).symlink_to(os.path.relpath(entry, root))
    core = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 0\n\n"
    )
    (root / "proc" / "cpuinfo").write_text("".join(f"processor\t: {i}\n{core}" for i in range(2)))
