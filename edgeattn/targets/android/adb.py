"""Android's own `adb`, as it is installed: which phones are attached, and commands and files over it."""

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeattn.errors import BadInputError, MissingError, TargetError
from edgeattn.system import parallel

INSTALL = (
    "adb is not installed; install it with: apt-get install -y adb (Debian), "
    "brew install android-platform-tools (macOS) or winget install Google.PlatformTools (Windows)"
)
# Why a phone that is listed cannot be used, and what mends it.
STATES = {
    "unauthorized": "has not allowed this computer: unlock it and accept the question about USB debugging",
    "authorizing": "has not yet allowed this computer: unlock it and accept the question about USB debugging",
    "offline": "is offline: pull the cable and put it in again, or run adb reconnect",
    "no": "may not be opened by this user (no permissions): see the udev rules for Android",
}
# What may be written to without rights of root.
PLACE = "/data/local/tmp"
COMMAND_LIMIT_S = 60.0
# A push or pull may take its time: so many bytes a second at least.
SLOWEST_BYTES_S = 200_000


class LostError(TargetError):
    """The phone does not answer any more."""


@dataclass(frozen=True)
class Phone:
    """An attached phone, by the name that adb has for it."""

    serial: str

    def shell(self, line: str, *, limit_s: float = COMMAND_LIMIT_S) -> str:
        """Run a line of shell; its stdout.

        Raises:
            LostError: the phone is gone.
            TargetError: the line failed.
        """
        return _run(self, "shell", line, limit_s=limit_s)

    def start(self, line: str) -> "subprocess.Popen[str]":
        """Begin a line of shell, whose stdout nobody reads."""
        return subprocess.Popen(
            self._words("shell", line),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # A Ctrl-C is for us: we end what runs on the phone, and fetch what it wrote.
            start_new_session=True,
        )

    def push(self, source: Path, place: str) -> None:
        """Copy a file, or what is in a folder, to ``place``.

        Raises: as :meth:`shell`.
        """
        size = sum(file.stat().st_size for file in source.rglob("*")) if source.is_dir() else source.stat().st_size
        _run(
            self,
            *("push", f"{source}/." if source.is_dir() else str(source), place),
            limit_s=COMMAND_LIMIT_S + size / SLOWEST_BYTES_S,
        )

    def pull(self, place: str, folder: Path) -> None:
        """Copy a folder's content, or a file, into ``folder``.

        Raises: as :meth:`shell`.
        """
        _run(self, "pull", place, str(folder), limit_s=10 * COMMAND_LIMIT_S)

    def reverse(self, port: int) -> int:
        """Lead a free port of the phone's own localhost to ``port`` of this machine; which one.

        Raises: as :meth:`shell`.
        """
        return int(_run(self, "reverse", "tcp:0", f"tcp:{port}", limit_s=COMMAND_LIMIT_S))

    def end_reverse(self, port: int) -> None:
        """End what :meth:`reverse` began.

        Raises: as :meth:`shell`.
        """
        _run(self, "reverse", "--remove", f"tcp:{port}", limit_s=COMMAND_LIMIT_S)

    def _words(self, *words: str) -> list[str]:
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
    found = {}
    for line in listed.stdout.splitlines():
        words = line.split()
        if len(words) > 1 and not line.startswith(("*", "List of")):
            found[words[0]] = words[1]
    return found


def usable() -> tuple[str, ...]:
    """The serials of the phones that can be used now.

    Raises:
        MissingError: there is none; why not, for those that are listed.
    """
    found = devices()
    ready = tuple(serial for serial, state in found.items() if state == "device")
    if not ready:
        reasons = "; ".join(_reason(serial, state) for serial, state in found.items())
        raise MissingError(
            reasons or "no phone is attached: switch on USB debugging in its developer options, and connect it"
        )
    return ready


def reach(serial: str) -> Phone:
    """The phone of this serial, or the only one if it is "".

    Raises:
        BadInputError: none is named, and there are several.
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


def wait(process: "subprocess.Popen[str]", *, step_s: float, at_step: Callable[[], bool]) -> str:
    """Wait for ``process``, its stderr; every ``step_s`` ask ``at_step`` whether to go on, and end it if not.

    Raises:
        KeyboardInterrupt: the user interrupted.
    """
    next_step = time.monotonic() + step_s
    with _ended(process):
        while True:
            parallel.check()
            try:
                _, said = process.communicate(timeout=min(step_s, 0.5))
                return said
            except subprocess.TimeoutExpired:
                if time.monotonic() >= next_step:
                    if not at_step():
                        return ""
                    next_step = time.monotonic() + step_s


def quote(words: Sequence[str]) -> str:
    return shlex.join(words)


def _reason(serial: str, state: str) -> str:
    return f"the phone {serial} {STATES.get(state, f'is in the state {state!r}, in which nothing can run')}"


def _run(phone: Phone, *words: str, limit_s: float) -> str:
    process = subprocess.Popen(
        phone._words(*words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        with _ended(process):
            out, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise LostError(f"the phone {phone.serial} did not answer adb {words[0]} in {limit_s:.0f} s") from error
    if process.returncode:
        raise _error(phone, words[0], f"{said}\n{out}" if words[0] == "push" else said or out)
    return out


@contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """However it is left, the process has ended then."""
    with process:
        try:
            yield
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _error(phone: Phone, verb: str, said: str) -> TargetError:
    if "No space left" in said:
        return TargetError(f"the phone {phone.serial} has no space left for {PLACE}; free some")
    if lost(phone):
        return LostError(f"the phone {phone.serial} was lost during adb {verb}; it may still hold {PLACE}/edgeattn-*")
    return TargetError(f"adb {verb} failed on the phone {phone.serial}: {_last_line(said) or 'it said nothing'}")


def lost(phone: Phone) -> bool:
    """Whether the phone is no longer there."""
    return devices().get(phone.serial) != "device"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # adb tells of a failed push in the line before its sum.
    return next((line for line in lines if "error" in line), lines[-1] if lines else "")
