"""Core ML's ML programs, executed op by op in PyTorch from the saved file: on any machine.

It is the arithmetic of the program as it is written (``edgeattn.formats.mil``), and not Apple's: none of Core ML's
kernels, fusions, reduced precision or compute units.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError
from edgeattn.runtimes import Observed, Runtime, Session, Signature, ValueCallback

if TYPE_CHECKING:
    from edgeattn.formats.mil.program import Program


class MilReference(Runtime):
    format = "coreml"
    extra = "coreml"
    packages = ("coremltools",)

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        from importlib.metadata import version as installed

        return f"torch {installed('torch')}"

    @contextmanager
    def open(self, path: Path, threads: int = 1, variant: str = "") -> Iterator[Session]:
        with opened(path, threads) as session:
            yield session

    def observe(self, path: Path, inputs: Arrays, callback: ValueCallback) -> None:
        """Run ``path`` once; ``callback`` gets every value, under its name in the program.

        Raises:
            ArtifactError: the package is damaged.
            MissingError: the program has an op that is not known here.
        """
        with opened(path) as session:
            session.run_observed(inputs, callback)


RUNTIME: Runtime = MilReference()


@contextmanager
def opened(path: Path, threads: int = 1) -> Iterator["Execution"]:
    """Load ``path``; its weights are mapped and decoded once.

    Raises:
        ArtifactError: the package is damaged.
        MissingError: the program has an op that is not known here.
    """
    import torch

    from edgeattn.formats.mil.program import load

    program, before = load(path), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield Execution(program)
    finally:
        torch.set_num_threads(before)


class Execution(Session):
    """A loaded program, which gives access to its inner values."""

    def __init__(self, program: "Program") -> None:
        self.program = program
        self.signature = Signature({name: program.types[name].shape for name in program.inputs}, program.outputs)

    def run(self, inputs: Arrays) -> Arrays:
        return self.run_observed(inputs, None)

    def run_observed(self, inputs: Arrays, callback: ValueCallback | None) -> Arrays:
        """Run, and call ``callback`` with every value of an op as it is computed; no value is kept for it.

        Raises:
            BadInputError: the inputs are not the program's.
            ArtifactError: the program is not sound.
        """
        import torch

        if not self.signature.accepts(inputs):
            raise BadInputError(f"the program takes {self.signature.inputs}; give arrays of these names and shapes")
        tensors = {}
        for name in self.program.inputs:
            kind = self.program.types[name]
            if not np.can_cast(inputs[name].dtype, kind.dtype.numpy, "same_kind"):
                raise BadInputError(f"input {name} is {inputs[name].dtype}, but the program takes {kind.dtype.name}")
            tensors[name] = torch.tensor(inputs[name].astype(kind.dtype.numpy))

        def report(step: Any, name: str, value: Any) -> None:
            if callback is not None:
                callback(Observed(name, step.op, self._array(name, value)))

        results = self.program.run(tensors, report)
        # Copies: an output may be a view of a constant.
        return {name: self._array(name, value).copy() for name, value in results.items()}

    def _array(self, name: str, value: Any) -> npt.NDArray[np.generic]:
        array: npt.NDArray[np.generic] = value.numpy()
        # Unsigned integers of 16 bits and more are carried in wider ones.
        return array.astype(self.program.types[name].dtype.numpy, copy=False)
