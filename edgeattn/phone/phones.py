"""The phones that joined: what each has done, and what it is doing."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from edgeattn.phone.messages import Join
from edgeattn.phone.results import Sender, sender

# More than anyone has; beyond that somebody plays with the server.
MOST = 1000


@dataclass(frozen=True)
class Kept:
    """What is remembered of a result that is on the disk: the hash of what was sent, and what it says, in short."""

    digest: str
    passed: bool
    said: str


@dataclass
class Phone:
    """One phone. ``kept`` has what came of the tasks that are done, by their keys; ``since`` is when the task ``doing``
    began. ``called`` is what it calls itself."""

    session: str
    number: int
    called: str
    sender: Sender
    kept: dict[str, Kept] = field(default_factory=dict)
    doing: str = ""
    run: int = 0
    since: str = ""
    finished: bool = False
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    def begin(self, task: str, run: int) -> None:
        if task != self.doing:
            self.doing, self.since = task, now()
        self.run = run


@dataclass
class Phones:
    """All of them, in the order in which they came."""

    known: dict[str, Phone] = field(default_factory=dict)

    def join(self, message: Join, *, local: bool) -> Phone | None:
        """The phone, new or come back; None if there are too many."""
        if message.session in self.known:
            return self.known[message.session]
        if len(self.known) >= MOST:
            return None
        session = secrets.token_hex(8)
        who = sender(message.model_copy(update={"name": self._own(message.name)}), session=session, local=local)
        self.known[session] = Phone(session, len(self.known) + 1, message.name, who)
        return self.known[session]

    def _own(self, name: str) -> str:
        """A name that no other phone has: two of a kind stay apart in a report."""
        alike = sum(phone.called == name for phone in self.known.values())
        return f"{name} #{alike + 1}" if alike else name

    @property
    def finished(self) -> int:
        return sum(phone.finished for phone in self.known.values())


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
