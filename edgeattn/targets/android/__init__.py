"""An Android phone over adb: LiteRT, onnxruntime and ExecuTorch by native runners, or the user's own benchmark tool.

Everything is pushed into one folder in /data/local/tmp, which is removed when the connection ends.
"""

import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edgeattn.bundle.records import Origin
from edgeattn.errors import BadInputError, MissingError, TargetError
from edgeattn.system import parallel
from edgeattn.targets import ALL_RUNTIMES, INTERRUPTED, Connection, Job, Measurement, Target
from edgeattn.targets._runner import cores as _cores
from edgeattn.targets._runner import job_folder
from edgeattn.targets._runner import native as _arm_native
from edgeattn.targets.android import adb as _adb
from edgeattn.targets.android import benchmark_tools, gpu_library, state

ORIGIN: Origin = "phone"
# Results are fetched at this interval while a job runs: a lost phone cannot give them any more. Not often, as it costs
# the phone some time.
FETCH_S = 5.0
# A runner that writes nothing for so long is taken to hang.
SILENCE_S = 120.0
# What its files may have beside its outputs: samples, a tool's text, a profile.
RESULT_BYTES = 2**25
_GPU_NOTE = "LiteRT's GPU accelerator gives no time by operator"
# How long to wait for the temperature from before the first run, and the tolerance.
COOLING_S, COOL_ENOUGH_C = 300.0, 1.0


@dataclass(frozen=True)
class _Run:
    """A command for the phone, in a job's folder: a ``line`` of shell, and the files that it writes as it runs."""

    line: str
    live_files: tuple[str, ...]


