"""The same work on several devices at once, a thread each; an interrupt reaches them all."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from edgeattn.errors import EdgeAttnError, TargetError
from edgeattn.system.vendor_errors import first_line

T = TypeVar("T")

# Set when the user interrupts: Python raises KeyboardInterrupt in the main thread alone.
_interrupted = threading.Event()


class InterruptedTargetError(TargetError):
    """One of several runs was interrupted before it had a result."""


def each(work: Callable[[str], T], names: Sequence[str]) -> dict[str, T | EdgeAttnError]:
    """The result of ``work`` for each of ``names``, or its error; a single name runs in this thread.

    Raises:
        KeyboardInterrupt: the user interrupted, and none of them has a result.
    """
    if len(names) == 1:
        return {names[0]: work(names[0])}
    with ThreadPoolExecutor(len(names)) as pool:
        futures = {name: pool.submit(_result_or_error, work, name) for name in names}
        try:
            wait(futures.values())
        except KeyboardInterrupt:
            _interrupted.set()
            wait(futures.values())
        finally:
            _interrupted.clear()
    results = {name: future.result() for name, future in futures.items()}
    if all(isinstance(result, InterruptedTargetError) for result in results.values()):
        raise KeyboardInterrupt
    return results


def check() -> None:
    """Call this now and then during a long wait.

    Raises:
        KeyboardInterrupt: the user interrupted, and this may be another thread.
    """
    if _interrupted.is_set():
        raise KeyboardInterrupt


def sleep(seconds: float) -> None:
    """Wait; an interrupt by the user ends the wait.

    Raises: as :func:`check`.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check()
        _interrupted.wait(left)


def _result_or_error(work: Callable[[str], T], name: str) -> T | EdgeAttnError:
    try:
        return work(name)
    except EdgeAttnError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a fault of ours with one device must not cost the others their results
        return TargetError(f"{name} ended in an error that edgeattn did not expect: {first_line(error)}")
    except KeyboardInterrupt:
        return InterruptedTargetError("interrupted before anything was measured")
