"""Fetches packages of npm, each file by the hash in its lock. No script of a package runs."""

import shutil
from pathlib import Path

from edgeattn.errors import MissingError
from edgeattn.system import cache


def installed(*, whose: str) -> str:
    """The path of npm.

    Raises:
        MissingError: it is not installed; ``whose`` says what comes from there.
    """
    if npm := shutil.which("npm"):
        return npm
    raise MissingError(
        f"npm is not installed, and {whose} from there (it is needed for this alone); install Node.js with it, on "
        "Debian: apt-get install -y npm"
    )


def fetch(lock: Path, into: Path, *, whose: str) -> Path:
    """Fetch what package.json and package-lock.json in the folder ``lock`` name; return their folder, below ``into``.

    Raises:
        MissingError: npm is not installed, or cannot fetch them.
    """
    npm = installed(whose=whose)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(lock / name, into)
    cache.run("npm ci", npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=into)
    return into / "node_modules"
