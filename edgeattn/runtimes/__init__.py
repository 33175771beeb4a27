"""One file per runtime: it opens an artifact on this machine and runs it.

Each holds ``RUNTIME``, a :class:`Runtime`. ``targets`` and the rooms above may import it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError
from edgeattn.system.plugins import Registry


@dataclass(frozen=True)
class Signature:
    """Names and shapes that an opened artifact itself declares; a free axis is None."""

    inputs: dict[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]

    def accepts(self, inputs: Mapping[str, npt.NDArray[np.generic]]) -> bool:
        """Whether these arrays fit: the same names, and every fixed axis alike."""
        return inputs.keys() == self.inputs.keys() and all(
            len(shape) == inputs[name].ndim
            and all(n is None or n == m for n, m in zip(shape, inputs[name].shape, strict=True))
            for name, shape in self.inputs.items()
        )


@dataclass(frozen=True)
class Observed:
    """A value inside an artifact: its unique name, the op that computed it, and the array in its own dtype."""

    name: str
    op: str
    value: npt.NDArray[np.generic]


class Session(Protocol):
    """An artifact that is loaded. ``note`` is what to know of its runs so far; mostly nothing."""

    signature: Signature
    note: str = ""

    def run(self, inputs: Arrays) -> Arrays: ...


# Runs several inputs, one after the other, in one session.
RunEach = Callable[[Sequence[Arrays]], Iterable[Arrays]]


@dataclass(frozen=True)
class Left:
    """An operator that a backend does not take: its kind, the reason in the backend's words, and its name in the file,
    where the backend gives it."""

    kind: str
    reason: str
    name: str = ""


@dataclass(frozen=True)
class Share:
    """What a backend takes of a file: the number of operators, and those that it leaves to others, in the file's own
    graph or in the one that the runtime makes of it; ``taken`` is None if it could not be asked, and ``note`` says why.
    ``partitions`` are the pieces that it takes; None if it does not tell."""

    backend: str
    taken: int | None
    left: tuple[Left, ...]
    partitions: int | None
    note: str = ""


ValueCallback = Callable[[Observed], None]
Observe = Callable[[Path, Arrays, ValueCallback], None]


class Runtime(Protocol):
    """What runs the artifacts of one format here.

    Attributes:
        format: the format that it runs.
        extra: the extra of ``pip install edgeattn[...]`` that installs its packages.
        packages: it needs one of these.
        variants: the configurations in which it runs an artifact: the name in a report, and the vendor's name; empty
            where there is only one.
        observe: runs an artifact once and calls a function with every value of every op, in the order of execution;
            None if the runtime gives no access to them.
        arithmetic: the variants that may compute more coarsely than the file, by name, and the precision that they are
            judged by.
        most_labelled: of how many labelled inputs it is asked, as it takes long for each; None is all.
        on_request: whether it only runs where it is asked for by name, as it takes minutes.
        names_more: what may be written behind its name for further variants; "" if nothing may.
        share: what a variant takes of a file; None if it does not tell.
        examine: how it prepares a file (delegates, its optimised graph), for people; None if it does not tell, and then
            ``unexamined`` says why.
    """

    format: str
    extra: str
    packages: tuple[str, ...]
    variants: Mapping[str, str] = {}
    arithmetic: Mapping[str, str] = {}
    most_labelled: int | None = None
    on_request: bool = False
    observe: Observe | None = None
    names_more: str = ""
    share: Callable[[Path, str], Share] | None = None
    examine: Callable[[Path], dict[str, Any]] | None = None
    unexamined: str = "its runtime gives no such view"

    def unavailable(self) -> str | None:
        """Why it cannot be used here, though it is installed; None if it can."""
        ...

    def version(self) -> str: ...

    def open(self, path: Path, threads: int = 1, variant: str = "") -> AbstractContextManager[Session]:
        """Load an artifact, to run it as ``variant``, one of :attr:`variants`; the first where it is "".

        Raises:
            ArtifactError: it refuses the file.
            MissingError: something that this file needs is not installed.
        """
        ...


RUNTIMES: Registry[Runtime] = Registry(__name__, "runtime")


@dataclass(frozen=True)
class Backend:
    """A runtime, or a variant of one, on this machine; ``label`` is its name in a report.

    ``missing`` says why it cannot be used, with the command that fixes it; empty if it can.
    """

    label: str
    runtime: Runtime
    variant: str = ""
    missing: str = ""

    @property
    def arithmetic(self) -> str:
        """The precision by which files that are finer are judged in it; "" where it computes as the file says."""
        return self.runtime.arithmetic.get(self.variant, "")

    def open(self, path: Path) -> AbstractContextManager[Session]:
        """Load an artifact, as :meth:`Runtime.open` does."""
        return self.runtime.open(path, variant=self.variant)


def backends(format_: str, chosen: Sequence[str] = ()) -> list[Backend]:
    """The backends of a format, those that are missing here too (a missing runtime once).

    Args:
        chosen: names of backends, or of runtimes for all of theirs; none means all but those on request.
    """
    result = []
    for name, runtime in RUNTIMES.items():
        if format_ != runtime.format:
            continue
        wanted = meant(name, runtime, chosen)
        further = [n for n in chosen if runtime.names_more and n.startswith(f"{name} ")]
        reason = missing(runtime) if wanted or further else None
        if reason:
            result.append(Backend(name, runtime, missing=reason))
        else:
            result += [Backend(each, runtime, each if runtime.variants else "") for each in wanted]
            result += [Backend(each, runtime, each.removeprefix(f"{name} ")) for each in further]
    return result


def meant(name: str, runtime: Runtime, chosen: Sequence[str]) -> tuple[str, ...]:
    """The backends of a runtime that ``chosen`` means, as for :func:`backends`, by their names."""
    names = tuple(runtime.variants) or (name,)
    if not chosen:
        return () if runtime.on_request else names
    return names if name in chosen else tuple(each for each in names if each in chosen)


def arithmetic(label: str) -> str:
    """The precision by which files that are finer are judged in the backend of this name; "" where it computes as the
    file says, and for names of other machines' backends."""
    return next((each for _, runtime in RUNTIMES.items() if (each := runtime.arithmetic.get(label, ""))), "")


def known_backends() -> dict[str, tuple[str, ...]]:
    """The names that may be chosen, with the formats that they run."""
    names: dict[str, tuple[str, ...]] = {}
    for name, runtime in RUNTIMES.items():
        for each in dict.fromkeys((name, *runtime.variants)):
            names[each] = (*names.get(each, ()), runtime.format)
    return names


def check(chosen: Sequence[str]) -> None:
    """Raise BadInputError for a name that no backend has."""
    known = known_backends()
    more = tuple(f"{name} " for name, runtime in RUNTIMES.items() if runtime.names_more)
    for name in chosen:
        if name not in known and not name.startswith(more):
            raise BadInputError(f"there is no backend {name!r}; choose from {', '.join(map(repr, known))}")


def missing(runtime: Runtime) -> str | None:
    """Why this runtime cannot be used here, with the command that fixes it; None if it can."""
    if not any(find_spec(package) for package in runtime.packages):
        return f"{runtime.packages[0]} is not installed; install it with: pip install 'edgeattn[{runtime.extra}]'"
    return runtime.unavailable()
