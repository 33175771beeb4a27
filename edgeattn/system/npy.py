"""Untrusted .npy files: checked before anything is allocated for them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeattn.system import files

# Numbers of any kind; numpy has other kinds too, some of which are pickled objects.
_KINDS = "biufc"


def load(path: Path) -> npt.NDArray[np.generic]:
    """The array of ``path``, in memory.

    Raises:
        ValueError: it is no file, is cut, declares more than it holds, or holds no numbers.
    """
    files.check_regular(path)
    try:
        # Mapped first: a shape that the file does not fill is refused, and not allocated.
        mapped = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy parses the header as Python, and may raise any exception
        raise ValueError(f"{path.name} is no .npy file of numbers: {type(error).__name__}") from error
    if mapped.dtype.kind not in _KINDS:
        raise ValueError(f"{path.name} is no .npy file of numbers")
    return np.array(mapped)
