"""What another process writes, read within bounds: a device may send without end."""

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO

# How often a caller's own check is made while a process runs.
STEP_S = 0.1
CHUNK = 1 << 16


class TooMuchError(Exception):
    """A process wrote more than it may; it was ended."""


class Output:
    """What a process writes to a pipe, read by a thread: the last ``most`` bytes, so that it never waits for a reader.

    With ``over``, the first ``most`` bytes; ``over`` is called once there are more.
    """

    def __init__(self, stream: IO[bytes], most: int, over: Callable[[], None] | None = None) -> None:
        self._stream, self._most, self._over = stream, most, over
        self._kept = bytearray()
        self.is_over = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self, wait_s: float = 2.0) -> str:
        """What there is so far; a process that lives on in the background may hold the pipe open for ever."""
        self._thread.join(wait_s)
        return bytes(self._kept).decode(errors="replace")

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._stream:  # it may be closed meanwhile
            while chunk := self._stream.read1(CHUNK):  # type: ignore[attr-defined]  # a pipe's reader has it
                if self._over is None:
                    self._kept += chunk
                    del self._kept[: -self._most]
                elif not self.is_over:
                    self._kept += chunk[: self._most - len(self._kept) + 1]
                    if len(self._kept) > self._most:
                        self.is_over = True
                        self._over()


def finish(
    process: subprocess.Popen[bytes], *, most: int, limit_s: float, check: Callable[[], None] = lambda: None
) -> tuple[str, str]:
    """Wait for a process with pipes: its stdout, and the end of its stderr. ``check`` is called now and then.

    The caller ends the process after an error.

    Raises:
        subprocess.TimeoutExpired: it takes longer than ``limit_s`` seconds.
        TooMuchError: its stdout has more than ``most`` bytes.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = Output(process.stdout, most, process.kill), Output(process.stderr, most)
    until = time.monotonic() + limit_s
    while True:
        left = until - time.monotonic()
        try:
            process.wait(timeout=max(0.0, min(STEP_S, left)))
            break
        except subprocess.TimeoutExpired:
            check()
            if left <= 0:
                raise
    check()
    text = out.text()
    if out.is_over:
        raise TooMuchError
    return text, err.text()
