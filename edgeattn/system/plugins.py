"""Plug-ins by file name: a new file is a new entry. Each room types the object that its files hold."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Generic, TypeVar, cast

from edgeattn.errors import BadInputError, MissingError

P = TypeVar("P")


class Registry(Generic[P]):
    """The plug-ins of one room: each is a module with one object, typed as the room's Protocol says.

    Args:
        package: the room; it is imported at the first lookup.
        kind: what messages call a plug-in; in capitals, the name of the object (``FORMAT``).
        beside: modules of the room that are no plug-ins; nor is one whose name begins with an underscore.
    """

    def __init__(self, package: str, kind: str, *, beside: tuple[str, ...] = ()) -> None:
        self.package, self.kind, self.beside = package, kind, beside

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(name for name in modules(self.package) if name not in self.beside)

    def get(self, name: str) -> P:
        """One plug-in, its name spelled with dashes or not; it imports its heavy packages only when it is used.

        Raises:
            BadInputError: no plug-in has this name.
        """
        module = name.replace("-", "_")
        if module not in self.names:
            raise BadInputError(f"there is no {self.kind} {name!r}; choose from {', '.join(map(spelled, self.names))}")
        return cast(P, vars(import_module(f"{self.package}.{module}"))[self.kind.upper()])

    def items(self) -> Iterator[tuple[str, P]]:
        """All of them by name, in the order of :attr:`names`."""
        return ((name, self.get(name)) for name in self.names)


def modules(package: str) -> tuple[str, ...]:
    """The modules of a package, sorted; not those whose name begins with an underscore, which are helpers."""
    names = (info.name for info in pkgutil.iter_modules(import_module(package).__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def spelled(name: str) -> str:
    """A name as one types it in a command."""
    return name.replace("_", "-")


def has(*packages: str) -> bool:
    """Whether all these packages are installed."""
    return all(find_spec(package) is not None for package in packages)


def require(*packages: str, extra: str) -> None:
    """Raise MissingError, with the command that installs it, if one of these packages is missing."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingError.package(package, extra=extra)
