"""One reader in a process of its own, as it may die: `python -m benchmarks.fuzz.worker READER SEEDS`.

A line of standard input is a number; the answer is a line with it and what came of the input that was made of it.
"""

import os
import random
import resource
import shutil
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
    """``value``, ``refused``, or what is wrong."""
    with tempfile.TemporaryDirectory() as scratch:
        place, beside = Path(scratch) / "in", Path(scratch) / "beside"
        place.mkdir()
        beside.mkdir()
        os.chdir(beside)
        path = reader.make(seeds, place, random.Random(number))
        try:
            reader.read(path)
            said = "value"
        except EdgeAttnError as error:
            text = " ".join(str(error).split())
            said = "refused" if 0 < len(text) < 20_000 else f"FAULT no sentence: {text[:300]}"
        except BaseException as error:  # noqa: BLE001  # that is what is looked for
            said = f"FAULT {type(error).__name__} {_where(error)}: {' '.join(str(error).split())[:160]}"
        wrote = sorted(p.name for p in beside.iterdir()) + sorted({p.name for p in place.iterdir()} - {path.name})
        if wrote:
            said = f"FAULT wrote {wrote}"
        os.chdir("/")
        shutil.rmtree(place, ignore_errors=True)
        return said


def _where(error: BaseException) -> str:
    """The innermost line, and the innermost one of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/export/" in frame.filename or "/edgeattn/" in frame.filename]
    return " from ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in (frames[-1], *own[-1:]))


def main() -> None:
    reader, seeds = READERS[sys.argv[1]], Path(sys.argv[2])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    outcome(reader, seeds, 0)  # everything is imported
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28,) * 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for line in sys.stdin:
        number = int(line)
        out.write(f"{number} {outcome(reader, seeds, number)}\n")
        out.flush()


if __name__ == "__main__":
    main()
