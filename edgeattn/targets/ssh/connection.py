"""One ssh session with ``_runner/board.py`` at its far end: the system's own client, its configuration and its keys.

One session serves any number of jobs. However it ends, the board notices at once, and removes our files.
"""

import json
import re
import secrets
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from edgeattn.errors import BadInputError, MissingError, TargetError
from edgeattn.system.bounded import CHUNK, Output
from edgeattn.system.foreign import sentence
from edgeattn.targets._runner import schema

T = TypeVar("T")

AGENT = Path(__file__).parent.parent / "_runner" / "board.py"
# ssh asks no questions; a dead connection is noticed after 15 s.
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "LogLevel": "ERROR",
}
# Limits: from the start of ssh until Python answers there, and from the end of the input until all is removed.
HELLO_S, GOODBYE_S = 60, 15
# For any other answer, beside the time that what is sent takes at this rate.
ANSWER_S, SLOWEST_BYTES_S = 60, 100_000
# While a command runs: without a message, and in all. A model may take minutes for a run, an installation many.
SILENCE_S, LONGEST_S = 1800, 24 * 3600
# What a board may send: a line (two outputs of 64 KiB, escaped), all before it is ready, and while a command runs
# the files that nobody asked for, which are dropped, and the number of messages.
LINE_BYTES, HELLO_BYTES, DROPPED_BYTES, MESSAGES = 2**20, 2**20, 2**30, 10**6
STDERR_BYTES = 1 << 16
# The oldest Python that the worker and board.py run on.
OLDEST = (3, 8)
_TOO_OLD, _NOT_FOUND = 99, (126, 127)
# Neither part can begin with a dash, which ssh would take for an option, nor hold a shell's special characters.
_ADDRESS = re.compile(
    r"//(?:(?P<user>\w[\w.+-]*)@)?(?P<host>\w[\w.-]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\])(?::(?P<port>\d{1,5}))?/?", re.ASCII
)
# The files of a run that are kept: none leads out of a folder, none replaces a file of the job.
_FILE = re.compile(
    r"(?P<folder>\d{1,6})/(?P<name>samples\.txt|result\.json|(?:first|last|then-\d+)-\d+\.npy)", re.ASCII
)


class LostError(TargetError):
    """The connection ended before the board was done."""


