"""One file or folder per target: a device or machine that runs artifacts and returns outputs, samples or counts.

Each holds ``TARGET``, a :class:`Target`. A module whose name begins with an underscore is no target:
``_runner/worker.py`` runs at the other end, ``_runner/job_folder.py`` writes its jobs and reads its results. A target
that needs a build before its first use has a set-up of the same name (``edgeattn/setups``).

``inspection`` and the rooms above may import it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeattn.bundle.records import Origin, Run
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError, MissingError
from edgeattn.system.plugins import Registry
from edgeattn.system.progress import Progress, silent

# What the two runners, ``_runner/worker.py`` and ``arm64/runner.c``, run.
RUNTIMES = {"onnx": ("onnxruntime",), "tflite": ("litert",)}
# Why a run stopped early, if the user ended it.
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Job:
    """What is to be run: once for the outputs of the first run, then ``warmup`` times, then ``runs`` times, measured.

    Inputs are by name, in the artifact's own layout. ``warmup`` None goes on until the times settle. ``runtime`` is one
    of those that the target has for the artifact's format, "" the first of them. ``operators`` asks for times by
    operator, which are taken after the samples, as that slows a run down. ``then`` are further inputs, run once each
    after the samples by the same session, for their outputs.
    """

    artifact: Path
    inputs: Arrays
    warmup: int | None = 5
    runs: int = 50
    threads: int = 1
    runtime: str = ""
    operators: bool = False
    then: tuple[Arrays, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Measurement(Run):
    """What was seen of one job, with its outputs.

    ``first`` and ``last`` are the outputs of the first and of the last run: some drivers are right the first time only.
    ``then`` are those of the further inputs. ``last`` is empty, and ``stopped`` says why, where not all runs were done.
    """

    first: Arrays
    last: Arrays
    then: tuple[Arrays, ...] = ()
    stopped: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether it was the user who stopped it."""
        return self.stopped.startswith(INTERRUPTED)


class Connection(Protocol):
    """A target that is reached: ``place`` names it in a report, ``runtimes`` are its runtimes by the format that they
    run; ``warmup`` and ``runs`` are what suits it."""

    place: str
    runtimes: Mapping[str, tuple[str, ...]]
    warmup: int | None
    runs: int

    def run(self, job: Job) -> Measurement:
        """Run one job.

        Raises:
            ArtifactError: the runtime there refuses the file.
            BadInputError: it takes other inputs.
            MissingError: the runtime, or the device, is not there.
            TargetError: it crashed before there was anything to keep.
        """

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        """Run several jobs, their timed runs in turn (A B A B), each in a process of its own: what disturbs one
        disturbs all. All jobs have the same number of runs. Where nothing is timed, one after the other.

        Raises: as :meth:`run`.
        """


class Target(Protocol):
    """A place where artifacts run.

    ``origin`` is what its figures are worth, ``settings`` are the names of those that it takes, of all that the command
    line has. ``caveat`` is what to know before one relies on it. ``trial`` is true if it takes seconds and no address:
    `edgeattn doctor` runs a job there. What not every target can do is None where it cannot:

    - ``prepare(address, settings, progress)`` does what the settings ask for before it is reached (an installation);
    - ``addresses()`` are those of all that are attached now, where one may measure on several at once.
    """

    origin: Origin
    settings: tuple[str, ...] = ()
    caveat: str = ""
    trial: bool = False
    prepare: Callable[[str, Mapping[str, str], Progress], None] | None = None
    addresses: Callable[[], tuple[str, ...]] | None = None

    def unavailable(self) -> str | None:
        """Why it cannot be used here, with what mends it; None if it can."""

    def connect(self, address: str, settings: Mapping[str, str]) -> AbstractContextManager[Connection]:
        """Reach it; ``address`` is what stands after the colon (``android:SERIAL``, ``ssh://user@host``), "" if nothing
        does.

        Raises:
            BadInputError: an address or a setting that cannot be.
            MissingError: it cannot be reached, or lacks what it needs.
        """


TARGETS: Registry[Target] = Registry(__name__, "target")


def expand(target: str) -> tuple[str, ...]:
    """``target``, or, if it names no device and there may be several, each of those that are attached now.

    Raises:
        BadInputError: no such target.
        MissingError: it cannot be used here, or nothing is attached.
    """
    name, _, address = target.partition(":")
    found = TARGETS.get(name)
    if address or found.addresses is None:
        return (target,)
    if reason := found.unavailable():
        raise MissingError(reason)
    return tuple(f"{name}:{one}" for one in found.addresses())


def connect(
    target: str, settings: Mapping[str, str], progress: Progress = silent
) -> AbstractContextManager[Connection]:
    """Reach the target that is spelled ``target``: a name with dashes, and an address after a colon.

    Raises:
        BadInputError: no such target, or a setting that it does not take.
        MissingError: it cannot be used here.
    """
    name, _, address = target.partition(":")
    found = TARGETS.get(name)
    for setting in settings:
        if setting not in found.settings:
            raise BadInputError(f"--{setting.replace('_', '-')} means nothing to --target {name}; leave it out")
    if reason := found.unavailable():
        raise MissingError(reason)
    if found.prepare is not None:
        found.prepare(address, settings, progress)
    return found.connect(address, settings)
