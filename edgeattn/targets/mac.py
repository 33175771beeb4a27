"""This Mac: Core ML and Core AI by compute unit, with their compute plans; ONNX and TFLite as on any host.

Written against coremltools 9.0 and coreai-core 1.0.0b3; not run on hardware by this project's own tests.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgeattn.bundle.records import Device, Origin
from edgeattn.errors import BadInputError
from edgeattn.runtimes import coreai as coreai_runtime
from edgeattn.runtimes.coreml import UNITS
from edgeattn.targets import RUNTIMES, Connection, Job, Measurement, Target
from edgeattn.targets._apple import coreai, coreml, worker
from edgeattn.targets._runner import job_folder

ORIGIN: Origin = "host"


class _Mac(Connection):
    place = "mac"
    runtimes: Mapping[str, tuple[str, ...]]
    warmup: int | None = None
    runs = 50

    def __init__(self) -> None:
        self.runtimes = {**RUNTIMES, "coreml": tuple(UNITS)}
        units = coreai_runtime.units(platform.system(), platform.mac_ver()[0])
        if units == coreai_runtime.UNITS:  # an older macOS has no Core AI
            self.runtimes["coreai"] = tuple(units)
        details = {
            "machine": platform.machine(),
            "system": f"macOS {platform.mac_ver()[0]}",
            "model": _sysctl("hw.model"),
            "chip": _sysctl("machdep.cpu.brand_string"),
        }
        self.device = Device(platform.node() or "this Mac", {name: value for name, value in details.items() if value})

    def run(self, job: Job) -> Measurement:
        return self.run_interleaved((job,))[0]

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        # Always with the compute plan: a time says little without knowing which unit ran what.
        jobs = [replace(job, operators=True) if _is_package(job) else job for job in jobs]
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            folders = job_folder.write_each(Path(scratch), jobs)
            for folder, job in zip(folders, jobs, strict=True):
                units = coreai_runtime.UNITS if job.artifact.suffix == coreai.SUFFIX else UNITS
                runtime = job.runtime or next(iter(units))
                (folder / worker.RUNTIME_FILE).write_text(runtime, encoding="utf-8")
            command: list[str | Path] = [sys.executable, "-m", "edgeattn.targets._apple.worker", *folders]
            stopped = job_folder.start(command, environment=os.environ)
            return tuple(self._read(folder, job, stopped) for folder, job in zip(folders, jobs, strict=True))

    def _read(self, folder: Path, job: Job, stopped: str) -> Measurement:
        if not _is_package(job):
            return job_folder.read(folder, job, origin=ORIGIN, device=self.device, stopped=stopped)
        apple = coreai if job.artifact.suffix == coreai.SUFFIX else coreml
        device = replace(self.device, details={**self.device.details, "threads": apple.THREADS})
        measurement = job_folder.read(folder, job, origin=ORIGIN, device=device, stopped=stopped)
        return replace(measurement, operators=apple.in_package_order(measurement.operators, job.artifact))


def _is_package(job: Job) -> bool:
    return job.artifact.suffix in (coreai.SUFFIX, coreml.SUFFIX)


def _sysctl(name: str) -> str:
    """A fact about this Mac, or ""."""
    try:
        process = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""


class Mac(Target):
    """This Mac."""

    origin = ORIGIN
    trial = True
    caveat = coreml.CAVEAT

    def unavailable(self) -> str | None:
        if platform.system() == "Darwin":
            return None
        return f"--target mac needs macOS, and this is {platform.system()}"

    @contextmanager
    def connect(self, address: str, settings: Mapping[str, str]) -> Iterator[_Mac]:
        if address:
            raise BadInputError(f"--target mac is this Mac and takes no address, not {address!r}")
        yield _Mac()


TARGET: Target = Mac()
