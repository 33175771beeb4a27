"""A Raspberry Pi or another board over ssh: the worker, with the board's Python and runtimes."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from edgeattn.bundle.records import Device, Origin
from edgeattn.errors import MissingError
from edgeattn.system.progress import Progress
from edgeattn.targets import INTERRUPTED, RUNTIMES, Connection, Job, Measurement, Target
from edgeattn.targets._runner import clocks, job_folder, schema
from edgeattn.targets._runner import cores as _cores
from edgeattn.targets.ssh import install
from edgeattn.targets.ssh.connection import Address, LostError, Session, session

ORIGIN: Origin = "board"
# Run by an interpreter there: prints its version, the packages that the worker would use, and why one of them cannot be
# used. Each is imported in a process of its own, as a build for another processor ends it by SIGILL.
PROBE = """
import json, platform, signal, subprocess, sys
found, reasons = {}, {}
for runtime, package, module in (
    ("onnxruntime", "onnxruntime", "onnxruntime"),
    ("litert", "ai-edge-litert", "ai_edge_litert.interpreter"),
    ("litert", "tflite-runtime", "tflite_runtime.interpreter"),
):
    top = module.partition(".")[0]
    code = "import importlib.util as u, sys; u.find_spec(%r) or sys.exit(44); import %s; print(); print(%s.__version__)"
    command = [sys.executable, "-c", code % (top, module, top)]
    try:
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.run(command, stdin=none, stdout=pipe, stderr=pipe, timeout=120)
    except subprocess.TimeoutExpired:
        reasons.setdefault(runtime, package + " does not come to an end when it is imported")
        continue
    if process.returncode == 0:
        found.setdefault(runtime, package + " " + process.stdout.decode("utf-8", "replace").split()[-1])
    elif process.returncode < 0:
        try:
            name = signal.Signals(-process.returncode).name
        except ValueError:
            name = "signal %d" % -process.returncode
        reasons.setdefault(runtime, package + " ends by " + name + " when it is imported")
    elif process.returncode != 44:  # 44: it is not installed
        lines = process.stderr.decode("utf-8", "replace").strip().splitlines() or ["exit code %d" % process.returncode]
        reasons.setdefault(runtime, package + " cannot be imported: " + lines[-1][:200])
reasons = {runtime: reason for runtime, reason in reasons.items() if runtime not in found}
print(json.dumps({"python": platform.python_version(), "packages": found, "reasons": reasons}))
"""


@dataclass(frozen=True)
class _Interpreter:
    """A Python on the board: its version, its runtime packages with versions, and why one that is installed cannot be
    used, both by the runtime's name."""

    path: str
    version: str
    packages: dict[str, str]
    reasons: dict[str, str]


