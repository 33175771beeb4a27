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

# What the two runners, ``_runner/worker.py`` and ``arm64/runner.c``, run, by format; and what this machine and the
# native runner run beside: ExecuTorch for Python needs a torch, which is too much for a board.
RUNTIMES = {"onnx": ("onnxruntime",), "tflite": ("litert",)}
ALL_RUNTIMES = {**RUNTIMES, "executorch": ("executorch",)}
# Why a run stopped early, if the user ended it.
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Job:
    """What to run: once for the outputs of the first run, then ``warmup`` times, then ``runs`` times, measured.

    Inputs are by name, in the artifact's own layout. ``warmup`` None lasts until the times settle. ``runtime`` is one
    of the target's runtimes for the artifact's format, "" the first of them. ``operators`` requests times by operator,
    which are taken after the samples, as profiling slows a run down. ``then`` are further inputs, run once each after
    the samples by the same session, for their outputs.
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
    """The measurement of one job, with its outputs.

    ``first`` and ``last`` are the outputs of the first and of the last run: some drivers are right the first time only.
    ``then`` are those of the further inputs. If not all runs were done, ``last`` is empty and ``stopped`` says why.
    """

    first: Arrays
    last: Arrays
    then: tuple[Arrays, ...] = ()
    stopped: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped it."""
        return self.stopped.startswith(INTERRUPTED)


class Connection(Protocol):
    """An open connection to a target: ``place`` is its name in a report, ``runtimes`` are its runtimes by format,
    ``warmup`` and ``runs`` its defaults, ``most_labelled`` the labelled inputs that it is asked for: there are emulated
    targets, and slow lines."""

    place: str
    runtimes: Mapping[str, tuple[str, ...]]
    warmup: int | None
    runs: int
    most_labelled: int | None = 500

    def run(self, job: Job) -> Measurement:
        """Run one job.

        Raises:
            ArtifactError: the runtime there refuses the file.
            BadInputError: it takes other inputs.
            MissingError: the runtime, or the device, is not there.
            TargetError: it crashed before it had any result.
        """

    def takes(self, format_: str, runtime: str) -> bool:
        """Whether it runs files of a format in this runtime too, but only where that is asked for by name.

        Raises:
            MissingError: it would, if something were installed.
        """
        return False

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        """Run several jobs, their timed runs interleaved (A B A B), each in a process of its own: a disturbance hits
        all of them. All jobs have the same number of runs. Jobs that are not timed run one after the other.

        Raises: as :meth:`run`.
        """


class Target(Protocol):
    """A device or machine that runs artifacts.

    ``origin`` is the kind of evidence that it gives, ``settings`` are the names of the command line's settings that it
    takes. ``caveat`` is a warning for its users. ``trial`` is true if a run takes seconds and no address: `edgeattn
    doctor` runs a job there. Two methods are optional; a target that lacks one has None:

    - ``prepare(address, settings, progress)`` does what the settings require before the connection (an installation);
    - ``addresses()`` are those of all devices attached now, if a command may measure on several at once.
    """

    origin: Origin
    settings: tuple[str, ...] = ()
    caveat: str = ""
    trial: bool = False
    prepare: Callable[[str, Mapping[str, str], Progress], None] | None = None
    addresses: Callable[[], tuple[str, ...]] | None = None

    def unavailable(self) -> str | None:
        """Why it cannot be used here, with the remedy; None if it can."""

    def connect(self, address: str, settings: Mapping[str, str]) -> AbstractContextManager[Connection]:
        """Open a connection; ``address`` is the text after the colon (``android:SERIAL``, ``ssh://user@host``), or "".

        Raises:
            BadInputError: an address or a setting is invalid.
            MissingError: it cannot be reached, or lacks what it needs.
        """


TARGETS: Registry[Target] = Registry(__name__, "target")


def expand(target: str) -> tuple[str, ...]:
    """``target``; or, if it names no device and there may be several, one target for each device attached now.

    Raises:
        BadInputError: there is no such target.
        MissingError: it cannot be used here, or nothing is attached.
    """
    name, _, address = target.partition(":")
    plugin = TARGETS.get(name)
    if address or plugin.addresses is None:
        return (target,)
    if reason := plugin.unavailable():
        raise MissingError(reason)
    return tuple(f"{name}:{attached}" for attached in plugin.addresses())


def connect(
    target: str, settings: Mapping[str, str], progress: Progress = silent
) -> AbstractContextManager[Connection]:
    """Connect to ``target``: a name with dashes and, after a colon, an address.

    Raises:
        BadInputError: there is no such target, or it does not take a setting.
        MissingError: it cannot be used here.
    """
    name, _, address = target.partition(":")
    plugin = TARGETS.get(name)
    for setting in settings:
        if setting not in plugin.settings:
            raise BadInputError(f"--{setting.replace('_', '-')} means nothing to --target {name}; leave it out")
    if reason := plugin.unavailable():
        raise MissingError(reason)
    if plugin.prepare is not None:
        plugin.prepare(address, settings, progress)
    return plugin.connect(address, settings)
