"""Folders of the user's cache: each named by a hash of what it is made from, there whole or not at all."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeattn.errors import MissingError


def place(name: str, made_from: Iterable[Path]) -> Path:
    """Where ``name`` is, or will be, if it is made from these files."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    content = hashlib.sha256()
    for file in made_from:
        content.update(file.read_bytes())
    return cache / "edgeattn" / name / content.hexdigest()[:16]


def build(folder: Path, make: Callable[[Path], None]) -> None:
    """Let ``make`` fill ``folder``, if it is not there; of two processes at once, one builds and the other waits."""
    with _locked(folder.parent):
        if folder.is_dir():
            return
        scratch = Path(tempfile.mkdtemp(prefix=".building.", dir=folder.parent))
        try:
            scratch.chmod(0o755)
            make(scratch)
            scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def run(name: str, doing: str, *command: object, cwd: Path | None = None) -> str:
    """Run a step of setting up ``name``; what it wrote to stdout.

    Raises:
        MissingError: it failed.
    """
    words = [str(word) for word in command]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**clean, "LC_ALL": "C.UTF-8"}, cwd=cwd
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise MissingError(f"setting up {name} failed at {doing}: {said}")
    return done.stdout


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":  # it has no such lock; the second of two renames fails, and says so
        yield
        return
    import fcntl

    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
