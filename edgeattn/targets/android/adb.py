"""The installed `adb` of Android: the attached phones, and commands and files over it."""

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeattn.errors import BadInputError, MissingError, TargetError
from edgeattn.system import bounded, parallel
from edgeattn.system.foreign import sentence

INSTALL = (
    "adb is not installed; install it with: apt-get install -y adb (Debian), "
    "brew install android-platform-tools (macOS) or winget install Google.PlatformTools (Windows)"
)
# Why a listed phone cannot be used, and the remedy.
STATES = {
    "unauthorized": "has not allowed this computer: unlock it and accept the question about USB debugging",
    "authorizing": "has not yet allowed this computer: unlock it and accept the question about USB debugging",
    "offline": "is offline: pull the cable and put it in again, or run adb reconnect",
    "no": "may not be opened by this user (no permissions): see the udev rules for Android",
}
# A line of adb devices -l. A phone without a cable is named by mDNS, with a space where its name was taken: "X (2)".
_LISTED = re.compile(
    r"(?P<serial>\S.*?)\s+(?P<state>no(?= permissions)|(?:device|offline|unauthorized|authorizing|connecting|recovery"
    r"|rescue|sideload|bootloader|host|detached|unknown)(?=\s*$|(?:\s+[\w-]+:\S+)+\s*$))"
)
# The folder that is writable without root.
DATA_FOLDER = "/data/local/tmp"
COMMAND_LIMIT_S = 60.0
# What a line of shell may answer; the end of the stderr of one that runs for long.
ANSWER_BYTES, STDERR_BYTES = 2**20, 1 << 16
# How many files a pull may bring.
MOST_FILES = 10_000
# The time limit of a push grows with its size: by this rate.
SLOWEST_BYTES_S = 200_000


class LostError(TargetError):
    """The phone does not answer any more."""


class FloodError(TargetError):
    """The phone sends more than it may."""


@dataclass(frozen=True)
class Started:
    """A line of shell that runs on a phone, and its stderr."""

    process: "subprocess.Popen[bytes]"
    stderr: bounded.Output


@dataclass(frozen=True)
class Phone:
    """An attached phone, by the name that adb has for it."""

    serial: str

    def shell(self, line: str, *, limit_s: float = COMMAND_LIMIT_S) -> str:
        """Run a line of shell; its stdout.

        Raises:
            LostError: the phone is gone.
            FloodError: it answers without end.
            TargetError: the line failed.
        """
        return _run(self, "shell", line, limit_s=limit_s)

    def start(self, line: str) -> Started:
        """Start a line of shell; its stdout is discarded."""
        process = subprocess.Popen(
            self._command("shell", line),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Only we get a Ctrl-C: we end the processes on the phone, and fetch what they wrote.
            start_new_session=True,
        )
        assert process.stderr is not None
        return Started(process, bounded.Output(process.stderr, STDERR_BYTES))

    def push(self, source: Path, destination: str) -> None:
        """Copy a file, or the content of a folder, to ``destination``.

        Raises: as :meth:`shell`.
        """
        size = sum(file.stat().st_size for file in source.rglob("*")) if source.is_dir() else source.stat().st_size
        _run(
            self,
            *("push", f"{source}/." if source.is_dir() else str(source), destination),
            limit_s=COMMAND_LIMIT_S + size / SLOWEST_BYTES_S,
        )

    def pull(self, source: str, folder: Path, *, most: int) -> None:
        """Copy a folder's content, or a file, into the empty ``folder``: ``most`` bytes, and some more before it ends.

        Raises: as :meth:`shell`.
        """

        def check() -> None:
            sizes = [file.lstat().st_size for file in folder.rglob("*")]
            if sum(sizes) > most or len(sizes) > MOST_FILES:
                raise bounded.TooMuchError

        _run(self, "pull", source, str(folder), limit_s=10 * COMMAND_LIMIT_S, check=check)

    def reverse(self, port: int) -> int:
        """Forward a free port of the phone's localhost to ``port`` of this machine; returns the phone's port.

        Raises: as :meth:`shell`.
        """
        return int(_run(self, "reverse", "tcp:0", f"tcp:{port}", limit_s=COMMAND_LIMIT_S))

    def end_reverse(self, port: int) -> None:
        """End what :meth:`reverse` began.

        Raises: as :meth:`shell`.
        """
        _run(self, "reverse", "--remove", f"tcp:{port}", limit_s=COMMAND_LIMIT_S)

    def _command(self, *words: str) -> list[str]:
        return ["adb", "-s", self.serial, *words]


