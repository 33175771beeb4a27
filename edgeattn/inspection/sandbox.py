"""Untrusted files are opened by their vendors' libraries in a process of its own: a crash there is an error here."""

import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeattn.errors import ArtifactError
from edgeattn.inspection import _open_child as _probe

_SCRIPT = Path(_probe.__file__)
# The libraries alone take 2 GiB of address space; the rest is for the artifact's content, several times.
_BASE_BYTES, _TIMES = 6 * 2**30, 16
# Limits of processor time: a minute, and a second for each MB.
_BASE_SECONDS, _BYTES_PER_SECOND = 60, 10**6


def concerns(path: Path) -> bool:
    """Whether such a library opens this file or folder; a Core ML package is read by Python alone."""
    return path.suffix[1:] in _probe.OPENERS and (path.is_file() or path.is_dir())


def check(*paths: Path, run: bool = False) -> None:
    """Try to open each file, and with ``run`` to run it once on zeros, within limits of time and memory.

    It finds files that end a process each time, not those that do so now and then: :func:`answer` catches these.

    Raises:
        ArtifactError: it ended the process, or did not come to an end itself, or needed too much memory.
    """
    candidates = [path for path in paths if concerns(path)]
    # A library may write what it compiles, and end before it deletes that.
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
        arguments = [[str(_SCRIPT), str(int(run)), str(path.absolute())] for path in candidates]
        processes = [start(path, each, scratch) for path, each in zip(candidates, arguments, strict=True)]
        try:
            for path, process in zip(candidates, processes, strict=True):
                answer(path, process)
        finally:
            for process in processes:
                process.kill()
                process.communicate()


def start(path: Path, arguments: Sequence[str], scratch: str = "") -> "subprocess.Popen[bytes]":
    """A Python process for ``path``, with its temporary files in ``scratch``; its first arguments are the limits that
    it sets for itself."""
    script, *rest = arguments
    limits = [str(_BASE_BYTES + _TIMES * _size(path)), str(_seconds(path))]
    # -P: nothing is imported from the working directory.
    command = [sys.executable, "-P", "-W", "ignore", script, *limits, *rest]
    environment = {**os.environ, "TMPDIR": scratch} if scratch else None
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )


def answer(path: Path, process: "subprocess.Popen[bytes]") -> bytes:
    """What the process wrote to its standard output.

    Raises:
        ArtifactError: it crashed, hung or needed too much memory.
    """
    seconds = _seconds(path)
    try:
        # Other processes may be busy too: wall-clock time is no measure of the work, but needs a limit.
        output, _ = process.communicate(timeout=10 * seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        output, code = b"", -signal.SIGXCPU
    prefix = f"{path} is damaged or meant to harm: read in a process of its own, it"
    if code == _probe.MEMORY:
        raise ArtifactError(f"{prefix} needed more memory than {_TIMES} times its size and {_BASE_BYTES >> 30} GiB")
    if code == -signal.SIGXCPU:
        raise ArtifactError(f"{prefix} did not come to an end within {seconds} s")
    if code < 0:
        raise ArtifactError(f"{prefix} ended that by {signal.Signals(-code).name}")
    return output


def _seconds(path: Path) -> int:
    return _BASE_SECONDS + _size(path) // _BYTES_PER_SECOND


def _size(path: Path) -> int:
    """Bytes of the file, of those in a folder, and of the files beside it that an .onnx names as those of its weights.

    The names are searched for, and the file is not parsed: that is what the other process is for.
    """
    if path.is_dir():
        return sum(x.stat().st_size for x in path.rglob("*") if x.is_file() and not x.is_symlink())
    size = path.stat().st_size
    if path.suffix != ".onnx" or not size:
        return size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"location") < 0:
            return size
        beside = (x for x in path.absolute().parent.iterdir() if x.name != path.name and not x.is_symlink())
        return size + sum(x.stat().st_size for x in beside if x.is_file() and content.find(os.fsencode(x.name)) >= 0)
