"""Scratch beside the user's own files: names that cannot be guessed, the umask's permissions, and a list of the folders
for a process that outlives this one."""

import os
import shutil
import tempfile
from pathlib import Path

# The environment variable with the file that lists them.
LIST = "EDGEATTN_SCRATCH"


def folder(out: Path) -> Path:
    """A new folder beside ``out``, which only this user may enter.

    Raises:
        OSError: it cannot be made.
    """
    made = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", dir=out.parent))
    if listed := os.environ.get(LIST):
        with open(listed, "ab") as file:
            file.write(os.fsencode(made) + b"\0")
    return made


def clear(listed: Path) -> None:
    """Delete the folders that a process has listed and, as it came to a sudden end, has left."""
    for name in listed.read_bytes().split(b"\0") if listed.is_file() else ():
        if name:
            shutil.rmtree(os.fsdecode(name), ignore_errors=True)


def file(path: Path) -> tuple[int, Path]:
    """A new file beside ``path``, open for writing, with the permissions of one that the user makes.

    Raises:
        OSError: it cannot be made.
    """
    # The name itself may be as long as names can be.
    descriptor, name = tempfile.mkstemp(prefix=".edgeattn.", dir=path.parent)
    umask = os.umask(0o077)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)
    return descriptor, Path(name)
