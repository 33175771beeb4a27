"""A phone's end of adb, on loopback: the real `adb` client talks to a folder, in which the phone's commands run.

The wire protocol is that of Android's own adbd (packages/modules/adb: protocol.txt, SYNC.TXT, the shell v2 packets).
`Phone` is the device: its folder, its faults, and the services ``shell``, ``exec``, ``sync``, ``tcp`` and ``reverse``.
"""

import os
import shutil
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = (int.from_bytes(name, "little") for name in
                                      (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE"))  # fmt: skip
VERSION, MAX_DATA = 0x01000001, 64 * 1024
TOKEN, PUBLIC_KEY = 1, 3
SHELL_PATH = "/system/bin"


@dataclass
class Phone:
    """A phone whose file system is ``root``, on a port of its own.

    ``state`` is what `adb devices` shall say of it. Faults: ``space_bytes`` is what may still be pushed, ``lost_after``
    the number of pushed bytes after which the line is cut. ``view`` is called with the address of each `am start -d`.
    """

    root: Path
    state: Literal["device", "unauthorized", "offline"] = "device"
    space_bytes: int | None = None
    lost_after: int | None = None
    view: Callable[[str], None] = lambda _: None
    pushed: list[str] = field(default_factory=list)
    pushed_bytes: int = 0

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        host, port = self.listener.getsockname()
        self.serial = f"{host}:{port}"
        self.links: list[Link] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self) -> None:
        """Cut the line, as a pulled cable does; nobody answers any more."""
        shut(self.listener)
        for link in self.links:
            link.cut()

    def file(self, path: str) -> Path:
        return Path(f"{self.root}{os.path.normpath('/' + path)}")

    def sent(self, path: str, size: int) -> None:
        """Count what is pushed to ``path``, and fail as it was said."""
        self.pushed_bytes += size
        if self.lost_after is not None and self.pushed_bytes > self.lost_after:
            self.lose()
        if self.space_bytes is not None and self.pushed_bytes > self.space_bytes:
            raise OSError(28, "No space left on device", path)

    def command(self, line: str) -> list[str]:
        env = [f"{SHELL_PATH}/env", "LD_PRELOAD=/system/lib/exec.so"]
        return [
            shutil.which("chroot") or "chroot",
            str(self.root),
            *env,
            f"{SHELL_PATH}/sh",
            *(["-c", line] if line else []),
        ]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self.listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.links.append(Link(self, accepted))


class Stream:
    """One of the streams of a link; a write waits for the answer to the one before."""

    def __init__(self, link: "Link", local: int, remote: int) -> None:
        self.link, self.local, self.remote = link, local, remote
        self.changed = threading.Condition()
        self.received, self.ended, self.ready = bytearray(), False, remote != 0

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.received) >= size or self.ended)
            if len(self.received) < size:
                raise EOFError
            taken = bytes(self.received[:size])
            del self.received[:size]
        return taken

    def take_some(self) -> bytes:
        """What is there, once something is; nothing at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.received or self.ended)
            taken = bytes(self.received)
            self.received.clear()
        return taken

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_DATA):
            with self.changed:
                self.changed.wait_for(lambda: self.ready or self.ended)
                if self.ended:
                    raise EOFError
                self.ready = False
            self.link.send(WRTE, self.local, self.remote, data[start : start + MAX_DATA])

    def drain(self) -> None:
        """Wait until the other side has taken all."""
        with self.changed:
            self.changed.wait_for(lambda: self.ready or self.ended)

    def fail(self, error: str) -> None:
        """The answer of ``sync`` to what it cannot do."""
        self.write(b"FAIL" + struct.pack("<I", len(error.encode())) + error.encode())

    def update(self, *, data: bytes = b"", ready: bool = False, ended: bool = False) -> None:
        with self.changed:
            self.received += data
            self.ready |= ready
            self.ended |= ended
            self.changed.notify_all()


class Link:
    """One connection of a client's server."""

    def __init__(self, phone: Phone, line: socket.socket) -> None:
        self.phone, self.line = phone, line
        self.sending = threading.Lock()
        self.streams: dict[int, Stream] = {}
        self.forwards: dict[str, tuple[socket.socket, str]] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        shut(self.line)
        for stream in list(self.streams.values()):
            stream.update(ended=True)
        for listener, _ in self.forwards.values():
            shut(listener)

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        header = struct.pack("<6I", command, first, second, len(data), sum(data) & 0xFFFFFFFF, command ^ 0xFFFFFFFF)
        with self.sending:
            self.line.sendall(header + data)

    def open(self, remote: int) -> Stream:
        stream = Stream(self, len(self.streams) + 1, remote)
        self.streams[stream.local] = stream
        return stream

    def _serve(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                command, first, second, size, _, _ = struct.unpack("<6I", _receive(self.line, 24))
                self._message(command, first, second, _receive(self.line, size))
        self.cut()

    def _message(self, command: int, first: int, second: int, data: bytes) -> None:
        if command == CNXN and self.phone.state == "device":
            banner = (
                b"device::ro.product.name=loop;ro.product.model=Loop_8;ro.product.device=loop;features=shell_v2,cmd"
            )
            self.send(CNXN, VERSION, MAX_DATA, banner)
        elif command == CNXN and self.phone.state == "unauthorized":
            self.send(AUTH, TOKEN, 0, os.urandom(20))
        elif (
            command == AUTH and first != PUBLIC_KEY
        ):  # it offers another key; the last is asked of the owner, who waits
            self.send(AUTH, TOKEN, 0, os.urandom(20))
        elif command == OPEN:
            service = data.rstrip(b"\0").decode()
            threading.Thread(target=self._answer, args=(self.open(first), service), daemon=True).start()
        elif second in self.streams:
            stream = self.streams[second]
            if command == OKAY:
                stream.remote = first
                stream.update(ready=True)
            elif command == WRTE:
                stream.update(data=data)
                self.send(OKAY, stream.local, stream.remote)
            elif command == CLSE:
                stream.update(ended=True)

    def _answer(self, stream: Stream, service: str) -> None:
        import adbd_services

        name, _, argument = service.partition(":")
        name, *options = name.split(",")
        answer = {
            "shell": lambda: adbd_services.shell(self.phone, stream, argument, packets="v2" in options),
            "exec": lambda: adbd_services.shell(self.phone, stream, argument, packets=False),
            "sync": lambda: adbd_services.sync(self.phone, stream),
            "tcp": lambda: adbd_services.splice(stream, socket.create_connection(("127.0.0.1", int(argument)))),
            "reverse": lambda: adbd_services.reverse(self, stream, argument),
        }.get(name)
        with suppress(EOFError, OSError):
            if answer:
                self.send(OKAY, stream.local, stream.remote)
                answer()
                stream.drain()
        with suppress(OSError):
            self.send(CLSE, stream.local if answer else 0, stream.remote)


def _receive(line: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = line.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def shut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()
