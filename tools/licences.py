"""The licences of the Python packages that `make` installs, as their own metadata says: the table of docs/licences.md.

`python tools/licences.py` writes it, out of the environment that it runs in.
"""

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).parent.parent / "docs" / "licences.md"
OURS = "edgeattn"
# Extras of ours that a user installs; `docs` and `dev` are for those who work on edgeattn.
USERS = {"", "all", "coreai"}
DEVELOPERS = {"", "dev"}
# Whose metadata says nothing; read in their licence files.
BY_FILE = {"torchao": "BSD-3-Clause"}
HEAD = "| package | licence | for |\n|---|---|---|\n"


def table() -> str:
    """Each package, its licence, and who needs it."""
    without, users, everything = (closure(extras) for extras in ({""}, USERS, DEVELOPERS))
    rows = []
    for name in sorted(everything):
        who = "edgeattn" if name in without else "its extras" if name in users else "development"
        rows.append(f"| {name} | {licence(name)} | {who} |\n")
    return HEAD + "".join(rows)


def licence(name: str) -> str:
    """What the package's metadata says: an expression (PEP 639), classifiers, or the first line of a text.

    Raises:
        ValueError: it says nothing.
    """
    found = metadata.metadata(name)
    classifiers = [
        line.split(" :: ")[-1] for line in found.get_all("Classifier") or () if line.startswith("License ::")
    ]
    text = (found.get("License") or "").strip().split("\n")[0]
    said = found.get("License-Expression") or ", ".join(classifiers) or text or BY_FILE.get(name)
    if not said:
        raise ValueError(f"{name} says nothing of its licence: read its files, and write it into BY_FILE")
    return said


def closure(extras: set[str]) -> set[str]:
    """What edgeattn with ``extras`` needs here, and what that needs."""
    seen: set[tuple[str, str]] = set()
    waiting = [(OURS, extra) for extra in extras]
    while waiting:
        asked = waiting.pop()
        if asked not in seen:
            seen.add(asked)
            waiting += requirements(*asked)
    return {name for name, _ in seen} - {OURS}


def requirements(name: str, extra: str) -> Iterator[tuple[str, str]]:
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for one in {"", *requirement.extras}:
                yield canonicalize_name(requirement.name), one


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    return re.sub(rf"(?m)^{re.escape(HEAD)}(?:\|.*\n)*", lambda _: table(), page)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
