"""An Android phone over adb: LiteRT by the native runner, or what the user's own benchmark tool measures.

All that is pushed goes into one folder below /data/local/tmp, and it goes when the connection does.
"""

import secrets
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
from edgeattn.targets import INTERRUPTED, Job, Measurement, Target
from edgeattn.targets._runner import cores as _cores
from edgeattn.targets._runner import job_folder as _folder
from edgeattn.targets._runner import native as _arm_native
from edgeattn.targets.android import adb as _adb
from edgeattn.targets.android import benchmark_tools as _benchmark_tools
from edgeattn.targets.android import state as _phone_state

ORIGIN: Origin = "phone"
# While it runs, what it has written is fetched so often: seldom, as that costs the phone some time, and not never, as
# a phone that is lost does not give it any more.
FETCH_S = 5.0
# A runner that writes nothing for so long hangs.
SILENCE_S = 120.0
# How long to wait for the temperature of before the first run, and how close to it is close enough.
COOLING_S, COOL_ENOUGH_C = 300.0, 1.0


@dataclass(frozen=True)
class _Run:
    """Something that is started on the phone, in a job's folder: ``line`` of shell, and the files that grow."""

    line: str
    grows: tuple[str, ...]


class _Android:
    # Until the times settle; a tool of the user's own, which knows no such thing, is given five runs.
    warmup: int | None = None
    runs = 50

    def __init__(
        self,
        phone: _adb.Phone,
        *,
        native: _arm_native.Native | None,
        tool: _benchmark_tools.Tool | None,
        cores: str,
        cool_down: bool,
    ) -> None:
        self.phone, self.native, self.tool = phone, native, tool
        self.place = f"android:{phone.serial}"
        self.folder = f"{_adb.PLACE}/edgeattn-{secrets.token_hex(4)}"
        self.first_look = _phone_state.look(phone)
        if "arm64-v8a" not in self.first_look.abis:
            other = self.first_look.abis or "it does not say what"
            raise MissingError(f"{self.place} does not run arm64 programs (but {other}), and the runner is one")
        self.mask = _cores.mask(cores, present=self.first_look.cores) if cores else ""
        self.device = self.first_look.device
        if cores:
            self.device = replace(self.device, details={**self.device.details, "pinned to cores": cores})
        if cool_down and self.first_look.temperature is None:
            raise MissingError(f"{self.place} tells adb no temperature; leave --cool-down out")
        # The temperature to come back to; None if nobody asked for it.
        self.cool_c = self.first_look.temperature if cool_down else None
        self.runtimes: Mapping[str, tuple[str, ...]] = {
            **({"tflite": ("litert",)} if native else {}),
            **({tool.kind.format: (tool.kind.name,)} if tool else {}),
        }
        self._sent: dict[Path, str] = {}

    def run(self, job: Job) -> Measurement:
        return self.run_interleaved((job,))[0]

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        # All are of one format.
        tool = self.tool if self.tool and jobs[0].artifact.suffix == f".{self.tool.kind.format}" else None
        # A run for its outputs alone, as those of parity, takes no time, and the phone's state says nothing of it.
        timed = any(job.runs > 1 for job in jobs)
        if timed and self.first_look.emulated:
            raise BadInputError(f"{self.place} is an emulator, whose times say nothing of a phone; parity works there")
        warm = self._cool() if timed else ""
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            here = Path(scratch)
            for number, job in enumerate(jobs):
                (here / str(number)).mkdir()
                artifact = self._send(job.artifact, f"artifact-{len(self._sent)}{job.artifact.suffix}")
                _folder.write(here / str(number), job, artifact=f"../../{artifact}")
            self.phone.shell(f"rm -rf {self.folder}/job")
            self.phone.push(here, f"{self.folder}/job")
            started = self._tool_run(jobs, tool) if tool else self._native_run(len(jobs))
            before = _phone_state.look(self.phone) if timed else None
            stopped = self._execute(started, here)
            after = self._look_again() if timed else None
            seen = [
                tool.read(here / str(number), job, device=self.device, stopped=stopped)
                if tool
                else _folder.read(here / str(number), job, origin=ORIGIN, device=self.device, stopped=stopped)
                for number, job in enumerate(jobs)
            ]
        hot = _phone_state.throttled(before, after) if before and after else ()
        return tuple(
            replace(
                measured,
                before=before.words() if before else {},
                after=after.words() if after else {},
                untrusted=(*measured.untrusted, *([warm] if warm else []), *hot),
            )
            for measured in seen
        )

    def _send(self, file: Path, name: str) -> str:
        """Push a file or folder, once; its name in our folder."""
        if file not in self._sent:
            self.phone.push(file, f"{self.folder}/{name}")
            self._sent[file] = name
        return self._sent[file]

    def _native_run(self, jobs: int) -> _Run:
        assert self.native
        native = self._send(self.native.folder, "native")
        self.phone.shell(f"chmod 755 {self.folder}/{native}/*")
        words = [*self._pin(), *self.native.command(f"../{native}"), *map(str, range(jobs))]
        grows = tuple(f"{number}/{file}" for number in range(jobs) for file in ("result.json", "samples.txt"))
        return _Run(f"exec {_adb.quote(words)}", grows)

    def _tool_run(self, jobs: Sequence[Job], tool: _benchmark_tools.Tool) -> _Run:
        for file in (tool.path, *tool.libraries):
            self._send(file, file.name)
        self.phone.shell(f"chmod 755 {self.folder}/{tool.path.name}")
        artifacts = [f"../../{self._sent[job.artifact]}" for job in jobs]
        script = tool.script(jobs, artifacts, [*self._pin(), f"../../{tool.path.name}"])
        grows = tuple(f"{number}/{file}" for number in range(len(jobs)) for file in tool.kind.grows)
        return _Run(f"export LD_LIBRARY_PATH={self.folder} && {script}", grows)

    def _pin(self) -> list[str]:
        return ["taskset", self.mask] if self.mask else []

    def _execute(self, run: _Run, here: Path) -> str:
        """Run it in the job's folder, and fetch what it left into ``here``; why it stopped early, or nothing."""
        process = self.phone.start(f"cd {self.folder}/job && echo $$ >../pid && {run.line}")
        progress = _Progress()

        def fetch() -> bool:
            for name in run.grows:
                with suppress(TargetError):
                    self.phone.pull(f"{self.folder}/job/{name}", (here / name).parent)
            return progress.made(sum(file.stat().st_size for name in run.grows if (file := here / name).is_file()))

        try:
            said = _adb.wait(process, step_s=FETCH_S, at_step=fetch)
        except KeyboardInterrupt:
            stopped = INTERRUPTED
        else:
            stopped = _folder.ended(_signalled(process.returncode), said)
            if not progress.alive:
                stopped = f"it did nothing for {SILENCE_S:.0f} s, and was ended"
        try:
            self._end()
            self.phone.shell(f"rm -f {self.folder}/job/*/input-*")
            self.phone.pull(f"{self.folder}/job/.", here)
        except _adb.LostError:
            if stopped == INTERRUPTED:
                return stopped
            return f"the phone was lost; {self.folder} is still on it"
        return stopped

    def _look_again(self) -> _phone_state.State | None:
        with suppress(TargetError):
            return _phone_state.look(self.phone)
        return None

    def _cool(self) -> str:
        """Wait for the temperature of before the first run; what to say if it does not come back."""
        if self.cool_c is None:
            return ""
        until = time.monotonic() + COOLING_S
        while (now_c := _phone_state.look(self.phone).temperature or 0.0) > self.cool_c + COOL_ENOUGH_C:
            if time.monotonic() > until:
                warmer = now_c - self.cool_c
                return f"it was {warmer:.0f} °C warmer than before the first run, after {COOLING_S:.0f} s of waiting"
            parallel.sleep(FETCH_S)
        return ""

    def clean_up(self) -> None:
        """Remove all that was pushed. A phone that is gone keeps it, which was said."""
        with suppress(_adb.LostError):
            self._end()
            self.phone.shell(f"rm -rf {self.folder}")

    def _end(self) -> None:
        """End what may still run: the shell that was started and its group, as a tool's loop has many processes."""
        pid = f"{self.folder}/pid"
        self.phone.shell(f"[ -f {pid} ] && p=$(cat {pid}) && kill -9 -$p $p 2>/dev/null; rm -f {pid}")


