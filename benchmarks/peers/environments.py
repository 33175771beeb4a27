"""Virtual environments of the peers, and the files that come out of them: made once, in a cache folder."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeattn.errors import ConversionError
from edgeattn.system import cache as caches

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def cache() -> Path:
    """``peers`` in edgeattn's own cache folder."""
    return caches.home() / "peers"


def pins(name: str) -> bytes:
    """The exact versions that the environment ``name`` is made of."""
    return (HERE / f"{name}.txt").read_bytes()


def pinned(name: str) -> str:
    """The version of the package ``name`` in its own environment."""
    (version,) = re.findall(rf"^{name}==(\S+)$", pins(name).decode(), re.MULTILINE)
    return str(version)


def programs(name: str) -> Path:
    """The folder of programs of the environment ``name``; made if these versions are not there yet.

    Raises:
        ConversionError: a package cannot be installed.
    """
    home = cache() / f"{name}-{_digest(pins(name))}"
    installed = home / ".installed"
    if not installed.exists():
        print(f"installing {name}.txt in {home}, once", file=sys.stderr, flush=True)
        run(sys.executable, "-m", "venv", "--clear", home)
        run(home / "bin/python", "-m", "pip", "install", "--quiet", "-r", HERE / f"{name}.txt")
        installed.touch()
    return home / "bin"


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a program; edgeattn can be imported in it.

    Raises:
        ConversionError: it failed; the last line that it wrote is the reason.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        lines = done.stdout.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ConversionError(f"{Path(command[0]).name} failed: {lines[-1]}")


def cached(name: str, depends_on: Sequence[bytes], make: Callable[[Path], object]) -> Path:
    """The file ``name`` as ``make`` writes it, cached as long as ``depends_on`` is the same."""
    path = cache() / "files" / f"{_digest(*depends_on)}-{name}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            make(Path(scratch) / name)
            (Path(scratch) / name).rename(path)
    return path


def _digest(*parts: bytes) -> str:
    lengths = b"".join(b"%d " % len(part) for part in parts)
    return hashlib.sha256(lengths + b"".join(parts)).hexdigest()[:16]