@dataclass(frozen=True)
class Address:
    """``ssh://user@host:port``; user and port may be left to ssh's configuration ("")."""

    user: str
    host: str
    port: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse ``text``, the part after ``ssh:``."""
        match = _ADDRESS.fullmatch(text)
        if not match or int(match["port"] or 1) not in range(1, 65536):
            raise BadInputError(f"--target ssh:{text} is no address; write ssh://user@host, or ssh://user@host:port")
        return cls(match["user"] or "", match["host"], match["port"] or "")

    @property
    def arguments(self) -> list[str]:
        """The arguments of ssh."""
        user = f"{self.user}@" if self.user else ""
        return [*(["-p", self.port] if self.port else []), user + self.host.strip("[]")]

    def __str__(self) -> str:
        return f"ssh://{self.user}{'@' if self.user else ''}{self.host}{':' if self.port else ''}{self.port}"


@dataclass(frozen=True)
class CommandResult:
    """The exit code of a command on the board (negative for a signal), and the end of its output."""

    code: int
    out: str
    err: str


class Session:
    """The requests to a board; each method raises TargetError if it fails, LostError if the connection ended."""

    def __init__(self, address: Address, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.address, self.process = address, process
        self.to_board, self.from_board = process.stdin, process.stdout
        self._stderr = Output(process.stderr, STDERR_BYTES)
        # Why we ended the connection, if we did.
        self._cut_off = ""

    def put(self, path: str, content: bytes) -> None:
        self._request({"do": "put", "path": path, "size": len(content)}, schema.Head, content)

    def link(self, path: str, to: str) -> None:
        self._request({"do": "link", "path": path, "to": to}, schema.Head)

    def remove(self, path: str) -> None:
        self._request({"do": "remove", "path": path}, schema.Head)

    def facts(self) -> schema.Facts:
        return self._request({"do": "facts"}, schema.Facts)

    def state(self) -> dict[str, str]:
        return self._request({"do": "state"}, schema.State).state

    @contextmanager
    def scratch(self, path: str) -> Iterator[None]:
        """A folder that stays on the board only if the block succeeds."""
        self._request({"do": "scratch", "path": path}, schema.Head)
        yield
        self._request({"do": "keep", "path": path}, schema.Head)

    def run(
        self,
        argv: Sequence[str],
        *,
        folders: Sequence[str] = (),
        cores: Sequence[int] = (),
        into: Path | None = None,
        most: int = 0,
    ) -> CommandResult:
        """Run a command; the files that it writes into ``folders`` there appear in ``into`` as it runs, each with at
        most ``most`` bytes."""
        request = {"do": "run", "argv": [*argv], "folders": [*folders], "cores": [*cores]}
        files = _Files(into, folders, most)
        answer = self._request(request, schema.Ended, files=files, limit_s=SILENCE_S)
        return CommandResult(answer.code, answer.out, answer.err)

    def close(self) -> None:
        """End the connection, and wait until the board has removed our files; a second call does nothing."""
        if self.to_board.closed:
            return
        with suppress(OSError):  # it has ended already
            self.to_board.close()
        threading.Thread(target=self._drop, daemon=True).start()
        try:
            self.process.wait(timeout=0 if self._cut_off else GOODBYE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_error(self) -> str:
        """The last line of ssh's own stderr."""
        lines = self._stderr.text(0.5).strip().splitlines()
        return sentence(lines[-1]) if lines else ""

    @contextmanager
    def limit(self, seconds: float, doing: str) -> Iterator[None]:
        """End the connection if the block takes longer."""
        timer = threading.Timer(
            seconds, self._end, [f"{self.address} did not {doing} within {seconds:.0f} s, and was cut off"]
        )
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def line(self) -> bytes:
        """The next line; not whole if the connection has ended."""
        line = self.from_board.readline(LINE_BYTES)
        if len(line) == LINE_BYTES:
            raise self.cut(f"sent a line of more than {LINE_BYTES:,} bytes")
        return line

    def receive(self, files: "_Files | None" = None) -> tuple[bytes, schema.Head]:
        """The next message, as it came and its head; its content goes to ``files``."""
        line = self.line()
        if not line.endswith(b"\n"):
            raise self._lost()
        head = self._parse(line, schema.Head)
        try:
            take = files.open(head) if files else _nothing(head)
            left = head.size
            while left:
                content = self.from_board.read(min(left, CHUNK))
                if not content:
                    raise self._lost()
                left -= len(content)
                take(content)
        except _UnwantedError as error:
            raise self.cut(str(error)) from error
        finally:
            if files:
                files.close()
        return line, head

    def cut(self, what: str) -> LostError:
        """End the connection to a board that did ``what`` it may not; the error to raise."""
        self._end(f"{self.address} {what}, and was cut off")
        return LostError(self._cut_off)

    def _request(
        self,
        request: dict[str, Any],
        kind: type[T],
        content: bytes = b"",
        *,
        files: "_Files | None" = None,
        limit_s: float | None = None,
    ) -> T:
        do = str(request["do"])
        with self.limit(ANSWER_S + len(content) / SLOWEST_BYTES_S, f"take the request to {do}"):
            try:
                self.to_board.write(json.dumps(request).encode() + b"\n" + content)
                self.to_board.flush()
            except (OSError, ValueError) as error:
                raise self._lost() from error
        until = time.monotonic() + LONGEST_S
        for _ in range(MESSAGES):
            with self.limit(min(limit_s or ANSWER_S, until - time.monotonic()), f"answer the request to {do}"):
                line, head = self.receive(files)
            if head.error is not None:
                raise TargetError(f"{self.address} cannot {do}: {head.error}")
            if head.file is None:
                return self._parse(line, kind)
        raise self.cut(f"sent more than {MESSAGES:,} messages")

    def _parse(self, line: bytes, kind: type[T]) -> T:
        try:
            return schema.parse(line, kind)
        except ValueError as error:
            start = sentence(line[:60].decode(errors="replace"))
            raise self.cut(f"sent an invalid message ({start}: {error})") from error

    def _end(self, reason: str) -> None:
        self._cut_off = self._cut_off or reason
        self.process.kill()

    def _drop(self) -> None:
        """Read to the end what nobody wants any more: the board must not wait for us."""
        with suppress(OSError, ValueError):
            while self.from_board.read1(CHUNK):  # type: ignore[attr-defined]  # a pipe's reader has it
                pass
            self.from_board.close()

    def _lost(self) -> LostError:
        with suppress(subprocess.TimeoutExpired):  # it prints the reason as it ends
            self.process.wait(timeout=2)
        if self._cut_off:
            return LostError(self._cut_off)
        reason = self.last_error()
        return LostError(f"the connection to {self.address} was lost" + (f" ({reason})" if reason else ""))


class _UnwantedError(Exception):
    """What a board did that it may not."""


