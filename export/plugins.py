"""Formats, runtimes and targets are found by their file names: one new file is one new entry."""

import pkgutil
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from edgeattn.errors import BadInputError, MissingError


@cache
def names(kind: str) -> tuple[str, ...]:
    """The plugins of a kind (``formats``, ``targets``, ``studies`` ...), sorted; ``_name.py`` is a helper of theirs."""
    package = import_module(f"export.{kind}")
    found = (info.name for info in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def get(kind: str, name: str) -> ModuleType:
    """One plugin's module, its name spelled with dashes or not; it imports its heavy packages only when it is used."""
    module = name.replace("-", "_")
    if module not in names(kind):
        spelled = ", ".join(known.replace("_", "-") for known in names(kind))
        one = "study" if kind == "studies" else kind[:-1]
        raise BadInputError(f"there is no {one} {name!r}; choose from {spelled}")
    return import_module(f"export.{kind}.{module}")


def require(*packages: str, extra: str) -> None:
    """Answer with the command that installs them, if one of these packages is missing."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingError.package(package, extra=extra)