class _Android(Connection):
    # Until the times settle; the user's own tools, which cannot do that, warm up with five runs.
    warmup: int | None = None
    runs = 50

    def __init__(
        self,
        phone: _adb.Phone,
        *,
        native: _arm_native.Native | None,
        tool: benchmark_tools.Tool | None,
        gpu: gpu_library.GpuLibrary | None,
        cores: str,
        cool_down: bool,
    ) -> None:
        self.phone, self.native, self.tool, self.gpu = phone, native, tool, gpu
        self.place = f"android:{phone.serial}"
        self.folder = f"{_adb.DATA_FOLDER}/edgeattn-{secrets.token_hex(4)}"
        self.initial_state = state.read(phone)
        if "arm64-v8a" not in self.initial_state.abis:
            abis = self.initial_state.abis or "it does not say what"
            raise MissingError(f"{self.place} does not run arm64 programs (but {abis}), and the runner is one")
        self.mask = _cores.mask(cores, present=self.initial_state.cores) if cores else ""
        self.device = self.initial_state.device
        if cores:
            self.device = replace(self.device, details={**self.device.details, "pinned to cores": cores})
        if cool_down and self.initial_state.temperature is None:
            raise MissingError(f"{self.place} tells adb no temperature; leave --cool-down out")
        # The temperature to cool down to; None without --cool-down.
        self.cool_c = self.initial_state.temperature if cool_down else None
        self.runtimes: Mapping[str, tuple[str, ...]] = {
            **(ALL_RUNTIMES if native else {}),
            **({"tflite": (*ALL_RUNTIMES["tflite"], gpu_library.RUNTIME)} if gpu else {}),
            **({tool.kind.format: (tool.kind.name,)} if tool else {}),
        }
        self._sent: dict[Path, str] = {}

    def run(self, job: Job) -> Measurement:
        return self.run_interleaved((job,))[0]

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        # All jobs have one format, and one runtime.
        suffix = jobs[0].artifact.suffix
        tool = self.tool if self.tool and suffix == f".{self.tool.kind.format}" else None
        gpu = self.gpu if jobs[0].runtime == gpu_library.RUNTIME else None
        device = self.device
        if gpu:
            jobs = [replace(job, operators=False) for job in jobs]
            device = replace(device, details={**device.details, "gpu library": gpu.about})
        # A run for its outputs alone, as parity's, is not timed, and does not depend on the phone's state.
        timed = any(job.runs > 1 for job in jobs)
        if timed and self.initial_state.emulated:
            raise BadInputError(f"{self.place} is an emulator, whose times say nothing of a phone; parity works there")
        still_warm = self._cool() if timed else ""
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            local = Path(scratch)
            for number, job in enumerate(jobs):
                (local / str(number)).mkdir()
                artifact = self._send(job.artifact, f"artifact-{len(self._sent)}{job.artifact.suffix}")
                job_folder.write(local / str(number), job, artifact=f"../../{artifact}", gpu=bool(gpu))
            self.phone.shell(f"rm -rf {self.folder}/job")
            self.phone.push(local, f"{self.folder}/job")
            runtime = _arm_native.RUNTIME_OF[suffix]
            started = self._tool_run(jobs, tool) if tool else self._native_run(len(jobs), runtime, gpu)
            before = state.read(self.phone) if timed else None
            most = RESULT_BYTES + sum(map(job_folder.most_bytes, jobs))
            stopped = self._execute(started, local, most)
            after = self._read_state() if timed else None
            measurements = [
                tool.read(local / str(number), job, device=device, stopped=stopped)
                if tool
                else job_folder.read(local / str(number), job, origin=ORIGIN, device=device, stopped=stopped)
                for number, job in enumerate(jobs)
            ]
        throttling = state.throttled(before, after) if before and after else ()
        return tuple(
            replace(
                measurement,
                before=before.summary() if before else {},
                after=after.summary() if after else {},
                operators_note=_GPU_NOTE if gpu else measurement.operators_note,
                runtime_version=(gpu.litert_version if gpu else "") or measurement.runtime_version,
                untrusted=(*measurement.untrusted, *([still_warm] if still_warm else []), *throttling),
            )
            for measurement in measurements
        )

    def _send(self, file: Path, name: str) -> str:
        """Push a file or folder, once; return its name in our folder."""
        if file not in self._sent:
            self.phone.push(file, f"{self.folder}/{name}")
            self._sent[file] = name
        return self._sent[file]

    def _send_each(self, files: Mapping[str, Path], folder: str) -> None:
        """Push files, each once, by their names into ``folder`` in our folder."""
        self.phone.shell(f"mkdir -p {self.folder}/{folder}")
        for name, file in files.items():
            self._send(file, f"{folder}/{name}")

    def _native_run(self, jobs: int, runtime: str, gpu: gpu_library.GpuLibrary | None) -> _Run:
        assert self.native
        folders, further = [_arm_native.GLIBC, runtime], [f"{self.folder}/{gpu_library.FOLDER}"] if gpu else []
        if gpu and gpu.runner:
            folders, command = [], [f"{self.folder}/{gpu_library.FOLDER}/{gpu_library.RUNNER}"]
        else:
            command = self.native.command(self.folder, runtime, further=further)
        for folder in folders:
            self._send(self.native.folder / folder, folder)
        if gpu:
            self._send_each(gpu.files, gpu_library.FOLDER)
            folders.append(gpu_library.FOLDER)
        self.phone.shell(f"chmod 755 {' '.join(f'{self.folder}/{folder}/*' for folder in folders)}")
        exports = gpu.exports(*further) if gpu else ""
        words = [*self._pin(), *command, *map(str, range(jobs))]
        live_files = tuple(f"{number}/{file}" for number in range(jobs) for file in ("result.json", "samples.txt"))
        return _Run(f"{exports}exec {_adb.quote(words)}", live_files)

    def _tool_run(self, jobs: Sequence[Job], tool: benchmark_tools.Tool) -> _Run:
        for file in (tool.path, *tool.libraries):
            self._send(file, file.name)
        self.phone.shell(f"chmod 755 {self.folder}/{tool.path.name}")
        artifacts = [f"../../{self._sent[job.artifact]}" for job in jobs]
        script = tool.script(jobs, artifacts, [*self._pin(), f"../../{tool.path.name}"])
        live_files = tuple(f"{number}/{file}" for number in range(len(jobs)) for file in tool.kind.live_files)
        return _Run(f"export LD_LIBRARY_PATH={self.folder} && {script}", live_files)

    def _pin(self) -> list[str]:
        return ["taskset", self.mask] if self.mask else []

    def _execute(self, run: _Run, local: Path, most: int) -> str:
        """Run it in the job's folder, and fetch its files, of at most ``most`` bytes, into ``local``; why it stopped
        early, or ""."""
        started = self.phone.start(f"cd {self.folder}/job && echo $$ >../pid && {run.line}")
        activity = _Activity()
        flood = ""

        def fetch() -> bool:
            nonlocal flood
            for name in run.live_files:
                try:
                    self._fetch(f"{self.folder}/job/{name}", (local / name).parent, most)
                except _adb.FloodError as error:
                    flood = str(error)
                    return False
                except TargetError:  # it has not been written yet, or the phone is lost, which ends the line too
                    continue
            return activity.update(
                sum(file.stat().st_size for name in run.live_files if (file := local / name).is_file())
            )

        try:
            stderr = _adb.wait(started, step_s=FETCH_S, at_step=fetch)
        except KeyboardInterrupt:
            stopped = INTERRUPTED
        else:
            stopped = flood or job_folder.stop_reason(_signalled(started.process.returncode), stderr)
            if not activity.alive:
                stopped = f"it did nothing for {SILENCE_S:.0f} s, and was ended"
        try:
            self._end()
            self.phone.shell(f"rm -f {self.folder}/job/*/input-*")
            self._fetch(f"{self.folder}/job/.", local, most)
        except _adb.FloodError as error:
            return stopped or str(error)
        except _adb.LostError:
            if stopped == INTERRUPTED:
                return stopped
            return f"the phone was lost; {self.folder} is still on it"
        return stopped

    def _fetch(self, source: str, into: Path, most: int) -> None:
        """Copy a file or a folder's content, of at most ``most`` bytes, into ``into``: all of it or nothing."""
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            incoming = Path(scratch)
            self.phone.pull(source, incoming, most=most)
            for file in incoming.rglob("*"):
                # A folder of a job is there; nothing that the phone makes up is needed.
                if file.is_file() and not file.is_symlink() and (into / file.relative_to(incoming)).parent.is_dir():
                    shutil.move(file, into / file.relative_to(incoming))

    def _read_state(self) -> state.State | None:
        with suppress(TargetError):
            return state.read(self.phone)
        return None

    def _cool(self) -> str:
        """Wait for the temperature from before the first run; a warning if it is not reached, or ""."""
        if self.cool_c is None:
            return ""
        until = time.monotonic() + COOLING_S
        while (now_c := state.read(self.phone).temperature or 0.0) > self.cool_c + COOL_ENOUGH_C:
            if time.monotonic() > until:
                warmer = now_c - self.cool_c
                return f"it was {warmer:.0f} °C warmer than before the first run, after {COOLING_S:.0f} s of waiting"
            parallel.sleep(FETCH_S)
        return ""

    def clean_up(self) -> None:
        """Remove everything that was pushed. It stays on a phone that is lost; the error says so."""
        with suppress(_adb.LostError, _adb.FloodError):
            self._end()
            self.phone.shell(f"rm -rf {self.folder}")

    def _end(self) -> None:
        """End the shell that was started and its process group, as a tool's loop has many processes."""
        pid = f"{self.folder}/pid"
        self.phone.shell(f"[ -f {pid} ] && p=$(cat {pid}) && kill -9 -$p $p 2>/dev/null; rm -f {pid}")


