"""Results on disk as they arrive: one a line, flushed to the disk before the phone gets its answer.

At the end the lines are folded into the file of records. A server that is killed leaves its lines; the next one that
writes to the same file folds them first. Lines that cannot be read are put beside it, and said.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from edgeattn.bundle import records
from edgeattn.bundle.records import NotRun, Record
from edgeattn.errors import BadInputError
from edgeattn.system import files


@dataclass(frozen=True)
class Entry:
    """A line of a journal: exactly one of the two is set."""

    record: Record | None = None
    not_run: NotRun | None = None


@dataclass
class Journal:
    """An open journal. ``entries`` are set when it is closed: until then they are on the disk alone."""

    file: BinaryIO
    entries: tuple[Entry, ...] = ()
    lock: Lock = field(default_factory=Lock)

    def append(self, entry: Entry) -> None:
        """Write ``entry`` to the disk: after this call not even a power cut loses it.

        Raises:
            OSError: the disk is full, or gone.
        """
        line = _dump(entry)
        with self.lock:
            # Where a file that is appended to is written next is not where it stands: it may have been cut since.
            end = self.file.seek(0, os.SEEK_END)
            try:
                self.file.write(line)
                self.file.flush()
                os.fsync(self.file.fileno())
            except OSError:
                self.file.truncate(end)
                raise


def path_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.arriving.jsonl")


def damaged_of(out: Path) -> Path:
    """Where lines are kept that cannot be read."""
    return out.with_name(f"{out.name}.damaged.jsonl")


@contextmanager
def writing(out: Path) -> Iterator[Journal]:
    """A journal that is added to the records in ``out`` when the block ends, also with an error.

    Raises:
        ArtifactError: ``out`` is there, and holds no records.
        BadInputError: it cannot be written, or another process is writing to it.
    """
    files.check(out)
    if out.exists():
        records.load(out)
    path = path_of(out)
    try:
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise BadInputError(f"{out} cannot be written: {error.strerror}") from error
    with file:
        _lock(file, out)
        _fold(out)
        file.truncate(0)
        journal = Journal(file)
        try:
            yield journal
        finally:
            journal.entries = _fold(out)
            path.unlink()


def _fold(out: Path) -> tuple[Entry, ...]:
    """Add the complete lines of the journal to the file of records, without duplicates; returns all of them."""
    entries, damaged = [], []
    # Zeros are what a file system leaves of a block that it did not get to write.
    for line in path_of(out).read_bytes().replace(b"\0", b"").split(b"\n")[:-1]:
        entry = _parse(line)
        if entry is None:
            damaged.append(line)
        else:
            entries.append(entry)
    if damaged:
        with damaged_of(out).open("ab") as beside:
            beside.write(b"".join(line + b"\n" for line in damaged))
        print(f"edgeattn: {len(damaged)} lines of {path_of(out)} cannot be read; they are in {damaged_of(out)}",
              file=sys.stderr)  # fmt: skip
    if entries:
        existing = records.load(out) if out.exists() else records.Records(records.SCHEMA, ())
        measured, not_run = list(existing.records), list(existing.not_run)
        for entry in entries:
            if entry.record and entry.record not in measured:
                measured.append(entry.record)
            if entry.not_run and entry.not_run not in not_run:
                not_run.append(entry.not_run)
        records.save(out, tuple(measured), tuple(not_run))
    return tuple(entries)


def _lock(file: BinaryIO, out: Path) -> None:
    if sys.platform == "win32":  # its locks keep this process too from reading the file
        return
    from filelock import lock_descriptor

    if not lock_descriptor(file.fileno(), blocking=False):
        raise BadInputError(f"another `edgeattn phone` is writing to {out}; give another --out")


def _dump(entry: Entry) -> bytes:
    from pydantic import TypeAdapter

    return TypeAdapter(Entry).dump_json(entry) + b"\n"


def _parse(line: bytes) -> Entry | None:
    """What a line holds; None if it cannot be read."""
    from pydantic import TypeAdapter, ValidationError

    try:
        entry = TypeAdapter(Entry).validate_json(line)
    except ValidationError:
        return None
    return entry if (entry.record is None) != (entry.not_run is None) else None
