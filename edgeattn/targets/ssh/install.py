"""Makes a virtual environment on a board with the runtimes, if possible in this machine's versions."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata

from edgeattn.errors import MissingError
from edgeattn.system.foreign import sentence
from edgeattn.system.progress import Progress
from edgeattn.targets.ssh.connection import Session

# By the runtime's name: the packages to try, in order. tflite-runtime, all that 32-bit boards have, ended at 2.14.0.
PACKAGES = {
    "onnxruntime": (("onnxruntime",),),
    "litert": (("ai-edge-litert",), ("tflite-runtime==2.14.0", "numpy<2")),
}
# Wheels alone: a board would compile for hours. No cache: its card is small.
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--only-binary=:all:")


def install(board: Session, python: str, folder: str, runtimes: Sequence[str], progress: Progress) -> None:
    """Make the environment ``folder``, replacing an old one, and install as many of ``runtimes`` as possible.

    If nothing can be installed, or the user interrupts, nothing stays on the board.

    Raises:
        MissingError: no environment can be made there, or no runtime can be installed.
    """
    with board.scratch(folder):
        failure = _run(board, [python, "-m", "venv", "--clear", folder], progress)
        if failure is not None:
            raise MissingError(
                f"{board.address} could make no virtual environment ({failure}); install what it takes there: "
                "apt-get install python3-venv"
            )
        failures = [_install(board, f"{folder}/bin/python", runtime, progress) for runtime in runtimes]
        if all(failures):
            raise MissingError(f"{board.address} could install no runtime: {'; '.join(filter(None, failures))}")


def _install(board: Session, python: str, runtime: str, progress: Progress) -> str | None:
    """Install the first of the runtime's packages that can be installed; why none can, or None."""
    failure = None
    for requirements in _attempts(runtime):
        failure = _run(board, [python, *PIP, *requirements], progress)
        if failure is None:
            return None
    return failure


def _attempts(runtime: str) -> Iterator[tuple[str, ...]]:
    for requirements in PACKAGES[runtime]:
        with suppress(metadata.PackageNotFoundError):
            yield (f"{requirements[0]}=={metadata.version(requirements[0])}", *requirements[1:])
        yield requirements


def _run(board: Session, command: Sequence[str], progress: Progress) -> str | None:
    """Run ``command`` there as a step of ``progress``; its last line of error, or None if it succeeded."""
    progress(f"{board.address}: {shlex.join(command)}")
    result = board.run(command)
    if result.code == 0:
        return None
    lines = [line.strip() for line in (result.out + result.err).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return sentence(errors[-1]) if errors else f"exit code {result.code}"
