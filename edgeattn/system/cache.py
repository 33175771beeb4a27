"""Folders of the user's cache: each named by a hash of its sources, complete or absent."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeattn.errors import MissingError


def home() -> Path:
    """The cache folder of edgeattn: on Linux ``~/.cache/edgeattn``, or below ``XDG_CACHE_HOME``."""
    from platformdirs import user_cache_path

    return user_cache_path("edgeattn", appauthor=False)


def folder_of(name: str, *sources: Path) -> Path:
    """The folder of the build ``name`` from the files ``sources``."""
    content = hashlib.sha256()
    for file in sources:
        content.update(file.read_bytes())
    return home() / name / content.hexdigest()[:16]


def once(folder: Path, build: Callable[[Path], None]) -> Path:
    """``folder``, made by ``build`` if it is absent: complete or not at all, by one process at a time."""
    with _locked(folder.parent):
        if not folder.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=".building.", dir=folder.parent))
            try:
                scratch.chmod(0o755)
                build(scratch)
                scratch.rename(folder)
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
    return folder


def run(doing: str, *command: object, cwd: Path | None = None) -> str:
    """Run a step of a set-up; its stdout.

    Raises:
        MissingError: it failed; ``doing`` is the step in the message.
    """
    words = [str(word) for word in command]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    process = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**clean, "LC_ALL": "C.UTF-8"}, cwd=cwd
    )
    if process.returncode:
        output = process.stderr.strip() or process.stdout.strip() or f"exit code {process.returncode}"
        raise MissingError(f"the set-up failed at {doing}: {output.splitlines()[-1]}")
    return process.stdout


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    # The lock ends with the process that holds it: a lock file that remains locks nothing.
    with FileLock(folder / "lock"):
        for leftover in folder.glob(".building.*"):  # of a process that was killed: no other process builds now
            shutil.rmtree(leftover, ignore_errors=True)
        yield
