"""Runs on a board, at the far end of an ssh session (``ssh/connection.py``), and starts the worker there.

Sent as it is: one file, Python 3.8 or later, the standard library alone. It has one folder for temporary files. When
the connection ends, for whatever reason, it ends the processes that it started and removes its files: once the
connection is lost, nobody else can.

A message, in either direction, is one line of JSON, followed by ``size`` bytes. It gets requests, and answers with
``ok``, or with ``error``, a sentence:

    put       path, size    write a file in the folder
    link      path, to      link the file to a second name, ``to``
    remove    path          remove a folder in the folder
    facts                   the board's name and properties
    state                   what changes during a run: governor, frequency, temperature, throttling
    run       argv, folders, cores
                            run a command in the folder; the answer has ``code``, ``out`` and ``err``. While it runs,
                            the files that it writes into ``folders`` are sent back: ``file``, ``at``, ``size``
    scratch   path          a folder elsewhere that is removed at the end too; ``keep`` cancels that
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
# A command's output is cut to its last bytes.
OUTPUT_BYTES = 1 << 16
# Files that are sent back while a command runs, and the interval: long, so that the runs are not disturbed.
LIVE = ("/samples.txt", "/result.json")
POLL_S = 0.5
# Flags of the Raspberry Pi's firmware: bit n means now, bit n + 16 since the start.
THROTTLED = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def read(*paths: str) -> str:
    """The first of these files that can be read and is not empty, in one line."""
    for path in paths:
        try:
            with open(path, "rb") as file:
                text = " ".join(file.read(CHUNK).replace(b"\0", b" ").decode("utf-8", "replace").split())
        except OSError:
            continue
        if text:
            return text
    return ""


def output(*command: str) -> str:
    """The output of a command; "" if it is not there, or fails."""
    try:
        process = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.decode("utf-8", "replace").strip() if process.returncode == 0 else ""


def fields(text: str) -> dict[str, str]:
    """``NAME: VALUE`` lines; the first line of a name counts."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    return values


def facts(root: str = "/") -> dict[str, Any]:
    """The board's name and properties, and its folder for caches."""
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
        # On Linux alone.
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        "cache": os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
        "python": sys.executable,
    }


def mhz(khz: str) -> str:
    return f"{int(khz) // 1000} MHz" if khz.isdecimal() else "unknown"


def state(root: str = "/") -> dict[str, str]:
    """What changes during a run, for people, with units; only what the board reveals."""
    values: dict[str, str] = {}
    for policy in sorted(glob.glob(os.path.join(root, "sys/devices/system/cpu/cpufreq/policy*"))):
        speed, most = (mhz(read(os.path.join(policy, "scaling_" + name))) for name in ("cur_freq", "max_freq"))
        governor = read(os.path.join(policy, "scaling_governor"))
        limit, reach = (read(os.path.join(policy, name)) for name in ("scaling_max_freq", "cpuinfo_max_freq"))
        # As far as is_capped in clocks.py: this file is sent alone.
        if limit.isdigit() and reach.isdigit() and 0 < int(limit) < 0.98 * int(reach):
            most += f" of {mhz(reach)}"
        values[os.path.basename(policy)] = f"{speed} ({governor}, at most {most})"
    for device in sorted(glob.glob(os.path.join(root, "sys/class/thermal/cooling_device*"))):
        kind, now, most = (read(os.path.join(device, name)) for name in ("type", "cur_state", "max_state"))
        # Fans cool and slow nothing down; these hold the clock of the processor, or the processor itself.
        if ("cpufreq" in kind or kind.lower() == "processor") and now.isdigit() and int(now):
            values["cooling " + os.path.basename(device) + " " + kind] = f"{now} of {most}"
    counts = [
        read(path)
        for path in glob.glob(
            os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
        )
    ]
    if any(count.isdigit() for count in counts):
        values["thermal throttling"] = str(sum(int(count) for count in counts if count.isdigit()))
    for zone in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*"))):
        kind, value = read(os.path.join(zone, "type")), read(os.path.join(zone, "temp"))
        if value.lstrip("-").isdecimal():
            name = f"zone {kind}" if kind and f"zone {kind}" not in values else f"zone {os.path.basename(zone)}"
            values[name] = f"{int(value) / 1000:.1f} °C"
    flags = output("vcgencmd", "get_throttled").partition("=")[2] or read(
        os.path.join(root, "sys/devices/platform/soc/soc:firmware/get_throttled")
    )
    try:
        bits = int(flags, 16)
    except ValueError:
        return values
    active = [flag + " now" for bit, flag in enumerate(THROTTLED) if bits >> bit & 1]
    active += [flag + " since the start" for bit, flag in enumerate(THROTTLED) if bits >> bit + 16 & 1]
    values["throttling"] = ", ".join(active) or "none"
    return values