class _Activity:
    """Whether the files of a run still grow."""

    def __init__(self) -> None:
        self.size, self.since, self.alive = 0, time.monotonic(), True

    def update(self, size: int) -> bool:
        now = time.monotonic()
        if size != self.size:
            self.size, self.since = size, now
        self.alive = now - self.since < SILENCE_S
        return self.alive


def _signalled(code: int) -> int:
    """A shell's exit code in Python's convention: negative for a signal."""
    return 128 - code if code - 128 in set(signal.Signals) else code


class Android(Target):
    """A phone over adb."""

    origin = ORIGIN
    settings = ("cores", "cool_down", "runner", "gpu_library")

    def unavailable(self) -> str | None:
        """Checks adb alone: the runner is not needed with a tool of the user's own."""
        return None if _adb.installed() else _adb.INSTALL

    def addresses(self) -> tuple[str, ...]:
        return _adb.usable()

    @contextmanager
    def connect(self, address: str, settings: Mapping[str, str]) -> Iterator[_Android]:
        """Connect to the phone with the serial ``address``, or to the only one that is attached.

        Raises:
            BadInputError: several phones are attached, or a setting is invalid.
            MissingError: no phone is attached, or the runner is not built.
        """
        tool = benchmark_tools.find(Path(settings["runner"])) if "runner" in settings else None
        gpu = gpu_library.find(Path(settings["gpu_library"])) if "gpu_library" in settings else None
        if gpu and tool and tool.kind.format == "tflite":
            raise BadInputError(f"--gpu-library is loaded by the native runner, and --runner {tool.path} is not it")
        phone = _adb.reach(address)
        native = _arm_native.ready() if tool is None or gpu or _arm_native.built() else None
        connection = _Android(
            phone,
            native=native,
            tool=tool,
            gpu=gpu,
            cores=settings.get("cores", ""),
            cool_down="cool_down" in settings,
        )
        try:
            yield connection
        finally:
            connection.clean_up()


TARGET: Target = Android()
