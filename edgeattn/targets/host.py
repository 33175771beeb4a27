"""This machine: the worker in a process of its own, with the Python that runs edgeattn."""

import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgeattn.bundle.records import Device, Origin
from edgeattn.errors import BadInputError, MissingError
from edgeattn.runtimes import backends, litert_gpu
from edgeattn.targets import ALL_RUNTIMES, RUNTIMES, Connection, Job, Measurement, Target, _host_worker
from edgeattn.targets._runner import board, clocks, job_folder

ORIGIN: Origin = "host"


class _Host(Connection):
    place: str = "host"
    runtimes: Mapping[str, tuple[str, ...]] = ALL_RUNTIMES
    warmup: int | None = None
    runs = 50

    def __init__(self) -> None:
        details = {"machine": platform.machine(), "system": platform.platform(), "cores": str(os.cpu_count())}
        if cpu := _cpu():
            details["cpu"] = cpu
        self.device = Device(platform.node() or "this machine", details)

    def takes(self, format_: str, runtime: str) -> bool:
        found = [backend for backend in backends(format_, (runtime,)) if backend.label not in self.runtimes[format_]]
        for backend in found:
            if backend.missing:
                raise MissingError(backend.missing)
        return bool(found)

    def run(self, job: Job) -> Measurement:
        return self.run_interleaved((job,))[0]

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            folders = job_folder.write_each(Path(scratch), jobs)
            for folder, job in zip(folders, jobs, strict=True):
                (folder / _host_worker.RUNTIME_FILE).write_text(job.runtime, encoding="utf-8")
            before = _state()
            own = all(map(_is_workers_own, jobs))
            program = [job_folder.WORKER] if own else ["-m", "edgeattn.targets._host_worker"]
            environment = os.environ if own else litert_gpu.environment() or os.environ
            stopped = job_folder.start([sys.executable, *program, *folders], environment=environment)
            after = _state()
            measurements = (
                job_folder.read(folder, job, origin=ORIGIN, device=self.device, stopped=stopped)
                for folder, job in zip(folders, jobs, strict=True)
            )
            warnings = clocks.slowed(before, after)
            if any(job.runtime in litert_gpu.RUNTIME.variants for job in jobs):
                warnings += filter(None, [litert_gpu.in_software()])
            return tuple(
                replace(measurement, before=before, after=after, untrusted=(*measurement.untrusted, *warnings))
                for measurement in measurements
            )


def _is_workers_own(job: Job) -> bool:
    known = RUNTIMES.get(job.artifact.suffix[1:])
    return known is not None and job.runtime in ("", *known)


def _cpu() -> str:
    """The processor's name on Linux; "" on other systems, and on most ARM machines."""
    try:
        match = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(errors="replace"))
    except OSError:
        return ""
    return match[1].strip() if match else ""


def _state() -> dict[str, str]:
    """What may slow a run down, as far as the system tells: a board's state, and the load of other processes."""
    state = board.state()
    # Computers have a policy for each of up to hundreds of cores: the first says enough.
    for policy in [name for name in state if name.startswith("policy")][1:]:
        del state[policy]
    if hasattr(os, "getloadavg"):  # not on Windows
        state["load of the last minute"] = f"{os.getloadavg()[0]:.2f}"
    return state


class Host(Target):
    """This machine."""

    origin = ORIGIN
    trial = True

    def unavailable(self) -> str | None:
        return None

    @contextmanager
    def connect(self, address: str, settings: Mapping[str, str]) -> Iterator[_Host]:
        if address:
            raise BadInputError(f"--target host is this machine and takes no address, not {address!r}")
        yield _Host()


TARGET: Target = Host()
