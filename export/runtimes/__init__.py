"""One file a runtime: it opens an artifact and runs it.

A runtime is a module with ``FORMAT``, ``EXTRA``, ``PACKAGES``, ``unavailable() -> reason or None``, ``version()`` and
``open(path, threads=1)``, a context manager whose value has ``signature`` and ``run(inputs) -> outputs`` (arrays).
One that can show what is computed inside has ``observe(path, inputs, see)``: it runs once and calls ``see`` with every
value of every op, an :class:`Observed`, in the order of execution.
One that runs an artifact in several ways has ``VARIANTS``, and its ``open`` takes ``variant``, one of these names.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeattn.errors import ArtifactError
from export import plugins
from export.bundle import Tensor

Arrays = dict[str, npt.NDArray[np.generic]]


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
    """A value inside an artifact: its name, which is unique there, the op that gave it, itself in its own type."""

    name: str
    op: str
    value: npt.NDArray[np.generic]


class Session(Protocol):
    """An artifact that is loaded."""

    signature: Signature

    def run(self, inputs: Arrays) -> Arrays: ...


# Several inputs, run one after the other in one session.
RunEach = Callable[[Sequence[Arrays]], Iterable[Arrays]]


def as_layout(value: npt.NDArray[np.generic], tensor: Tensor) -> npt.NDArray[np.generic]:
    """A channels-first array as an artifact's input or output wants it.

    Raises:
        ArtifactError: it has not the four axes of that layout.
    """
    if tensor.layout == "channels_last" and value.ndim != 4:
        raise ArtifactError(f"{tensor.name} is channels-last in the manifest, but has {value.ndim} axes and not 4")
    return np.ascontiguousarray(value.transpose(0, 2, 3, 1)) if tensor.layout == "channels_last" else value


def to_edge(value: npt.NDArray[np.generic], tensor: Tensor) -> npt.NDArray[np.generic]:
    """A channels-first array as an artifact takes it: in its layout, and in its type or its steps."""
    laid = as_layout(value, tensor)
    if tensor.scale is not None and tensor.zero_point is not None:
        ends = np.iinfo(tensor.dtype)
        steps = np.round(laid.astype(np.float64) / tensor.scale) + tensor.zero_point
        return np.clip(steps, ends.min, ends.max).astype(tensor.dtype)
    return laid.astype(np.float16) if tensor.dtype == "float16" else laid


def from_edge(value: npt.NDArray[np.generic], tensor: Tensor, like: np.dtype[Any]) -> npt.NDArray[np.generic]:
    """What an artifact gives, as values of the reference's type ``like``; if it is not what is declared, as it is."""
    if value.dtype != tensor.dtype or value.dtype == like:
        return value
    if tensor.scale is not None and tensor.zero_point is not None:
        return ((value.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(like)
    return value.astype(like) if tensor.dtype == "float16" else value


@dataclass(frozen=True)
class Way:
    """One way to run an artifact here: a runtime, or a variant of one, by the name that a report gives it.

    ``missing`` says why it cannot be used, with the command that mends it; empty if it can.
    """

    label: str
    runtime: ModuleType
    open: Callable[[Path], AbstractContextManager[Session]]
    missing: str = ""


def ways(format_: str) -> list[Way]:
    """All ways to run an artifact of a format, those that are missing here too (a missing runtime once)."""
    found = []
    for name in plugins.names("runtimes"):
        runtime = plugins.get("runtimes", name)
        if format_ != runtime.FORMAT:
            continue
        reason = missing(runtime)
        if reason or not hasattr(runtime, "VARIANTS"):
            found.append(Way(name, runtime, runtime.open, reason or ""))
        else:
            found += [Way(v, runtime, partial(runtime.open, variant=v)) for v in runtime.VARIANTS]
    return found


def missing(runtime: ModuleType) -> str | None:
    """Why this runtime cannot be used here, with the command that mends it; None if it can."""
    if not any(find_spec(package) for package in runtime.PACKAGES):
        return f"{runtime.PACKAGES[0]} is not installed; install it with: pip install 'edgeattn[{runtime.EXTRA}]'"
    reason: str | None = runtime.unavailable()
    return reason
