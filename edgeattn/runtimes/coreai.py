"""Core AI itself, from Apple's own package: on Linux its compiler and its interpreter for the CPU; on a Mac with macOS
27 the system's framework, once for each compute unit (not run on hardware by this project's own tests).

The interpreter is for parity, and never for time: it has none of the kernels of a GPU or a Neural Engine.
"""

import asyncio
import atexit
import platform
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import EdgeAttnError, RefusedError
from edgeattn.formats.aimodel import asset
from edgeattn.formats.aimodel.edges import exposed
from edgeattn.runtimes import Observed, Runtime, Session, Signature, ValueCallback
from edgeattn.system.output import quiet

# The compute units on a Mac: the name in reports and records, and Core AI's name. It prefers a unit, and takes others
# for what that lacks; only the CPU can be had alone.
UNITS = {
    "coreai, CPU only": "cpu_only",
    "coreai, prefers GPU": "gpu",
    "coreai, prefers Neural Engine": "neural_engine",
    "coreai, default": "default",
}
# Elsewhere: what a report must say of its rows stands in the name.
INTERPRETER = {"coreai, interpreter": ""}
_ABOUT = "Apple's interpreter for the CPU, with none of the kernels of a GPU or a Neural Engine"
_FIRST_MACOS = 27

# Runs a coroutine to its end.
_Do = Callable[[Coroutine[Any, Any, Any]], Any]


def units(system: str, macos: str) -> Mapping[str, str]:
    """The variants of a machine."""
    major = macos.partition(".")[0]
    return UNITS if system == "Darwin" and major.isdecimal() and int(major) >= _FIRST_MACOS else INTERPRETER


class CoreAi(Runtime):
    format = "coreai"
    extra = "coreai"
    packages = ("coreai",)
    variants: Mapping[str, str] = units(platform.system(), platform.mac_ver()[0])
    most_labelled = 500 if variants == INTERPRETER else None
    unexamined = "Core AI decides on the device; there is no such view outside macOS"

    def unavailable(self) -> str | None:
        system = platform.system()
        return None if system in ("Darwin", "Linux") else f"Core AI runs on macOS and Linux, and this is {system}"

    def version(self) -> str:
        from importlib.metadata import version as installed

        package = f"coreai-core {installed('coreai-core')}"
        return f"{package}, {_ABOUT if self.variants == INTERPRETER else f'macOS {platform.mac_ver()[0]}'}"

    @contextmanager
    def open(self, path: Path, threads: int = 1, variant: str = "") -> Iterator[Session]:
        """Lower the asset into a temporary folder, and load it.

        Core AI chooses its own threads.

        Raises:
            RefusedError: Core AI refuses the asset.
        """
        unit = self.variants[variant or next(iter(self.variants))]
        with _event_loop() as do, _loaded(path, do, unit) as function:
            yield _Session(function, do)

    def observe(self, path: Path, inputs: Arrays, callback: ValueCallback) -> None:
        """Run a copy of ``path`` in which every value is an output; ``callback`` gets each, by its name in the program.

        Apple's logger of intermediates has the same values, and no names for them: on Linux its runtime keeps none.

        Raises:
            RefusedError: Core AI refuses the asset.
        """
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            copy = Path(scratch, f"values{path.suffix}")
            with _refusing(path):
                program = asset.load(path)
                kinds = {name: step.kind for name, step in exposed(program).items()}
                program.vendors.save_asset(copy)
            with self.open(copy) as session:
                values = session.run(inputs)
            for name, kind in kinds.items():
                callback(Observed(name, kind, values[name]))


RUNTIME: Runtime = CoreAi()


class _Session(Session):
    def __init__(self, function: Any, do: _Do) -> None:
        self.function, self.do = function, do
        told = function.desc
        # A free axis is -1, or None where the stubs are right.
        shapes = {name: tuple(told.input_descriptor(name).shape) for name in told.input_names}
        self.signature = Signature(
            {name: tuple(n if n is not None and n >= 0 else None for n in shape) for name, shape in shapes.items()},
            tuple(told.output_names),
        )

    def run(self, inputs: Arrays) -> Arrays:
        with _refusing("the file", "cannot run {} on these inputs"):
            from coreai.runtime import NDArray

            given = {name: NDArray(np.asarray(value, order="C")) for name, value in inputs.items()}
            # Copies: what it gives are views of its own memory.
            return {name: np.array(value.numpy()) for name, value in self.do(self.function(given)).items()}


@contextmanager
def _event_loop() -> Iterator[_Do]:
    """An event loop for Core AI's coroutines: in this thread, or, if one runs in it as in a notebook, in another."""
    if not _is_in_a_loop():
        with asyncio.Runner() as runner:
            yield runner.run
        return
    runner = asyncio.Runner()
    with ThreadPoolExecutor(1, "edgeattn-coreai") as thread:
        try:
            yield lambda coroutine: thread.submit(runner.run, coroutine).result()
        finally:
            thread.submit(runner.close).result()


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def _loaded(path: Path, do: _Do, unit: str) -> Iterator[Any]:
    """The function of an asset, lowered; the temporary folder of that is gone at the end."""
    _let_its_threads_end()
    with _refusing(path), quiet():
        from coreai.authoring import AIModelAsset

        asset.check(path)
        execution = AIModelAsset.load(path).executable(options(unit) if unit else None)
        model = do(execution.__aenter__())
    try:
        with _refusing(path), quiet():
            names = model.function_names
            function = model.load_function("main" if "main" in names else names[0])
        yield function
    finally:
        do(execution.__aexit__(None, None, None))


@cache
def _let_its_threads_end() -> None:
    """Once: before Python ends, let Core AI's own threads give back what they hold of it. One that still waits for it
    then aborts the process, here one in thirty (coreai-core 1.0.0b3)."""
    atexit.register(time.sleep, 0.1)


def options(unit: str) -> Any:
    """Core AI's options for one of the :data:`UNITS`."""
    from coreai.runtime import SpecializationOptions

    if unit in ("cpu_only", "default"):
        return getattr(SpecializationOptions, unit)()
    from coreai.runtime import ComputeUnitKind

    return SpecializationOptions.from_preferred_compute_unit_kind(getattr(ComputeUnitKind, unit)())


@contextmanager
def _refusing(path: object, sentence: str = "refuses {}") -> Iterator[None]:
    try:
        yield
    except EdgeAttnError:
        raise
    except Exception as error:
        raise RefusedError(f"Core AI {sentence.format(path)}: {asset.reason(error)}") from error