class _Board(Connection):
    warmup: int | None = None
    runs = 50

    def __init__(self, session: Session, settings: Mapping[str, str]) -> None:
        self.session, self.place = session, str(session.address)
        facts = session.facts()
        self.name, self.details = facts.name, dict(facts.details)
        self.cores: list[int] = []
        if "cores" in settings:
            self.cores = _cores.parse(settings["cores"], present=",".join(map(str, facts.cores)))
            self.details["pinned to cores"] = settings["cores"]
        self.python, self.environment = facts.python, f"{facts.cache}/edgeattn/board"
        self.sent: set[str] = set()
        default, installed = self._interpreter(self.python), None
        if "python" not in settings or "install" in settings:
            installed = self._interpreter(f"{self.environment}/bin/python")
        # One interpreter for all runs, as interleaved runs need it: the one with the most runtimes.
        self.interpreter = installed if installed and len(installed.packages) > len(default.packages) else default
        # They stand in the records too: what a board could not run is part of what it is.
        self.details |= {f"no {runtime}": reason for runtime, reason in self.interpreter.reasons.items()}
        self.runtimes: Mapping[str, tuple[str, ...]] = {
            format: available
            for format, known in RUNTIMES.items()
            if (available := tuple(runtime for runtime in known if runtime in self.interpreter.packages))
        }

    def _interpreter(self, python: str) -> _Interpreter:
        lines = self.session.run([python, "-c", PROBE]).out.splitlines()
        try:
            found = schema.parse(lines[-1].encode(), schema.Python)
        except (IndexError, ValueError):  # no Python there, or a broken one
            return _Interpreter(python, "", {}, {})
        return _Interpreter(python, found.python, dict(found.packages), dict(found.reasons))

    def run(self, job: Job) -> Measurement:
        return self.run_interleaved((job,))[0]

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        after: dict[str, str] = {}
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            folders = job_folder.write_each(Path(scratch), jobs)
            for folder in folders:
                self._send(folder)
            names, before = [folder.name for folder in folders], self.session.state()
            try:
                command = [self.interpreter.path, job_folder.WORKER.name, *names]
                most = max(map(job_folder.most_bytes, jobs))
                result = self.session.run(command, folders=names, cores=self.cores, into=Path(scratch), most=most)
                stopped = job_folder.stop_reason(result.code, result.err)
                after = self.session.state()
                for name in names:
                    self.session.remove(name)
            except LostError as error:
                stopped = str(error)
            except KeyboardInterrupt:
                self.session.close()
                stopped = INTERRUPTED
            measurements = [
                job_folder.read(folder, job, origin=ORIGIN, device=self._device(job), stopped=stopped)
                for folder, job in zip(folders, jobs, strict=True)
            ]
        throttling = _throttled(before, after)
        return tuple(
            replace(measurement, before=before, after=after, untrusted=(*measurement.untrusted, *throttling))
            for measurement in measurements
        )

    def _device(self, job: Job) -> Device:
        runtime = job.runtime or self.runtimes[job.artifact.suffix[1:]][0]
        python = f"{self.interpreter.version} ({self.interpreter.path})"
        return Device(self.name, {**self.details, "python": python, "package": self.interpreter.packages[runtime]})

    def _send(self, folder: Path) -> None:
        """Send the worker and the job; an artifact is sent only once."""
        if not self.sent:
            self.session.put(job_folder.WORKER.name, job_folder.WORKER.read_bytes())
        for file in sorted(folder.iterdir()):
            content, path = file.read_bytes(), f"{folder.name}/{file.name}"
            if not file.name.startswith("artifact"):
                self.session.put(path, content)
                continue
            remote = f"artifacts/{sha256(content).hexdigest()}"
            if remote not in self.sent:
                self.session.put(remote, content)
                self.sent.add(remote)
            self.session.link(remote, path)


def _throttled(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """A warning for each sign that the board was slowed down: by its firmware, or by its system."""
    warnings = clocks.slowed(before, after)
    flags = after.get("throttling", "none")
    if flags != "none" and ("now" in flags or flags != before.get("throttling")):
        warnings.insert(0, f"the board was slowed down by its firmware: {flags}")
    return warnings


@contextmanager
def _connected(address: str, settings: Mapping[str, str]) -> Iterator[_Board]:
    with session(Address.parse(address), settings.get("python", "python3")) as opened:
        yield _Board(opened, settings)


class Ssh(Target):
    """A board over ssh."""

    origin = ORIGIN
    settings = ("python", "cores", "install")

    def unavailable(self) -> str | None:
        return None if shutil.which("ssh") else "there is no ssh here; install it with: apt-get install openssh-client"

    def prepare(self, address: str, settings: Mapping[str, str], progress: Progress) -> None:
        """With the setting ``install``, if the board lacks a runtime: install all of them in an environment there."""
        if "install" not in settings:
            return
        wanted = [runtime for known in RUNTIMES.values() for runtime in known]
        with _connected(address, settings) as board:
            if not set(wanted) <= board.interpreter.packages.keys():
                install.install(board.session, board.python, board.environment, wanted, progress)

    @contextmanager
    def connect(self, address: str, settings: Mapping[str, str]) -> Iterator[_Board]:
        """The board at ``//user@host:port``.

        Raises:
            BadInputError: the address is invalid, or the board has no such cores.
            MissingError: it cannot be reached, or has no runtime.
            TargetError: it does not answer.
        """
        with _connected(address, settings) as board:
            if not board.runtimes:
                broken = "".join(f": {reason}" for reason in board.interpreter.reasons.values())
                raise MissingError(
                    f"{board.python} of {board.place} has no runtime{broken}; --install makes an environment with "
                    "onnxruntime and ai-edge-litert there, or say with --python which Python has one"
                )
            yield board


TARGET: Target = Ssh()
