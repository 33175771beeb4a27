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
    """An artifact that is loaded."""

    signature: Signature

    def run(self, inputs: Arrays) -> Arrays: ...


# Runs several inputs, one after the other, in one session.
RunEach = Callable[[Sequence[Arrays]], Iterable[Arrays]]


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
        examine: how it prepares a file (delegates, its optimised graph), for people; None if it does not tell, and then
            ``unexamined`` says why.
    """

    format: str
    extra: str
    packages: tuple[str, ...]
    variants: Mapping[str, str] = {}
    observe: Observe | None = None
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

    def open(self, path: Path) -> AbstractContextManager[Session]:
        """Load an artifact, as :meth:`Runtime.open` does."""
        return self.runtime.open(path, variant=self.variant)


def backends(format_: str) -> list[Backend]:
    """All backends of a format, those that are missing here too (a missing runtime once)."""
    result = []
    for name, runtime in RUNTIMES.items():
        if format_ != runtime.format:
            continue
        reason = missing(runtime)
        if reason or not runtime.variants:
            result.append(Backend(name, runtime, missing=reason or ""))
        else:
            result += [Backend(variant, runtime, variant) for variant in runtime.variants]
    return result


def missing(runtime: Runtime) -> str | None:
    """Why this runtime cannot be used here, with the command that fixes it; None if it can."""
    if not any(find_spec(package) for package in runtime.packages):
        return f"{runtime.packages[0]} is not installed; install it with: pip install 'edgeattn[{runtime.extra}]'"
    return runtime.unavailable()
