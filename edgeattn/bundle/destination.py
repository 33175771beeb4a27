"""Where a bundle goes: it is there whole or not at all, and what could not be put there is refused before the work."""

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeattn.bundle.manifest import MANIFEST
from edgeattn.errors import BadInputError
from edgeattn.system import scratch

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")


def check(out: Path, *, force: bool) -> None:
    """Refuse before any work what could not be written at the end.

    Raises:
        BadInputError: ``out`` exists and is no bundle, or is one and ``force`` was not given, or cannot be written.
    """
    try:
        exists = out.exists() or out.is_symlink()
    except OSError as error:  # a name that is too long
        raise BadInputError(f"{out} cannot be written: {error.strerror}") from error
    if exists:
        if not (out / MANIFEST).is_file():
            raise BadInputError(f"{out} exists and is no bundle; choose another --out")
        if not force:
            raise BadInputError(f"{out} exists; give --force to replace that bundle, or another --out")
        if reason := _not_replaceable(out):
            raise BadInputError(f"{out} cannot be replaced: {reason}; choose another --out")
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise BadInputError(f"{out} cannot be written: {parent} is not a folder that you may write to")


def _not_replaceable(out: Path) -> str:
    """Why a folder cannot be given another name, which makes room for a new one; else empty."""
    if out.is_symlink():  # it is the link that makes room
        return ""
    if os.path.ismount(out):
        return "something is mounted there"
    if not os.access(out, os.W_OK | os.X_OK):
        return "you may not write to it"
    parent, user = out.absolute().parent.stat(), 0 if sys.platform == "win32" else os.geteuid()
    if parent.st_mode & stat.S_ISVTX and user not in (0, parent.st_uid, out.stat().st_uid):
        return f"it belongs to another user, in {out.absolute().parent}"
    return ""


@contextmanager
def writing(out: Path, *, force: bool) -> Iterator[Path]:
    """A folder that becomes ``out`` if the block succeeds, and is deleted if it fails."""
    check(out, force=force)
    out = out.absolute()
    created = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        holder = scratch.folder(out)
    except OSError as error:
        raise BadInputError(f"{out} cannot be written: {error.strerror}") from error
    try:
        bundle = holder / "bundle"
        bundle.mkdir()
        yield bundle
        _publish(bundle, out, force=force)
        holder.rmdir()
    except BaseException as error:
        shutil.rmtree(holder, ignore_errors=True)
        for folder in created:
            with suppress(OSError):  # another export may have put its bundle there
                folder.rmdir()
        # No check before the work can tell that the disk will be full.
        if reason := not_writable(error):
            raise BadInputError(f"{out} cannot be written: {reason}") from error
        raise


def not_writable(error: BaseException | None) -> str:
    """Why the system refuses to write, if an error or one of its causes says so; else empty."""
    while error is not None:
        rust_error = _RUST_ERROR.search(str(error))  # safetensors'
        number = int(rust_error[1]) if rust_error else getattr(error, "errno", None)
        if number in _UNWRITABLE:
            return os.strerror(number)
        error = error.__cause__
    return ""


def _publish(bundle: Path, out: Path, *, force: bool) -> None:
    """Give a complete bundle its name. Another process may do the same: the last one wins, both bundles are whole."""
    if force and out.exists():
        # Two renames: at any moment the old or the new bundle is complete under one of two names.
        old = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.old.", dir=out.parent))
        with suppress(FileNotFoundError):  # another process moved it away
            out.rename(old / "bundle")
        try:
            _rename(bundle, out)
        finally:
            shutil.rmtree(old)
    else:
        _rename(bundle, out)


def _rename(bundle: Path, out: Path) -> None:
    try:
        bundle.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise BadInputError(f"{out} was written by another process meanwhile; its bundle was kept") from error
