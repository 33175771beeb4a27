"""The signals that ask a command to end, and the names of those that ended a process."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C; a CI that cancels; a terminal that is closed, which Windows does not have.
ENDS = tuple(signal.Signals[n] for n in ("SIGINT", "SIGTERM", "SIGHUP") if n in signal.Signals.__members__)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """In the block ``handler`` takes these signals, but those that were ignored already, as by `nohup`."""
    taken = [number for number in ENDS if signal.getsignal(number) != signal.SIG_IGN]
    saved = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, old in saved.items():
            signal.signal(number, old)


def name_of(code: int) -> str:
    """The name of the signal that ended a process of this exit code; "" if none did."""
    return signal.Signals(-code).name if -code in set(signal.Signals) else ""
