"""Runs on a board, at the far end of an ssh session (``ssh/connection.py``), and starts the worker there.

Sent as it is: one file, Python 3.8 or later, nothing but the standard library. It keeps one folder for temporary files.
When the line ends, however it ends, it ends what it started and removes what it made: nobody else can, once the
connection is lost.

A message, either way, is one line of JSON, and as many bytes after it as its ``size`` says. It is asked, and answers
with ``ok``, or with ``error``, a sentence:

    put       path, size    write a file below the folder
    link      path, to      the same file once more, as ``to``
    remove    path          a folder below the folder
    facts                   what the board is
    state                   what changes there: governor, frequency, temperature, throttling
    run       argv, folders, cores
                            run a command in the folder; ``code``, ``out`` and ``err`` say how it ended. While it runs,
                            what it writes into ``folders`` is sent back: ``file``, ``at``, ``size``
    scratch   path          a folder elsewhere that is removed at the end too; ``keep`` takes that back
"""

from __future__ import annotations

import glob
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

CHUNK = 1 << 20
# What is kept of a command's output: its end.
KEPT = 1 << 16
# What is sent back while a command runs, and how often it is looked for: seldom, so that the runs are not disturbed.
LIVE = ("/samples.txt", "/result.json")
LOOK_S = 0.5
# Of the Raspberry Pi's firmware: bit n is now, bit n + 16 since it was started.
THROTTLED = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def read(*places: str) -> str:
    """The first of these files that can be read and is not empty, in one line."""
    for place in places:
        try:
            with open(place, "rb") as file:
                text = " ".join(file.read(CHUNK).replace(b"\0", b" ").decode("utf-8", "replace").split())
        except OSError:
            continue
        if text:
            return text
    return ""


def output(*command: str) -> str:
    """What a command says; nothing if it is not there, or fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def fields(text: str) -> dict[str, str]:
    """``NAME: VALUE`` lines; the first of a name counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def facts(root: str = "/") -> dict[str, Any]:
    """What the board is: its name, what else it tells of itself, and its folder for caches."""
    try:
        with open(os.path.join(root, "proc/cpuinfo"), encoding="utf-8", errors="replace") as file:
            cpuinfo = fields(file.read())
    except OSError:
        cpuinfo = {}
    model = read(os.path.join(root, "proc/device-tree/model"), os.path.join(root, "sys/firmware/devicetree/base/model"))
    model = model or cpuinfo.get("Model", "")
    cpu = fields(output("lscpu")).get("Model name", "") or cpuinfo.get("model name", "")
    try:
        with open(os.path.join(root, "etc/os-release"), encoding="utf-8") as file:
            system = dict(line.strip().split("=", 1) for line in file if "=" in line).get("PRETTY_NAME", "").strip('"')
    except OSError:
        system = ""
    details = {
        "model": model,
        "machine": platform.machine(),
        "cpu": cpu,
        "cores": read(os.path.join(root, "sys/devices/system/cpu/online")),
        "system": system,
        "kernel": platform.release(),
    }
    return {
        "name": model or platform.node() or "board",
        "details": {key: value for key, value in details.items() if value},
        # Not where it is no Linux.
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        "cache": os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
        "python": sys.executable,
    }


def mhz(khz: str) -> str:
    return f"{int(khz) // 1000} MHz" if khz.isdigit() else "unknown"


def state(root: str = "/") -> dict[str, str]:
    """What changes while it runs, in words with units; only what the board tells."""
    found: dict[str, str] = {}
    for policy in sorted(glob.glob(os.path.join(root, "sys/devices/system/cpu/cpufreq/policy*"))):
        speed, most = (mhz(read(os.path.join(policy, "scaling_" + name))) for name in ("cur_freq", "max_freq"))
        governor = read(os.path.join(policy, "scaling_governor"))
        found[os.path.basename(policy)] = f"{speed} ({governor}, at most {most})"
    for zone in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*"))):
        kind, value = read(os.path.join(zone, "type")), read(os.path.join(zone, "temp"))
        if value.lstrip("-").isdigit():
            name = f"zone {kind}" if kind and f"zone {kind}" not in found else f"zone {os.path.basename(zone)}"
            found[name] = f"{int(value) / 1000:.1f} °C"
    flags = output("vcgencmd", "get_throttled").partition("=")[2] or read(
        os.path.join(root, "sys/devices/platform/soc/soc:firmware/get_throttled")
    )
    try:
        bits = int(flags, 16)
    except ValueError:
        return found
    said = [what + " now" for bit, what in enumerate(THROTTLED) if bits >> bit & 1]
    said += [what + " since the start" for bit, what in enumerate(THROTTLED) if bits >> bit + 16 & 1]
    found["throttling"] = ", ".join(said) or "none"
    return found


