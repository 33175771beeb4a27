"""What a phone's adbd serves on a stream: a shell, files, and ports that are forwarded."""

import os
import shlex
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from adbd import CLSE, MAX_DATA, OPEN, SHELL_PATH, Link, Phone, Stream, shut

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


def shell(phone: Phone, stream: Stream, line: str, *, packets: bool) -> None:
    """Run ``line``; in ``packets`` (shell v2) stdout, stderr and the exit code travel apart."""
    if line.startswith("am start"):
        words = shlex.split(line)
        phone.view(words[words.index("-d") + 1])
        line = "echo Starting: Intent"
    process = subprocess.Popen(
        phone.command(line),
        env={"PATH": SHELL_PATH, "HOME": "/"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if packets else subprocess.STDOUT,
        start_new_session=True,
        bufsize=0,
    )
    phone.shells.append(process)

    def answer(kind: int, data: bytes) -> None:
        stream.write(struct.pack("<BI", kind, len(data)) + data if packets else data)

    def pump(kind: int, pipe: int) -> None:
        with suppress(EOFError, OSError):
            while data := os.read(pipe, MAX_DATA // 2):
                with one:
                    answer(kind, data)

    one = threading.Lock()
    threading.Thread(target=_feed, args=(process, stream, packets), daemon=True).start()
    pipes = {STDOUT: process.stdout, STDERR: process.stderr}
    pumps = [threading.Thread(target=pump, args=(kind, pipe.fileno())) for kind, pipe in pipes.items() if pipe]
    for thread in pumps:
        thread.start()
    code = process.wait()
    for thread in pumps:
        thread.join()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()
    if packets:
        answer(EXIT, bytes([code if code >= 0 else 128 - code]))


def _feed(process: subprocess.Popen[bytes], stream: Stream, packets: bool) -> None:
    """The client's stdin; when the line goes, adbd sends SIGHUP to the shell."""
    assert process.stdin
    with suppress(EOFError, OSError, ValueError):
        while packets:
            kind, size = struct.unpack("<BI", stream.take(5))
            data = stream.take(size)
            if kind == STDIN:
                process.stdin.write(data)
            elif kind == CLOSE_STDIN:
                process.stdin.close()
        while data := stream.take_some():
            process.stdin.write(data)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGHUP)


def sync(phone: Phone, stream: Stream) -> None:
    """File transfer: STAT, LIST, SEND and RECV, until QUIT."""
    while True:
        request, size = struct.unpack("<4sI", stream.take(8))
        path = stream.take(size).decode()
        if request == b"QUIT":
            return
        if request == b"STAT":
            stream.write(b"STAT" + struct.pack("<3I", *_status(phone.file(path))))
        elif request == b"LIST":
            folder = phone.file(path)
            for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
                name = entry.name.encode()
                stream.write(b"DENT" + struct.pack("<4I", *_status(entry), len(name)) + name)
            stream.write(b"DONE" + bytes(16))
        elif request == b"SEND":
            _store(phone, stream, *path.rsplit(",", 1))
        elif request == b"RECV":
            try:
                for block in _blocks(phone.file(path)):
                    stream.write(b"DATA" + struct.pack("<I", len(block)) + block)
                stream.write(b"DONE" + bytes(4))
            except OSError as error:
                stream.fail(f"open failed: {error.strerror}")


def _store(phone: Phone, stream: Stream, path: str, mode: str) -> None:
    place, error = phone.file(path), ""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.touch()
        phone.pushed.append(path)
    except OSError as refusal:
        error = f"couldn't create file: {refusal.strerror}"
    while True:
        kind, size = struct.unpack("<4sI", stream.take(8))
        if kind == b"DONE":
            break
        block = stream.take(size)
        try:
            if not error:
                phone.sent(path, size)
                with place.open("ab") as file:
                    file.write(block)
        except OSError as refusal:
            place.unlink()
            error = f"write failed: {refusal.strerror}"
    if error:
        stream.fail(error)
    else:
        place.chmod(int(mode) & 0o777)
        os.utime(place, (size, size))
        stream.write(b"OKAY" + bytes(4))


def reverse(link: Link, stream: Stream, request: str) -> None:
    """`adb reverse tcp:A tcp:B`: connections to port A of the phone go to port B of the client's machine."""
    verb, _, rest = request.partition(":")
    if verb == "forward":
        here, there = rest.removeprefix("norebind:").split(";")
        try:
            listener = socket.create_server(("127.0.0.1", int(here.removeprefix("tcp:"))))
        except OSError as error:
            text = str(error).encode()
            stream.write(b"FAIL%04x" % len(text) + text)
            return
        port = listener.getsockname()[1]
        link.forwards[f"tcp:{port}"] = (listener, there)
        threading.Thread(target=_forward, args=(link, listener, there), daemon=True).start()
        # The port that was chosen for tcp:0 is told.
        answer = str(port).encode()
        stream.write(b"OKAY" + (b"%04x" % len(answer) + answer if here == "tcp:0" else b""))
    elif verb in ("killforward", "killforward-all"):
        for name in [rest] if verb == "killforward" else list(link.forwards):
            shut(link.forwards.pop(name)[0])
        stream.write(b"OKAY")
    elif verb == "list-forward":
        listed = "".join(f"host {here} {there}\n" for here, (_, there) in link.forwards.items()).encode()
        stream.write(b"%04x" % len(listed) + listed)


def _forward(link: Link, listener: socket.socket, there: str) -> None:
    with suppress(OSError):
        while True:
            accepted, _ = listener.accept()
            stream = link.open(0)
            link.send(OPEN, stream.local, 0, there.encode() + b"\0")
            threading.Thread(target=splice, args=(stream, accepted), daemon=True).start()


def splice(stream: Stream, line: socket.socket) -> None:
    """Pass bytes both ways until both ends are done."""

    def outwards() -> None:
        with suppress(EOFError, OSError):
            while data := line.recv(MAX_DATA):
                stream.write(data)
        with suppress(OSError):
            stream.link.send(CLSE, stream.local, stream.remote)
        stream.update(ended=True)

    other = threading.Thread(target=outwards, daemon=True)
    other.start()
    with suppress(OSError):
        while data := stream.take_some():
            line.sendall(data)
        line.shutdown(socket.SHUT_WR)
    other.join(5)
    line.close()


def _status(path: Path) -> tuple[int, int, int]:
    try:
        seen = path.lstat()
    except OSError:
        return 0, 0, 0
    return seen.st_mode, seen.st_size, int(seen.st_mtime)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(MAX_DATA - 8):
            yield block
