"""Fetches ARM packages of Debian and ARM wheels, and unpacks them into the user's cache; nothing is installed.

What is built from them goes into a folder of the cache whose name is a hash of what it is made from. The packages are
fetched by apt with a state of its own (and checked by apt against Debian's signature).
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from edgeattn.errors import MissingError

# Debian's packages that must be installed here: what each of them brings, by which it is known to be there.
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
    """Which of ``packages`` are not installed, with the command that installs them."""
    if sys.platform != "linux":
        return f"{target} is set up on Linux only, and this is {sys.platform}"
    absent = [name for name, brings in packages.items() if not (shutil.which(brings) or Path(brings).is_file())]
    if absent:
        return f"{target} needs packages of Debian 12; install them with: apt-get install -y {' '.join(absent)}"
    return None


def place(name: str, *sources: Path) -> Path:
    """The folder of the cache for what is called ``name``, and made by ``sources`` from what lies in ``arm64/``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made_from = hashlib.sha256()
    for file in (*sorted(data(".").iterdir()), Path(__file__), *sources):
        made_from.update(file.read_bytes())
    return cache / "edgeattn" / name / made_from.hexdigest()[:16]


def data(name: str) -> Path:
    """A file of the package that something is made from."""
    return Path(str(resources.files("export.targets") / "arm64" / name))


def once(place: Path, build: Callable[[Path], None]) -> Path:
    """``place``, filled by ``build`` if it is not there: whole or not at all, and by one process at a time."""
    with _locked(place.parent):
        if not place.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=".building.", dir=place.parent))
            try:
                scratch.chmod(0o755)
                build(scratch)
                scratch.rename(place)
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
    return place


def fetch_debian(root: Path, packages: Sequence[str]) -> dict[str, str]:
    """Unpack ARM packages and all that they depend on into ``root``; their versions."""
    root.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
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
        run("reading Debian's list of packages", *apt, "update")
        run(
            "fetching Debian's ARM packages",
            *(*apt, "install", "--yes", "--download-only", "--no-install-recommends", *packages),
        )
        versions = {}
        for package in sorted((state / "archives").glob("*.deb")):
            run(f"unpacking {package.name}", "dpkg-deb", "--extract", package, root)
            name, version, _ = package.stem.split("_")
            versions[name] = version.replace("%3a", ":")
    return versions


def fetch_wheels(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Unpack ARM wheels, pinned by version and hash, into ``root``; their versions."""
    import zipfile

    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        pins = [line for line in data("requirements.txt").read_text().splitlines() if line.startswith(tuple(names))]
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text("\n".join(pins) + "\n")
        platforms = [f"--platform={platform}" for platform in PLATFORMS]
        run(
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


def run(doing: str, *command: object) -> str:
    """Run a command; its stdout, or a MissingError that says at what it failed."""
    words = [str(word) for word in command]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**clean, "LC_ALL": "C.UTF-8"})
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise MissingError(f"the set-up failed at {doing}: {said}")
    return done.stdout


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
