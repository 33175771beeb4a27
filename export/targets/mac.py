"""This Mac: Core ML by compute unit, with its compute plan; ONNX and TFLite as on any host.

Written against coremltools 9.0; not run on hardware by this project's own tests.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgeattn.errors import BadInputError
from edgeattn.records import Device, Operator, Origin
from export.targets import RUNTIMES, Job, Measurement, _coreml, _folder

ORIGIN: Origin = "host"
SETTINGS: tuple[str, ...] = ()
CAVEAT = _coreml.CAVEAT


def unavailable() -> str | None:
    if platform.system() == "Darwin":
        return None
    return f"--target mac needs macOS, and this is {platform.system()}"


class _Mac:
    place = "mac"
    runtimes: Mapping[str, tuple[str, ...]] = {**RUNTIMES, "coreml": tuple(_coreml.UNITS)}
    warmup: int | None = 5
    runs = 50

    def __init__(self) -> None:
        details = {
            "machine": platform.machine(),
            "system": f"macOS {platform.mac_ver()[0]}",
            "model": _sysctl("hw.model"),
            "chip": _sysctl("machdep.cpu.brand_string"),
        }
        self.device = Device(platform.node() or "this Mac", {name: value for name, value in details.items() if value})

    def run(self, job: Job) -> Measurement:
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            folder = Path(scratch)
            _folder.write(folder, job)
            if job.artifact.suffix != ".mlpackage":
                stopped = _folder.start([sys.executable, _folder.WORKER, folder], environment=os.environ)
                return _folder.read(folder, job, origin=ORIGIN, device=self.device, stopped=stopped)
            runtime = job.runtime or next(iter(_coreml.UNITS))
            worker = [sys.executable, "-m", "export.targets._coreml_worker"]
            stopped = _folder.start([*worker, folder, runtime, str(int(job.operators))], environment=os.environ)
            device = replace(self.device, details={**self.device.details, "threads": _coreml.THREADS})
            seen = _folder.read(folder, job, origin=ORIGIN, device=device, stopped=stopped)
            note, operators = _plan(folder / "coreml.json")
        return replace(seen, operators=_coreml.with_layout_ops(operators, job.artifact), operators_note=note)

    def run_in_turn(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        return tuple(map(self.run, jobs))


def _plan(path: Path) -> tuple[str, tuple[Operator, ...]]:
    if not path.is_file():
        return "no compute plan: the run stopped before it", ()
    found = json.loads(path.read_text(encoding="utf-8"))
    return found["note"], tuple(Operator(**operator) for operator in found["operators"])


def _sysctl(name: str) -> str:
    """A fact about this Mac, or nothing."""
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@contextmanager
def connect(address: str, settings: Mapping[str, str]) -> Iterator[_Mac]:
    if address:
        raise BadInputError(f"--target mac is this Mac and takes no address, not {address!r}")
    yield _Mac()