def installed() -> bool:
    return shutil.which("adb") is not None


def devices() -> dict[str, str]:
    """The state of each attached phone, by its serial.

    Raises:
        MissingError: there is no adb here, or its server does not start.
    """
    if not installed():
        raise MissingError(INSTALL)
    listed = subprocess.run(["adb", "devices", "-l"], capture_output=True, text=True, check=False)
    if listed.returncode:
        raise MissingError(f"adb does not work: {_last_line(listed.stderr)}")
    states = {}
    for line in listed.stdout.splitlines():
        if (match := _LISTED.match(line)) and not line.startswith(("*", "List of")):
            states[match["serial"]] = match["state"]
        elif len(words := line.split()) > 1 and not line.startswith(("*", "List of")):  # a state that is new
            states[words[0]] = words[1]
    return states


def usable() -> tuple[str, ...]:
    """The serials of the phones that can be used now.

    Raises:
        MissingError: there is none; the reason for each listed phone.
    """
    states = devices()
    ready = tuple(serial for serial, state in states.items() if state == "device")
    if not ready:
        reasons = "; ".join(_reason(serial, state) for serial, state in states.items())
        raise MissingError(
            reasons or "no phone is attached: switch on USB debugging in its developer options, and connect it"
        )
    return ready


def reach(serial: str) -> Phone:
    """The phone of this serial, or the only one if it is "".

    Raises:
        BadInputError: ``serial`` is "", and there are several.
        MissingError: it is not attached, or cannot be used.
    """
    if not serial:
        ready = usable()
        if len(ready) > 1:
            raise BadInputError(
                f"several phones are attached; say which: --target android:{' or android:'.join(ready)}"
            )
        return Phone(ready[0])
    state = devices().get(serial)
    if state is None:
        raise MissingError(f"no phone {serial} is attached; adb devices -l lists those that are")
    if state != "device":
        raise MissingError(_reason(serial, state))
    return Phone(serial)


def wait(started: Started, *, step_s: float, at_step: Callable[[], bool]) -> str:
    """Wait for its end, and return its stderr; every ``step_s``, if ``at_step`` returns False, end it.

    Raises:
        KeyboardInterrupt: the user interrupted.
    """
    next_step = time.monotonic() + step_s
    with _ending(started.process):
        while True:
            parallel.check()
            try:
                started.process.wait(timeout=min(step_s, 0.5))
                return started.stderr.text()
            except subprocess.TimeoutExpired:
                if time.monotonic() >= next_step:
                    if not at_step():
                        return ""
                    next_step = time.monotonic() + step_s


def quote(words: Sequence[str]) -> str:
    return shlex.join(words)


def _reason(serial: str, state: str) -> str:
    return f"the phone {serial} {STATES.get(state, f'is in the state {state!r}, in which nothing can run')}"


def _run(phone: Phone, *words: str, limit_s: float, check: Callable[[], None] = lambda: None) -> str:
    process = subprocess.Popen(
        phone._command(*words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        with _ending(process):
            out, stderr = bounded.finish(process, most=ANSWER_BYTES, limit_s=limit_s, check=check)
    except subprocess.TimeoutExpired as error:
        raise LostError(f"the phone {phone.serial} did not answer adb {words[0]} in {limit_s:.0f} s") from error
    except bounded.TooMuchError as error:
        raise FloodError(
            f"the phone {phone.serial} sent more than it may to adb {words[0]}, which was ended"
        ) from error
    if process.returncode:
        raise _error(phone, words[0], f"{stderr}\n{out}" if words[0] == "push" else stderr or out)
    return out


@contextmanager
def _ending(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """The process has ended when the block ends, also with an error."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _error(phone: Phone, verb: str, output: str) -> TargetError:
    if "No space left" in output:
        return TargetError(f"the phone {phone.serial} has no space left for {DATA_FOLDER}; free some")
    if lost(phone):
        return LostError(
            f"the phone {phone.serial} was lost during adb {verb}; it may still hold {DATA_FOLDER}/edgeattn-*"
        )
    return TargetError(f"adb {verb} failed on the phone {phone.serial}: {_last_line(output) or 'it said nothing'}")


def lost(phone: Phone) -> bool:
    """Whether the phone is no longer there."""
    return devices().get(phone.serial) != "device"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # adb prints the error of a failed push before its summary.
    return sentence(next((line for line in lines if "error" in line), lines[-1] if lines else ""))
