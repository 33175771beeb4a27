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
from edgeattn.errors import BadInputError
from edgeattn.targets import RUNTIMES, Job, Measurement, Target
from edgeattn.targets._runner import job_folder as _folder

ORIGIN: Origin = "host"


class _Host:
    place: str = "host"
    runtimes: Mapping[str, tuple[str, ...]] = RUNTIMES
    warmup: int | None = None
    runs = 50

    def __init__(self) -> None:
        details = {"machine": platform.machine(), "system": platform.platform(), "cores": str(os.cpu_count())}
        if cpu := _first(r"model name\s*: (.*)", Path("/proc/cpuinfo")):
            details["cpu"] = cpu
        self.device = Device(platform.node() or "this machine", details)

    def run(self, job: Job) -> Measurement:
        return self.run_in_turn((job,))[0]

    def run_in_turn(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            folders = _folder.write_each(Path(scratch), jobs)
            before = _state()
            stopped = _folder.start([sys.executable, _folder.WORKER, *folders], environment=os.environ)
            after = _state()
            seen = (
                _folder.read(folder, job, origin=ORIGIN, device=self.device, stopped=stopped)
                for folder, job in zip(folders, jobs, strict=True)
            )
            return tuple(replace(measurement, before=before, after=after) for measurement in seen)


def _first(pattern: str, path: Path) -> str:
    """What the first match of ``pattern`` in a file holds; nothing if there is none, or no such file."""
    try:
        found = re.search(pattern, path.read_text(errors="replace"))
    except OSError:
        return ""
    return found[1].strip() if found else ""


def _state() -> dict[str, str]:
    """What may slow a run down, as far as this system tells."""
    cpu = Path("/sys/devices/system/cpu/cpu0/cpufreq")
    thermal = Path("/sys/class/thermal/thermal_zone0")
    state = {
        "governor": _first("(.+)", cpu / "scaling_governor"),
        "frequency": "".join(
            f"{int(khz) / 1000:.0f} MHz" for khz in [_first(r"(\d+)", cpu / "scaling_cur_freq")] if khz
        ),
        "temperature": "".join(f"{int(t) / 1000:.0f} C" for t in [_first(r"(\d+)", thermal / "temp")] if t),
    }
    if hasattr(os, "getloadavg"):  # not on Windows
        state["load of the last minute"] = f"{os.getloadavg()[0]:.2f}"
    return {name: value for name, value in state.items() if value}


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
