"""One ssh session with ``_runner/board.py`` at its far end: the system's own client, its configuration and its keys.

One session serves any number of jobs. However it ends, the board notices at once, and removes our files.
"""

import json
import re
import secrets
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeattn.errors import BadInputError, MissingError, TargetError

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
# The oldest Python that the worker and board.py run on.
OLDEST = (3, 8)
_TOO_OLD, _NOT_FOUND = 99, (126, 127)
# Neither part can begin with a dash, which ssh would take for an option, nor hold a shell's special characters.
_ADDRESS = re.compile(
    r"//(?:(?P<user>\w[\w.+-]*)@)?(?P<host>\w[\w.-]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\])(?::(?P<port>\d{1,5}))?/?", re.ASCII
)
# The names that a board may give a file that it sends: none leads out of a folder.
_FILE = re.compile(r"\w+/\w[\w.-]*", re.ASCII)


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

    def __init__(self, address: Address, process: subprocess.Popen[bytes], stderr: Any) -> None:
        self.address = address
        self.process, self.stderr = process, stderr

    def put(self, path: str, content: bytes) -> None:
        self._request({"do": "put", "path": path, "size": len(content)}, content)

    def link(self, path: str, to: str) -> None:
        self._request({"do": "link", "path": path, "to": to})

    def remove(self, path: str) -> None:
        self._request({"do": "remove", "path": path})

    def facts(self) -> dict[str, Any]:
        return self._request({"do": "facts"})

    def state(self) -> dict[str, str]:
        return dict(self._request({"do": "state"})["state"])

    @contextmanager
    def scratch(self, path: str) -> Iterator[None]:
        """A folder that stays on the board only if the block succeeds."""
        self._request({"do": "scratch", "path": path})
        yield
        self._request({"do": "keep", "path": path})

    def run(
        self, argv: Sequence[str], *, folders: Sequence[str] = (), cores: Sequence[int] = (), into: Path | None = None
    ) -> CommandResult:
        """Run a command; the files that it writes into ``folders`` there appear in ``into`` as it runs."""
        answer = self._request({"do": "run", "argv": [*argv], "folders": [*folders], "cores": [*cores]}, into=into)
        return CommandResult(int(answer["code"]), str(answer["out"]), str(answer["err"]))

    def close(self) -> None:
        """End the connection, and wait until the board has removed our files; a second call does nothing."""
        if self.process.stdin is None or self.process.stdin.closed:
            return
        try:
            self.process.communicate(timeout=GOODBYE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def last_error(self) -> str:
        """The last line of ssh's own stderr."""
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def _request(self, request: dict[str, Any], content: bytes = b"", *, into: Path | None = None) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n" + content)
            self.process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._lost() from error
        while True:
            message, payload = self._receive()
            if "file" not in message:
                break
            if into and _FILE.fullmatch(str(message["file"])):
                _write(into / message["file"], int(message["at"]), payload)
        if "error" in message:
            raise TargetError(f"{self.address} cannot {request['do']}: {message['error']}")
        return message

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._lost()
        try:
            message = json.loads(line)
            size = int(message.get("size", 0))
        except (ValueError, AttributeError) as error:
            raise LostError(f"{self.address} sent an invalid message: {line[:60]!r}") from error
        payload = self.process.stdout.read(size)
        if len(payload) < size:
            raise self._lost()
        return message, payload

    def _lost(self) -> LostError:
        with suppress(subprocess.TimeoutExpired):  # it prints the reason as it ends
            self.process.wait(timeout=2)
        reason = self.last_error()
        return LostError(f"the connection to {self.address} was lost" + (f" ({reason})" if reason else ""))


def _write(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b" if at else "wb") as file:
        file.seek(at)
        file.write(content)


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
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            ["ssh", *options, *address.arguments[:-1], "--", address.arguments[-1], remote],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            # Only we get a Ctrl-C: we end the connection ourselves, and read what arrived.
            start_new_session=True,
        )
        opened = Session(address, process, stderr)
        try:
            _greet(opened, source, marker, python)
            yield opened
        finally:
            opened.close()


def _greet(opened: Session, source: bytes, marker: str, python: str) -> None:
    process = opened.process
    assert process.stdin is not None
    assert process.stdout is not None
    timeout = threading.Timer(HELLO_S, process.kill)
    timeout.start()
    try:
        with suppress(OSError):  # the reason is read below
            process.stdin.write(source)
            process.stdin.flush()
        # A shell's profile may print anything before the marker.
        if any(line.strip() == marker.encode() for line in process.stdout):
            opened._receive()
            return
    finally:
        timeout.cancel()
    code, reason, address = process.wait(), opened.last_error(), opened.address
    if code == -signal.SIGKILL:
        raise TargetError(f"{address} did not answer within {HELLO_S} s")
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
