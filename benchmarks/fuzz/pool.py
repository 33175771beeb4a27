"""Workers that may die or hang: each input in turn, an outcome for each."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
COMMAND: tuple[str, ...] = (sys.executable, "-W", "ignore", "-m", "benchmarks.fuzz.worker")
SECONDS = 20
START_SECONDS = 300


class _Worker:
    def __init__(self, seeds: Path, readers: Sequence[str]) -> None:
        # Scratch folders in memory: making and removing them on a disk takes longer than reading what is in them.
        scratch = {"TMPDIR": "/dev/shm"} if os.access("/dev/shm", os.W_OK) else {}
        environment = os.environ | scratch | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": ""}
        self.process = subprocess.Popen(
            [*COMMAND, str(seeds), *readers],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.selector = selectors.DefaultSelector()
        assert self.process.stdout is not None
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.seconds = START_SECONDS

    def answer(self, reader: str, number: int) -> tuple[str, bool]:
        """What came of an input, and whether the worker is still there."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{reader} {number}\n")
            self.process.stdin.flush()
            ready = self.selector.select(self.seconds)
            line = self.process.stdout.readline() if ready else ""
        except BrokenPipeError:
            ready, line = [], ""
        self.seconds = SECONDS
        if line:
            return line.strip(), True
        if ready:  # it closed its end: it is about to be gone
            self.process.wait(SECONDS)
        self.close()
        code = self.process.returncode
        if code == 1:
            raise RuntimeError(f"the worker itself failed at {reader} {number}: python -m benchmarks.fuzz.worker")
        if not ready:
            return f"HANG over {SECONDS} s", False
        return f"CRASH {signal.Signals(-code).name if code < 0 else code}", False

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.selector.close()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]  # both are pipes


def outcomes(seeds: Path, inputs: Iterable[tuple[str, int]], readers: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """What came of each input, a reader and a number, in order; a worker that dies is replaced.

    Args:
        readers: all that occur in ``inputs``.
    """
    worker = _Worker(seeds, readers)
    try:
        for reader, number in inputs:
            outcome_text, alive = worker.answer(reader, number)
            yield reader, number, outcome_text
            if not alive:
                worker = _Worker(seeds, readers)
    finally:
        worker.close()
