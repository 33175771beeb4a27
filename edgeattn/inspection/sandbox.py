"""Files of strangers go into their vendors' libraries in a process of its own: a crash there is a sentence here."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeattn.errors import ArtifactError
from edgeattn.inspection import _open_child as _probe

_SCRIPT = Path(_probe.__file__)
# What an artifact's libraries take of addresses by themselves is 2 GiB; the rest is for what it holds, several times.
_BASE_BYTES, _TIMES = 6 * 2**30, 16
# Of processor time: a minute, and a second for each MB.
_BASE_SECONDS, _BYTES_PER_SECOND = 60, 10**6


def concerns(path: Path) -> bool:
    """Whether this is a file that goes into such a library; a Core ML package is read by Python alone."""
    return path.is_file() and path.suffix[1:] in _probe.OPENS


def check(*paths: Path, run: bool = False) -> None:
    """Try to open each file, and with ``run`` to run it once on zeros, within limits of time and memory.

    It finds what ends a process each time, not what does so now and then: :func:`answer` leaves nothing to luck.

    Raises:
        ArtifactError: it ended the process, or did not come to an end itself, or needed too much memory.
    """
    tried = [path for path in paths if concerns(path)]
    processes = [start(path, [str(_SCRIPT), str(int(run)), str(path.absolute())]) for path in tried]
    try:
        for path, process in zip(tried, processes, strict=True):
            answer(path, process)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def start(path: Path, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    """A Python of its own for ``path``; the first of its arguments are the limits that it is to set itself."""
    script, *rest = arguments
    limits = [str(_BASE_BYTES + _TIMES * path.stat().st_size), str(_seconds(path))]
    # -P: what lies in the working directory is not imported.
    command = [sys.executable, "-P", "-W", "ignore", script, *limits, *rest]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def answer(path: Path, process: "subprocess.Popen[bytes]") -> bytes:
    """What the process wrote to its standard output.

    Raises:
        ArtifactError: it came to no good end.
    """
    seconds = _seconds(path)
    try:
        # Others may be busy too: time that passes is no measure of what it does, but has an end.
        said, _ = process.communicate(timeout=10 * seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        said, code = b"", -signal.SIGXCPU
    refused = f"{path} is damaged or meant to harm: read in a process of its own, it"
    if code == _probe.MEMORY:
        raise ArtifactError(f"{refused} needed more memory than {_TIMES} times its size and {_BASE_BYTES >> 30} GiB")
    if code == -signal.SIGXCPU:
        raise ArtifactError(f"{refused} did not come to an end within {seconds} s")
    if code < 0:
        raise ArtifactError(f"{refused} ended that by {signal.Signals(-code).name}")
    return said


def _seconds(path: Path) -> int:
    return _BASE_SECONDS + path.stat().st_size // _BYTES_PER_SECOND
