"""Builds, once, what `emulated-arm` runs in: an ARM Python with its runtimes, the counting plugin, the native runner.

All of it goes into a folder of the user's cache whose name is a hash of what it is made from. Nothing of the machine is
changed: the ARM packages of Debian are fetched by apt with a state of its own (and checked by apt against Debian's
signature), and only unpacked.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

from edgeattn.errors import MissingError
from export import cache

# Debian's packages that must be installed here: what each of them brings, by which it is known to be there.
PACKAGES = {
    "qemu-user": "qemu-aarch64",
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdio.h",
    "gcc-aarch64-linux-gnu": "aarch64-linux-gnu-gcc",
    "libc6-dev-arm64-cross": "/usr/aarch64-linux-gnu/include/stdio.h",
    "apt": "apt-get",
    "dpkg": "dpkg-deb",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
}
# The suite is pinned, and with it Python 3.11; within it Debian replaces a package by its security fixes only.
SOURCES = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main\n"
ARM_PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
PYTHON = "usr/bin/python3.11"
DIST_PACKAGES = "usr/local/lib/python3.11/dist-packages"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64")
# What the native runner needs beside it where there is no GNU libc, as on Android.
NATIVE_LIBRARIES = ("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6")
_LIBRARY_FOLDERS = ("lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu")
# The plugin's interface is version 1 from QEMU 6.0 to 8.2.
QEMU_VERSIONS = range(6, 9)

_run = partial(cache.run, "emulated-arm")

_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARMV82 = f"{_ARMV8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
# What /proc/cpuinfo says on each core (part number, features): runtimes choose their kernels by it, and crash where the
# host's own is found. `max` is QEMU's sum of all extensions; it says the part of a Neoverse V1, which has SVE too.
CPUS = {
    "cortex-a53": ("0xd03", _ARMV8),
    "cortex-a76": ("0xd0b", _ARMV82),
    "neoverse-n1": ("0xd0c", f"{_ARMV82} ssbs"),
    "max": ("0xd40", f"{_ARMV82} sha3 sm3 sm4 sha512 sve asimdfhm i8mm bf16"),
}


@dataclass(frozen=True)
class Emulator:
    """What was built, in ``folder``."""

    folder: Path

    def root(self, cpu: str) -> Path:
        """The file tree of one core; they differ in /proc/cpuinfo alone."""
        return self.folder / "cpu" / cpu

    @property
    def plugin(self) -> Path:
        return self.folder / "counter.so"

    @property
    def native(self) -> Path:
        """The native runner and every library that it needs, in one folder that can be pushed to a phone."""
        return self.folder / "native"

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that it was made from."""
        return dict(json.loads((self.folder / "versions.json").read_text()))

    def command(self, cpu: str, *, plugin: str | None = None) -> list[str]:
        """The words that go before an ARM program and its arguments; ``plugin`` are the counting plugin's options."""
        counting = ["-plugin", f"{self.plugin},{plugin}"] if plugin else []
        return ["qemu-aarch64", "-cpu", cpu, "-L", str(self.root(cpu)), *counting]

    def python(self, cpu: str, *, plugin: str | None = None) -> list[str]:
        """The same, and the ARM Python."""
        return [*self.command(cpu, plugin=plugin), str(self.root(cpu) / PYTHON)]

    def runner(self, cpu: str, *, plugin: str | None = None) -> list[str]:
        """The same, and the native runner as it is started on a phone: by the loader that lies beside it."""
        loader = [str(self.native / NATIVE_LIBRARIES[0]), "--library-path", str(self.native)]
        return [*self.command(cpu, plugin=plugin), *loader, str(self.native / "runner")]


def missing() -> str | None:
    """What is not here, with the command that mends it; None if a run can start."""
    if absent := _missing_packages():
        return absent
    if not _place().is_dir():
        return "the emulated core is not set up; run: edgeattn setup emulated-arm"
    return None


def ready() -> Emulator:
    """What was built before.

    Raises:
        MissingError: nothing was, or it is another version's.
    """
    if reason := missing():
        raise MissingError(reason)
    return Emulator(_place())


def build(say: Callable[[str], None] = lambda _: None) -> Emulator:
    """Build it, if it is not there; of two processes at once, one builds and the other waits.

    Raises:
        MissingError: a package of Debian is not installed, or something cannot be fetched.
    """
    if absent := _missing_packages():
        raise MissingError(absent)
    place = _place()
    cache.build(place, partial(_build, say=say))
    return Emulator(place)


def _missing_packages() -> str | None:
    if sys.platform != "linux":
        return f"emulated-arm runs on Linux only (QEMU's user mode), and this is {sys.platform}"
    absent = [name for name, brings in PACKAGES.items() if not (shutil.which(brings) or Path(brings).is_file())]
    if absent:
        return f"emulated-arm needs packages of Debian 12; install them with: apt-get install -y {' '.join(absent)}"
    return None


