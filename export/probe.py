"""Files of strangers, tried in a process of its own before they are opened here: a crash there is a sentence here."""

import signal
import subprocess
import sys
from pathlib import Path

from edgeattn.errors import ArtifactError
from export import _probe

_SCRIPT = Path(_probe.__file__)
# The libraries themselves take 2 GiB of addresses; the rest is for the file: what it holds several times over.
_BASE_BYTES, _TIMES = 6 * 2**30, 16
# Of processor time: a minute, and a second for each MB.
_BASE_SECONDS, _BYTES_PER_SECOND = 60, 10**6


def check(*paths: Path, run: bool = False) -> None:
    """Open each file as its vendors' libraries will, and with ``run`` run it once on zeros, within limits of time and
    memory. What is no file of such a library is passed over.

    Raises:
        ArtifactError: it ends the process, or does not come to an end itself, or needs too much memory.
    """
    processes = [(path, _start(path, run)) for path in paths if path.is_file() and path.suffix[1:] in _probe.OPENS]
    try:
        for path, (process, seconds) in processes:
            _judge(path, process, seconds)
    finally:
        for _, (process, _) in processes:
            process.kill()
            process.wait()


def _start(path: Path, run: bool) -> tuple[subprocess.Popen[bytes], int]:
    size = path.stat().st_size
    seconds = _BASE_SECONDS + size // _BYTES_PER_SECOND
    limits = [str(_BASE_BYTES + _TIMES * size), str(seconds), str(int(run))]
    # -P: what lies in the working directory is not imported.
    command = [sys.executable, "-P", "-W", "ignore", str(_SCRIPT), *limits, str(path.absolute())]
    nothing = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing), seconds


def _judge(path: Path, process: subprocess.Popen[bytes], seconds: int) -> None:
    try:
        # Others may be busy too: time that passes is no measure of what it does, but has an end.
        code = process.wait(10 * seconds)
    except subprocess.TimeoutExpired:
        code = -signal.SIGXCPU
    refused = f"{path} is not opened, as it is damaged or meant to harm: tried in a process of its own, it"
    if code == _probe.MEMORY:
        raise ArtifactError(f"{refused} needed more memory than {_TIMES} times its size and {_BASE_BYTES >> 30} GiB")
    if code == -signal.SIGXCPU:
        raise ArtifactError(f"{refused} did not come to an end within {seconds} s")
    if code < 0:
        raise ArtifactError(f"{refused} ended that by {signal.Signals(-code).name}")
