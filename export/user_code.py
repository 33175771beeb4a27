"""Restores the process-wide state that a user's code may change."""

import contextlib
import os
import random
import sys
import warnings
from collections.abc import Iterator

from edgeattn.errors import BadInputError
from edgeattn.system.vendor_errors import first_line


class _ProcessEnd(BaseException):
    """In the place of the end of the process: no ``except Exception`` of the code may take it for something else."""


@contextlib.contextmanager
def _without_exit() -> Iterator[None]:
    """os._exit would end the command without a word, as if it were done. It still ends processes that are forked."""
    saved, process = os._exit, os.getpid()

    def refuse(status: int) -> None:
        if os.getpid() != process:
            saved(status)
        raise _ProcessEnd(f"os._exit({status!r:.20}) would end the process")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = saved


def _working_directory() -> str:
    """Raises BadInputError where there is none any more."""
    try:
        return os.getcwd()
    except OSError as error:
        raise BadInputError("the working directory was deleted: go to one that exists") from error


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Code in the block prints to stderr. Afterwards the working directory, the random states of Python, numpy and
    torch, torch's default type and threads, and the filters of warnings are restored. In the block gradients are on,
    and inference mode and autocast are off, as by default.

    Raises:
        BadInputError: the code ends the process, by os._exit too, or raises what is no Exception, but an interrupt.
    """
    import numpy as np
    import torch

    python, arrays = random.getstate(), np.random.get_state()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    with (
        contextlib.redirect_stdout(sys.stderr),
        torch.random.fork_rng(devices=[]),
        contextlib.chdir(_working_directory()),
        _without_exit(),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        warnings.catch_warnings(),
    ):
        # torch's own use of what it deprecates, in the copy of a program of torch.export.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except SystemExit as error:
            raise BadInputError(f"the model's code ends the process: SystemExit: {first_line(error)}") from error
        except BaseException as error:
            raise BadInputError(f"the model's code raised {type(error).__name__}: {first_line(error)}") from error
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
            torch.set_default_dtype(dtype)
            torch.set_num_threads(threads)
