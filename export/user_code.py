"""A user's code may change what all code of a process shares; here that is put back."""

import contextlib
import os
import random
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """What runs in the block prints to stderr; and the working directory, the seeds of Python, numpy and torch, and
    torch's default type and threads are afterwards what they were before. Gradients are on, and inference mode and
    autocast off, as they are where nobody chose otherwise."""
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
    ):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
            torch.set_default_dtype(dtype)
            torch.set_num_threads(threads)
