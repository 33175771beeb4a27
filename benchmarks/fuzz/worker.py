"""Runs readers in a separate process, as they may crash: `python -m benchmarks.fuzz.worker SEEDS READER...`.

A line of standard input is a reader and a number; the answer is the outcome of the input that this number seeds.
"""

import contextlib
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from edgeattn.errors import EdgeAttnError

from .readers import READERS, Reader

# Over what a reader holds when it is loaded.
MEMORY_BYTES = 4 * 2**30


def outcome(reader: Reader, seeds: Path, number: int) -> str:
    """``value``, ``refused``, or a fault."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, beside = Path(scratch) / "in", Path(scratch) / "beside"
        folder.mkdir()
        beside.mkdir()
        path = reader.make(seeds, folder, random.Random(number))
        with contextlib.chdir(beside):
            message = _read(reader, path)
        wrote = sorted(p.name for p in beside.iterdir()) + sorted({p.name for p in folder.iterdir()} - {path.name})
        return f"FAULT wrote {wrote}" if wrote else message


def _read(reader: Reader, path: Path) -> str:
    try:
        reader.read(path)
    except EdgeAttnError as error:
        text = " ".join(str(error).split())
        return "refused" if 0 < len(text) < 20_000 else f"FAULT no sentence: {text[:300]}"
    except BaseException as error:  # noqa: BLE001  # that is what is looked for
        return f"FAULT {type(error).__name__} {_where(error)}: {' '.join(str(error).split())[:160]}"
    return "value"


def _where(error: BaseException) -> str:
    """The innermost line, and the innermost line in our code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/export/" in frame.filename or "/edgeattn/" in frame.filename]
    return " from ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in (frames[-1], *own[-1:]))


def main() -> None:
    seeds, names = Path(sys.argv[1]), sys.argv[2:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for name in names:
        outcome(READERS[name], seeds, 0)  # everything is imported
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28,) * 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for line in sys.stdin:
        name, number = line.split()
        out.write(f"{outcome(READERS[name], seeds, int(number))}\n")
        out.flush()


if __name__ == "__main__":
    main()
