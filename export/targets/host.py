"""This machine: the worker in a process of its own, with the Python that runs edgeattn."""

import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeattn.errors import BadInputError
from edgeattn.records import Device, Origin
from export.targets import RUNTIMES, Job, Measurement, _folder

ORIGIN: Origin = "host"
SETTINGS: tuple[str, ...] = ()


def unavailable() -> str | None:
    return None


class _Host:
    place: str = "host"
    runtimes: Mapping[str, tuple[str, ...]] = RUNTIMES
    warmup: int | None = None
    runs = 50

    def __init__(self) -> None:
        self.device = Device(
            platform.node() or "this machine", {"machine": platform.machine(), "system": platform.platform()}
        )

    def run(self, job: Job) -> Measurement:
        return self.run_in_turn((job,))[0]

    def run_in_turn(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            folders = _folder.write_each(Path(scratch), jobs)
            stopped = _folder.start([sys.executable, _folder.WORKER, *folders], environment=os.environ)
            return tuple(
                _folder.read(folder, job, origin=ORIGIN, device=self.device, stopped=stopped)
                for folder, job in zip(folders, jobs, strict=True)
            )


@contextmanager
def connect(address: str, settings: Mapping[str, str]) -> Iterator[_Host]:
    if address:
        raise BadInputError(f"--target host is this machine and takes no address, not {address!r}")
    yield _Host()