class Board:
    """Answers the requests of one session."""

    def __init__(self, folder: str, requests: BinaryIO, answers: BinaryIO) -> None:
        self.folder, self.requests, self.answers = folder, requests, answers
        self.temporary = [folder]

    def serve(self) -> None:
        """Answer until the connection ends."""
        while True:
            line = self.requests.readline()
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

    def local(self, path: str) -> str:
        local = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(local), exist_ok=True)
        return local

    def chunks(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self.requests.read(min(size, CHUNK))
            if not chunk:
                raise BrokenPipeError
            size -= len(chunk)
            yield chunk

    def do_put(self, path: str, size: int) -> None:
        chunks = self.chunks(size)
        try:
            with open(self.local(path), "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
        finally:
            for _ in chunks:  # the rest of the announced bytes is read, even if the disk is full
                pass

    def do_link(self, path: str, to: str) -> None:
        os.link(self.local(path), self.local(to))

    def do_facts(self) -> dict[str, Any]:
        return facts()

    def do_state(self) -> dict[str, Any]:
        return {"state": state()}

    def do_remove(self, path: str) -> None:
        shutil.rmtree(self.local(path), ignore_errors=True)

    def do_scratch(self, path: str) -> None:
        self.temporary.append(path)

    def do_keep(self, path: str) -> None:
        self.temporary.remove(path)

    def do_run(self, argv: list[str], folders: list[str], cores: list[int]) -> dict[str, Any]:
        changes = Changes(self, folders)
        try:
            process = subprocess.Popen(
                argv,
                cwd=self.folder,
                # onnxruntime would store an identifier on the board, and send telemetry.
                env={**os.environ, "TMPDIR": self.folder, "ORT_DISABLE_TELEMETRY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
            )
        except OSError as error:  # there is no such program: the exit code of a shell
            return {"code": 127, "out": "", "err": str(error)}
        assert process.stdout is not None
        assert process.stderr is not None
        outputs = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
        out, err = outputs
        open_pipes = set(outputs)
        try:
            while open_pipes:
                ready = select.select([self.requests.fileno(), *open_pipes], [], [], POLL_S)[0]
                if self.requests.fileno() in ready:  # there are no requests meanwhile: the connection has ended
                    raise BrokenPipeError
                for pipe in ready:
                    chunk = os.read(pipe, OUTPUT_BYTES)
                    outputs[pipe] = (outputs[pipe] + chunk)[-OUTPUT_BYTES:]
                    if not chunk:
                        open_pipes.remove(pipe)
                changes.send_new(LIVE)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            process.wait()
            process.stdout.close()
            process.stderr.close()
        changes.send_new(("",))
        return {
            "code": process.returncode,
            "out": outputs[out].decode("utf-8", "replace"),
            "err": outputs[err].decode("utf-8", "replace"),
        }


class Changes:
    """Sends new content of some folders back, once; the files that are there at first are not sent."""

    def __init__(self, board: Board, folders: list[str]) -> None:
        self.board, self.folders = board, folders
        self.stamps = {path: self.stamp(board.local(path)) for path in self.files()}

    def files(self) -> list[str]:
        return [f"{folder}/{name}" for folder in self.folders for name in os.listdir(self.board.local(folder))]

    def stamp(self, file: str | int) -> tuple[int, int, int]:
        stat = os.stat(file)
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    def send_new(self, suffixes: tuple[str, ...]) -> None:
        for path in self.files():
            if not path.endswith(suffixes):
                continue
            before = self.stamps.get(path)
            if before == self.stamp(self.board.local(path)):
                continue
            # Samples only grow; other files are written as a whole.
            at = before[0] if before and path.endswith("/samples.txt") else 0
            with open(self.board.local(path), "rb") as file:
                # Of the open file: its path may have another file by now.
                stamp = self.stamps[path] = self.stamp(file.fileno())
                file.seek(at)
                content = file.read(stamp[0] - at)
            self.board.send({"file": path, "at": at, "size": len(content)}, content)


def main(marker: str) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # other output of this process is no message
    board = Board(tempfile.mkdtemp(prefix="edgeattn-"), sys.stdin.buffer, answers)
    try:
        # A shell's profile may have printed something before: our messages start after this line.
        answers.write(b"\n" + marker.encode() + b"\n")
        board.send({"ok": True})
        board.serve()
    except BrokenPipeError:
        pass
    finally:
        for path in reversed(board.temporary):
            shutil.rmtree(path, ignore_errors=True)
    with suppress(BrokenPipeError):
        answers.close()


if __name__ == "__main__":
    main(sys.argv[-1])
