"""The phones that joined: each one's results, and its current task."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from edgeattn.phone.messages import Join
from edgeattn.phone.results import Sender, sender

# More than anyone has: a client that joins more often abuses the server.
MAX_PHONES = 1000


@dataclass(frozen=True)
class StoredResult:
    """A result that is on the disk: the hash of its message, and a summary for people."""

    digest: str
    passed: bool
    summary: str


@dataclass
class Phone:
    """One phone. ``results`` are those of its finished tasks, by key; ``since`` is when ``current_task`` began (""
    is no task). ``own_name`` is the name in its message, which other phones may have too."""

    session: str
    number: int
    own_name: str
    sender: Sender
    results: dict[str, StoredResult] = field(default_factory=dict)
    current_task: str = ""
    run: int = 0
    since: str = ""
    finished: bool = False
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    def begin(self, task: str, run: int) -> None:
        if task != self.current_task:
            self.current_task, self.since = task, now()
        self.run = run


@dataclass
class Phones:
    """All phones, in the order in which they joined."""

    by_session: dict[str, Phone] = field(default_factory=dict)

    def join(self, message: Join, *, local: bool) -> Phone | None:
        """The phone, a new one or one that returns; None if there are too many."""
        if message.session in self.by_session:
            return self.by_session[message.session]
        if len(self.by_session) >= MAX_PHONES:
            return None
        session = secrets.token_hex(8)
        named = sender(message.model_copy(update={"name": self._unique(message.name)}), session=session, local=local)
        self.by_session[session] = Phone(session, len(self.by_session) + 1, message.name, named)
        return self.by_session[session]

    def _unique(self, name: str) -> str:
        """A name that no other phone has: two phones of one model stay apart in a report."""
        namesakes = sum(phone.own_name == name for phone in self.by_session.values())
        return f"{name} #{namesakes + 1}" if namesakes else name

    @property
    def finished(self) -> int:
        return sum(phone.finished for phone in self.by_session.values())


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