def _place() -> Path:
    return cache.place("emulated-arm", (*sorted(_data(".").iterdir()), Path(__file__)))


def _data(name: str) -> Path:
    return Path(str(resources.files("export.targets") / "arm64" / name))


def _build(folder: Path, say: Callable[[str], None]) -> None:
    emulator = Emulator(folder)
    qemu = _run("asking qemu for its version", "qemu-aarch64", "--version").split()[2]
    if int(qemu.split(".")[0]) not in QEMU_VERSIONS:
        raise MissingError(f"counting needs QEMU 6.0 to 8.2 (Debian 12's qemu-user is 7.2), and this is {qemu}")
    say("fetching Debian's ARM packages")
    versions = {"qemu-user": qemu, **_fetch_debian(folder)}
    say("fetching the ARM wheels of numpy, onnxruntime and LiteRT")
    versions |= _fetch_wheels(folder)
    say("compiling the counting plugin and the native runner")
    _compile(emulator)
    for cpu in CPUS:
        _make_root(folder, cpu)
    say("first start")
    imports = "import numpy, onnxruntime, ctypes, ai_edge_litert.interpreter"
    plugin = f"out={folder}/counts"
    # Also compiles the imported modules, which takes some seconds under emulation, once and for all.
    _run("the first start", *emulator.python("cortex-a76", plugin=plugin), "-c", imports)
    (folder / "counts").unlink()
    (folder / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


def _fetch_debian(folder: Path) -> dict[str, str]:
    """Unpack the ARM packages and all that they depend on into ``root``; their versions."""
    root = folder / "root"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        state = Path(scratch)
        # apt reads packages as another user, if it is started as root.
        state.chmod(0o755)
        for name in ("lists/partial", "archives/partial"):
            (state / name).mkdir(parents=True)
        (state / "status").touch()
        (state / "sources.list").write_text(SOURCES)
        settings = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "root",
            "Dir::Etc::SourceList": state / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State": state,
            "Dir::State::Lists": state / "lists",
            "Dir::State::status": state / "status",
            "Dir::Cache": state,
            "Debug::NoLocking": "true",
        }
        apt = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in settings.items())]
        _run("reading Debian's list of packages", *apt, "update")
        _run(
            "fetching Debian's ARM packages",
            *(*apt, "install", "--yes", "--download-only", "--no-install-recommends", *ARM_PACKAGES),
        )
        versions = {}
        for package in sorted((state / "archives").glob("*.deb")):
            _run(f"unpacking {package.name}", "dpkg-deb", "--extract", package, root)
            name, version, _ = package.stem.split("_")
            versions[name] = version.replace("%3a", ":")
    return versions


def _fetch_wheels(folder: Path) -> dict[str, str]:
    import zipfile

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        platforms = [f"--platform={platform}" for platform in PLATFORMS]
        _run(
            "fetching the ARM wheels",
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
            *("--only-binary=:all:", "--implementation=cp", "--python-version=311", *platforms),
            *("--dest", scratch, "--requirement", _data("requirements.txt")),
        )
        versions = {}
        for wheel in sorted(Path(scratch).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder / "root" / DIST_PACKAGES)
            name, version, *_ = wheel.stem.split("-")
            versions[name.replace("_", "-")] = version
    return versions


def _compile(emulator: Emulator) -> None:
    warnings = ("-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter")
    _run("compiling the plugin", "gcc", *warnings, "-shared", "-fPIC", "-o", emulator.plugin, _data("counter.c"))
    root, native = emulator.folder / "root", emulator.native
    native.mkdir()
    shutil.copy2(root / DIST_PACKAGES / "ai_edge_litert" / "libLiteRt.so", native)
    for name in NATIVE_LIBRARIES:
        place = next(root / folder / name for folder in _LIBRARY_FOLDERS if (root / folder / name).exists())
        shutil.copy2(place, native / name)
    runner = (
        "-s",
        "-o",
        native / "runner",
        _data("runner.c"),
        f"-L{native}",
        "-lLiteRt",
        "-Wl,--allow-shlib-undefined",
    )
    _run("compiling the native runner", "aarch64-linux-gnu-gcc", *warnings, *runner)


def _make_root(folder: Path, cpu: str) -> None:
    part, features = CPUS[cpu]
    root = folder / "cpu" / cpu
    (root / "proc").mkdir(parents=True)
    for entry in (folder / "root").iterdir():
        if entry.name != "proc":
            (root / entry.name).symlink_to(f"../../root/{entry.name}")
    core = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 0\n\n"
    )
    (root / "proc" / "cpuinfo").write_text("".join(f"processor\t: {i}\n{core}" for i in range(2)))