class _Progress:
    """Whether something grows."""

    def __init__(self) -> None:
        self.size, self.since, self.alive = 0, time.monotonic(), True

    def made(self, size: int) -> bool:
        now = time.monotonic()
        if size != self.size:
            self.size, self.since = size, now
        self.alive = now - self.since < SILENCE_S
        return self.alive


def _signalled(code: int) -> int:
    """A shell's exit code as Python has it: negative for a signal."""
    return 128 - code if code - 128 in set(signal.Signals) else code


class Android(Target):
    """A phone over adb."""

    origin = ORIGIN
    settings = ("cores", "cool_down", "runner")

    def unavailable(self) -> str | None:
        """The runner is asked for later: with a tool of the user's own it is not needed."""
        return None if _adb.installed() else _adb.INSTALL

    def addresses(self) -> tuple[str, ...]:
        return _adb.usable()

    @contextmanager
    def connect(self, address: str, settings: Mapping[str, str]) -> Iterator[_Android]:
        """The phone of the serial ``address``, or the only one that is attached.

        Raises:
            BadInputError: there are several, or a setting that cannot be.
            MissingError: there is none, or the runner is not built.
        """
        tool = _benchmark_tools.find(Path(settings["runner"])) if "runner" in settings else None
        phone = _adb.reach(address)
        native = _arm_native.ready() if tool is None or _arm_native.built() else None
        connection = _Android(
            phone, native=native, tool=tool, cores=settings.get("cores", ""), cool_down="cool_down" in settings
        )
        try:
            yield connection
        finally:
            connection.clean_up()


TARGET: Target = Android()
