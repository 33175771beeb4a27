"""Folders of the user's cache: each named by a hash of what it is made from, there whole or not at all."""

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
    """The folder of all that edgeattn keeps: on Linux ``~/.cache/edgeattn``, or below ``XDG_CACHE_HOME``."""
    from platformdirs import user_cache_path

    return user_cache_path("edgeattn", appauthor=False)


def place(name: str, *made_from: Path) -> Path:
    """The folder for what is called ``name`` and made from these files."""
    content = hashlib.sha256()
    for file in made_from:
        content.update(file.read_bytes())
    return home() / name / content.hexdigest()[:16]


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


def run(doing: str, *command: object, cwd: Path | None = None) -> str:
    """Run a step of a set-up; its stdout.

    Raises:
        MissingError: it failed at what it was ``doing``.
    """
    words = [str(word) for word in command]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**clean, "LC_ALL": "C.UTF-8"}, cwd=cwd
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise MissingError(f"the set-up failed at {doing}: {said}")
    return done.stdout


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    # The system's lock ends with the process that holds it: a lock file that stays behind locks nothing.
    with FileLock(folder / "lock"):
        for left in folder.glob(".building.*"):  # by a process that was killed: no other one builds now
            shutil.rmtree(left, ignore_errors=True)
        yield