class Board:
    """Answers to one session."""

    def __init__(self, folder: str, asked: BinaryIO, answers: BinaryIO) -> None:
        self.folder, self.asked, self.answers = folder, asked, answers
        self.made = [folder]

    def serve(self) -> None:
        """Until the line ends."""
        while True:
            line = self.asked.readline()
            if not line.endswith(b"\n"):
                return
            request = json.loads(line)
            try:
                answer = getattr(self, "do_" + request.pop("do"))(**request)
            except (OSError, ValueError) as error:
                if isinstance(error, BrokenPipeError):
                    return
                answer = {"error": str(error)}
            self.send({"ok": True, **(answer or {})})

    def send(self, message: dict[str, Any], content: bytes = b"") -> None:
        self.answers.write(json.dumps(message).encode() + b"\n" + content)
        self.answers.flush()

    def place(self, path: str) -> str:
        place = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        return place

    def chunks(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self.asked.read(min(size, CHUNK))
            if not chunk:
                raise BrokenPipeError
            size -= len(chunk)
            yield chunk

    def do_put(self, path: str, size: int) -> None:
        chunks = self.chunks(size)
        try:
            with open(self.place(path), "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
        finally:
            for _ in chunks:  # what was announced is read to its end, also where there is no room for it
                pass

    def do_link(self, path: str, to: str) -> None:
        os.link(self.place(path), self.place(to))

    def do_facts(self) -> dict[str, Any]:
        return facts()

    def do_state(self) -> dict[str, Any]:
        return {"state": state()}

    def do_remove(self, path: str) -> None:
        shutil.rmtree(self.place(path), ignore_errors=True)

    def do_scratch(self, path: str) -> None:
        self.made.append(path)

    def do_keep(self, path: str) -> None:
        self.made.remove(path)

    def do_run(self, argv: list[str], folders: list[str], cores: list[int]) -> dict[str, Any]:
        sent = Sent(self, folders)
        try:
            process = subprocess.Popen(
                argv,
                cwd=self.folder,
                # onnxruntime would leave an identifier of the board there, and send what it is used for to its makers.
                env={**os.environ, "TMPDIR": self.folder, "ORT_DISABLE_TELEMETRY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
            )
        except OSError as error:  # there is no such program: as a shell says it
            return {"code": 127, "out": "", "err": str(error)}
        assert process.stdout is not None
        assert process.stderr is not None
        said = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
        out, err = said
        open_pipes = set(said)
        try:
            while open_pipes:
                ready = select.select([self.asked.fileno(), *open_pipes], [], [], LOOK_S)[0]
                if self.asked.fileno() in ready:  # nothing is said meanwhile but that the line has ended
                    raise BrokenPipeError
                for pipe in ready:
                    chunk = os.read(pipe, KEPT)
                    said[pipe] = (said[pipe] + chunk)[-KEPT:]
                    if not chunk:
                        open_pipes.remove(pipe)
                sent.send_new(LIVE)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            process.wait()
            process.stdout.close()
            process.stderr.close()
        sent.send_new(("",))
        return {
            "code": process.returncode,
            "out": said[out].decode("utf-8", "replace"),
            "err": said[err].decode("utf-8", "replace"),
        }


class Sent:
    """What is new in some folders goes back, once; what lies there at first is known already."""

    def __init__(self, board: Board, folders: list[str]) -> None:
        self.board, self.folders = board, folders
        self.stamps = {path: self.stamp(board.place(path)) for path in self.files()}

    def files(self) -> list[str]:
        return [f"{folder}/{name}" for folder in self.folders for name in os.listdir(self.board.place(folder))]

    def stamp(self, file: str | int) -> tuple[int, int, int]:
        stat = os.stat(file)
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    def send_new(self, suffixes: tuple[str, ...]) -> None:
        for path in self.files():
            if not path.endswith(suffixes):
                continue
            before = self.stamps.get(path)
            if before == self.stamp(self.board.place(path)):
                continue
            # Samples only grow; another file is written anew.
            at = before[0] if before and path.endswith("/samples.txt") else 0
            with open(self.board.place(path), "rb") as file:
                # Of the file that is open: another may have taken its place since.
                stamp = self.stamps[path] = self.stamp(file.fileno())
                file.seek(at)
                content = file.read(stamp[0] - at)
            self.board.send({"file": path, "at": at, "size": len(content)}, content)


def main(marker: str) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything else prints here is no message
    board = Board(tempfile.mkdtemp(prefix="edgeattn-"), sys.stdin.buffer, answers)
    try:
        # A shell's profile may have said something before: from this line on, it is us.
        answers.write(b"\n" + marker.encode() + b"\n")
        board.send({"ok": True})
        board.serve()
    except BrokenPipeError:
        pass
    finally:
        for path in reversed(board.made):
            shutil.rmtree(path, ignore_errors=True)
    with suppress(BrokenPipeError):
        answers.close()


if __name__ == "__main__":
    main(sys.argv[-1])
