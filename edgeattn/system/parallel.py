"""The same work on several devices at once, a thread each; an interrupt reaches them all."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from edgeattn.errors import EdgeAttnError, TargetError

T = TypeVar("T")

# Set when the user interrupts: Python tells the main thread alone.
_interrupted = threading.Event()


class InterruptedTargetError(TargetError):
    """One of several was interrupted, and has nothing to give."""


def each(work: Callable[[str], T], names: Sequence[str]) -> dict[str, T | EdgeAttnError]:
    """What ``work`` makes of each of ``names``, or the error that it ends with; one name runs in this thread.

    Raises:
        KeyboardInterrupt: the user interrupted, and that ended all of them.
    """
    if len(names) == 1:
        return {names[0]: work(names[0])}
    with ThreadPoolExecutor(len(names)) as pool:
        futures = {name: pool.submit(_kept, work, name) for name in names}
        try:
            wait(futures.values())
        except KeyboardInterrupt:
            _interrupted.set()
            wait(futures.values())
        finally:
            _interrupted.clear()
    found = {name: future.result() for name, future in futures.items()}
    if all(isinstance(one, InterruptedTargetError) for one in found.values()):
        raise KeyboardInterrupt
    return found


def check() -> None:
    """To be called now and then by what waits long.

    Raises:
        KeyboardInterrupt: the user interrupted, and this may be another thread.
    """
    if _interrupted.is_set():
        raise KeyboardInterrupt


def sleep(seconds: float) -> None:
    """Wait, but not on when the user interrupts.

    Raises: as :func:`check`.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check()
        _interrupted.wait(left)


def _kept(work: Callable[[str], T], name: str) -> T | EdgeAttnError:
    try:
        return work(name)
    except EdgeAttnError as error:
        return error
    except KeyboardInterrupt:
        return InterruptedTargetError("interrupted before anything was measured")
