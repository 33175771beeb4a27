"""Fetches packages of Debian and ARM wheels, and unpacks them into the user's cache; nothing is installed.

A build from them goes into a folder of the cache that is named by a hash of its sources. apt fetches the packages, with
a state of its own, and checks them against Debian's signature.
"""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from edgeattn.system import cache

# Debian's packages that must be installed here, each with a command or file of it: its presence proves the package's.
PACKAGES = {
    "apt": "apt-get",
    "dpkg": "dpkg-deb",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
}
# The suite is pinned, and with it Python 3.11; within it Debian replaces a package by its security fixes only.
SOURCES = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main\n"
DIST_PACKAGES = "usr/local/lib/python3.11/dist-packages"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64")


def missing_packages(target: str, packages: Mapping[str, str]) -> str | None:
    """The ``packages`` that are not installed, with the command that installs them; None if all are."""
    if sys.platform != "linux":
        return f"{target} is set up on Linux only, and this is {sys.platform}"
    absent = [name for name, proof in packages.items() if not (shutil.which(proof) or Path(proof).is_file())]
    if absent:
        return f"{target} needs packages of Debian; install them with: apt-get install -y {' '.join(absent)}"
    return None


def folder_of(name: str, *scripts: Path) -> Path:
    """The cache folder of the build ``name``, made by ``scripts`` from the files of ``arm64/``."""
    return cache.folder_of(name, *sorted(data(".").iterdir()), Path(__file__), *scripts)


def data(name: str) -> Path:
    """A source file in ``arm64/``."""
    return Path(str(resources.files("edgeattn.targets._runner") / "arm64" / name))


def fetch_debian(
    root: Path, packages: Sequence[str], *, architecture: str = "arm64", dependencies: bool = True
) -> dict[str, str]:
    """Unpack packages for ``architecture``, and their dependencies, into ``root``; return their versions."""
    root.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        state = Path(scratch)
        # apt reads packages as another user if it runs as root.
        state.chmod(0o755)
        for name in ("lists/partial", "archives/partial"):
            (state / name).mkdir(parents=True)
        (state / "status").touch()
        (state / "sources.list").write_text(SOURCES)
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
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
        cache.run("reading Debian's list of packages", *apt, "update")
        archives = state / "archives"
        how = ("install", "--yes", "--download-only", "--no-install-recommends") if dependencies else ("download",)
        cache.run(f"fetching Debian's {architecture} packages", *apt, *how, *packages, cwd=archives)
        versions = {}
        for package in sorted(archives.glob("*.deb")):
            cache.run(f"unpacking {package.name}", "dpkg-deb", "--extract", package, root)
            name, version, _ = package.stem.split("_")
            versions[name] = version.replace("%3a", ":")
    return versions


def fetch_wheels(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Unpack ARM wheels, pinned by version and hash, into ``root``; return their versions."""
    import zipfile

    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        pins = [line for line in data("requirements.txt").read_text().splitlines() if line.startswith(tuple(names))]
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text("\n".join(pins) + "\n")
        platforms = [f"--platform={platform}" for platform in PLATFORMS]
        cache.run(
            "fetching the ARM wheels",
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
            *("--only-binary=:all:", "--implementation=cp", "--python-version=311", *platforms),
            *("--dest", scratch, "--requirement", wanted),
        )
        versions = {}
        for wheel in sorted(Path(scratch).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(root / DIST_PACKAGES)
            name, version, *_ = wheel.stem.split("-")
            versions[name.replace("_", "-")] = version
    return versions
