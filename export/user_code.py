"""Restores the process-wide state that a user's code may change."""

import contextlib
import os
import random
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Code in the block prints to stderr. Afterwards the working directory, the random states of Python, numpy and
    torch, torch's default type and threads, and the filters of warnings are restored. In the block gradients are on,
    and inference mode and autocast are off, as by default."""
    import numpy as np
    import torch

    python, arrays = random.getstate(), np.random.get_state()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    with (
        contextlib.redirect_stdout(sys.stderr),
        torch.random.fork_rng(devices=[]),
        contextlib.chdir(os.getcwd()),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        warnings.catch_warnings(),
    ):
        # torch's own use of what it deprecates, in the copy of a program of torch.export.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
            torch.set_default_dtype(dtype)
            torch.set_num_threads(threads)