def _nothing(head: schema.Head) -> Callable[[bytes], object]:
    """Takes the content of a message that may have none."""
    if head.size:
        raise _UnwantedError(f"sent {head.size:,} bytes that were not asked for")
    return lambda content: None


class _Files:
    """The files that a command writes on the board, as they come; the others are dropped."""

    def __init__(self, into: Path | None, folders: Sequence[str], most: int) -> None:
        self._into, self._folders, self._most = into, folders, most
        self._dropped = 0
        self._file: BinaryIO | None = None

    def open(self, head: schema.Head) -> Callable[[bytes], object]:
        """Begin with the content of a message; returns what takes it.

        Raises:
            _UnwantedError: there is more of it than there may be.
        """
        match = _FILE.fullmatch(head.file or "")
        if head.file is None or self._into is None or match is None or match["folder"] not in self._folders:
            self._dropped += head.size
            if self._dropped > DROPPED_BYTES:
                raise _UnwantedError(f"sent more than {DROPPED_BYTES:,} bytes that were not asked for")
            return lambda content: None
        if head.at + head.size > self._most:
            raise _UnwantedError(f"sent a file {match['name']} of more than {self._most:,} bytes")
        path = self._into / match["folder"] / match["name"]
        if head.at > (path.stat().st_size if path.exists() else 0):
            raise _UnwantedError(f"sent a part of {match['name']} that has nothing before it")
        self._file = path.open("r+b" if head.at else "wb")
        self._file.seek(head.at)
        write: Callable[[bytes], object] = self._file.write
        return write

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def session(address: Address, python: str) -> Iterator[Session]:
    """Log in, and start ``_runner/board.py`` there with ``python``, a name or a path.

    Raises:
        MissingError: the board cannot be reached, refuses the login, or has no Python that is new enough.
        TargetError: the login succeeded, but Python does not answer.
    """
    source, marker = AGENT.read_bytes(), secrets.token_hex(16)
    # A shell does not expand ~ within quotes.
    interpreter = f"~/{shlex.quote(python[2:])}" if python.startswith("~/") else shlex.quote(python)
    start = (
        f"import sys; sys.version_info < {OLDEST} and sys.exit({_TOO_OLD}); "
        f"exec(compile(sys.stdin.buffer.read({len(source)}), 'board.py', 'exec'))"
    )
    remote = f"exec {interpreter} -u -c {shlex.quote(start)} {marker}"
    options = [f"-o{name}={value}" for name, value in OPTIONS.items()]
    process = subprocess.Popen(
        ["ssh", *options, *address.arguments[:-1], "--", address.arguments[-1], remote],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Only we get a Ctrl-C: we end the connection ourselves, and read what arrived.
        start_new_session=True,
    )
    opened = Session(address, process)
    try:
        _greet(opened, source, marker, python)
        yield opened
    finally:
        opened.close()


def _greet(opened: Session, source: bytes, marker: str, python: str) -> None:
    process = opened.process
    with opened.limit(HELLO_S, "answer"):
        with suppress(OSError):  # the reason is read below
            opened.to_board.write(source)
            opened.to_board.flush()
        # A shell's profile may print anything before the marker.
        size = 0
        while (line := opened.line()) and size <= HELLO_BYTES:
            if line.strip() == marker.encode():
                opened.receive()
                return
            size += len(line)
    if size > HELLO_BYTES:
        raise opened.cut(f"sent more than {HELLO_BYTES:,} bytes before it was ready")
    code, reason, address = process.wait(), opened.last_error(), opened.address
    if code == -signal.SIGKILL:
        raise opened.cut(f"did not answer within {HELLO_S} s")
    if code == 255:
        raise MissingError(_refusal(address, reason))
    if code in _NOT_FOUND:
        raise MissingError(
            f"{address} has no {python}; install Python there (apt-get install python3), or say with --python which"
        )
    if code == _TOO_OLD:
        oldest = ".".join(map(str, OLDEST))
        raise MissingError(f"{python} of {address} is older than Python {oldest}; say with --python which to use")
    raise TargetError(f"{address} let us in, but its shell ended with exit code {code}{reason and ', '}{reason}")


def _refusal(address: Address, reason: str) -> str:
    """Why ssh could not connect, with the remedy."""
    by_hand = shlex.join(address.arguments)
    if "Permission denied" in reason or "Too many authentication failures" in reason:
        return f"{address} does not accept a key of yours ({reason}); give it one: ssh-copy-id {by_hand}"
    if "Host key verification failed" in reason or "host key" in reason.lower():
        return f"ssh does not know the host key of {address}, or knows another; see to it by hand: ssh {by_hand}"
    return f"{address} cannot be reached: {reason or 'ssh says nothing'}"
