"""A command that runs a user's code runs in a process of its own: if that crashes, ends, hangs or leaves threads, the
command still comes to a documented exit code, and nothing is left."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeattn.errors import BadInputError
from edgeattn.system import scratch, signals

COMMANDS = ("export",)
# A process that has said its exit code ends in a second; a thread that never ends would keep it.
_GRACE_S = 5
# A signal that was sent to this process alone is passed on; by Ctrl-C the other process gets one too, at once.
_PASS_ON_S = 1
_CODE = "import sys; sys.path[:] = {path!r}; from edgeattn.cli import apart; apart.child({code}, {life}, {words!r})"


@dataclass(frozen=True)
class _Signal:
    number: int
    at: float


def concerns(words: list[str]) -> bool:
    """Whether the command line ``words`` may run a user's code. Windows hands no pipes to another process."""
    return os.name == "posix" and bool(words) and words[0] in COMMANDS and not {"--help", "-h"} & set(words)


def run(words: list[str]) -> int:
    """Run the command line ``words`` in a process of its own, and return its exit code.

    What it prints goes where this process's goes; what the user's code writes to the descriptor of stdout, to stderr.

    Raises:
        BadInputError: the process ended before the command did.
    """
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as folder:
        listed = Path(folder) / "scratch"
        code, told = os.pipe()
        life, alive = os.pipe()
        environment = os.environ | {"TMPDIR": folder, scratch.LIST: str(listed)}
        path = [os.path.abspath(entry) for entry in sys.path]
        command = [sys.executable, *(f"-W{option}" for option in sys.warnoptions), "-P", "-c"]
        command.append(_CODE.format(path=path, code=told, life=life, words=words))
        with _noted() as sent:
            process = subprocess.Popen(command, env=environment, pass_fds=(told, life))
            try:
                os.close(told)
                os.close(life)
                answer = _answer(process, code, sent)
            finally:
                process.kill()
                process.wait()
                os.close(alive)  # not before: that tells the other process that this one is gone
                os.close(code)
                scratch.clear(listed)
    if answer is None:
        raise BadInputError(f"{_ending(process.returncode)}; nothing was written")
    return answer


def _answer(process: "subprocess.Popen[bytes]", code: int, sent: list[_Signal]) -> int | None:
    """The exit code that the process tells, or None if it ends without.

    Raises:
        KeyboardInterrupt: it did not follow the signals that came.
    """
    passed_on = 0
    while not select.select([code], [], [], 0.1)[0]:
        if process.poll() is not None:  # a process that the user's code has started may hold the pipe open
            break
        if sent and (since := time.monotonic() - sent[-1].at) > _PASS_ON_S:
            if len(sent) > passed_on:
                process.send_signal(sent[-1].number)
                passed_on = len(sent)
            if sent[-1].number != signal.SIGINT and since > _GRACE_S:  # who sends it will not wait for long
                raise KeyboardInterrupt
    else:
        if told := os.read(code, 20):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
            return int(told)
        process.wait()
    if sent:
        raise KeyboardInterrupt
    return None


@contextlib.contextmanager
def _noted() -> Iterator[list[_Signal]]:
    """The signals to end that come in the block; with a third one nothing more is waited for."""
    sent: list[_Signal] = []

    def note(number: int, _: object) -> None:
        sent.append(_Signal(number, time.monotonic()))
        if len(sent) > 2:
            raise KeyboardInterrupt

    with signals.handled(note):
        yield sent


def _ending(code: int) -> str:
    """What came to pass with a process that told no exit code; it is negative for a signal."""
    if code == -signal.SIGALRM:
        return "it did not come to an end within --time-limit"
    name = signals.name_of(code)
    return f"the model's code ended the process {f'by {name}' if name else f'with exit code {code}'}"


def child(code: int, life: int, words: list[str]) -> None:
    """The other process: the command ``words``, its exit code told to the pipe ``code``; it ends if ``life`` does."""
    from edgeattn.cli import main

    os.set_inheritable(code, False)
    os.set_inheritable(life, False)
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    sys.argv = ["edgeattn", *words]
    # Python's own stdout stays where it was; what is written past it is the user's code's.
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = open(own, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=True)  # noqa: SIM115
    try:
        main.main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(BrokenPipeError):  # nobody is there any more
            os.write(code, str(end.code or 0).encode())
        raise


def _end_with(life: int) -> None:
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def limit(seconds: float | None, gibibytes: float | None) -> None:
    """Bound the time and the memory of this process from here on; None is no bound.

    Raises:
        BadInputError: it is no positive number, or this system knows no such bounds.
    """
    for name, value in (("--time-limit", seconds), ("--memory-limit", gibibytes)):
        if value is not None and not 0 < value < 1e9:
            raise BadInputError(f"{name} must be a positive number, not {value:g}")
    if sys.platform == "win32":
        if seconds is not None or gibibytes is not None:
            raise BadInputError("--time-limit and --memory-limit are not known on Windows; leave them out")
        return
    if seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    if gibibytes is not None:
        try:
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, (int(gibibytes * 2**30),) * 2)
        except (ValueError, OSError) as error:
            raise BadInputError(f"--memory-limit cannot be set on this system ({error}); leave it out") from error
