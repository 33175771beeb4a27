"""An ARM core under QEMU's user mode: ARM's own kernels give the outputs, and instructions are counted, never timed."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgeattn.bundle.records import Counts, Device, Origin
from edgeattn.errors import BadInputError, TargetError
from edgeattn.targets import ALL_RUNTIMES, Connection, Job, Measurement, Target
from edgeattn.targets._runner import job_folder, native
from edgeattn.targets.emulated_arm import toolchain

ORIGIN: Origin = "emulated"
DEFAULT_CPU = "cortex-a76"


class _Emulated(Connection):
    runtimes: Mapping[str, tuple[str, ...]] = ALL_RUNTIMES
    # Counts repeat from the second run on.
    warmup: int | None = 2
    runs = 3

    def __init__(self, emulator: toolchain.Emulator, cpu: str) -> None:
        self.emulator, self.cpu = emulator, cpu
        self.place = f"emulated-arm ({cpu})"
        self.device = Device(f"emulated {cpu}", {"cpu": cpu, "qemu": emulator.versions["qemu-user"]})

    def run(self, job: Job, *, blocks: Path | None = None) -> Measurement:
        """Run one job: LiteRT and ExecuTorch by native runners, whose counts repeat to the last digit, onnxruntime by
        the worker.

        The plugin writes the counts of each block of code to ``blocks``. LiteRT then runs by the worker too: the
        library of its Python package has the names of its kernels.
        """
        if job.threads != 1:
            raise BadInputError(f"emulated-arm counts one thread only, not {job.threads}; leave --threads at 1")
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
            folder = Path(scratch)
            counting = job.runs > 0
            job_folder.write(folder, job, count=counting)
            plugin = f"out={folder / 'counts.txt'}" + (f",blocks={blocks}" if blocks else "") if counting else None
            runtime = native.RUNTIME_OF[job.artifact.suffix]
            if runtime == "executorch" or (runtime == "litert" and not blocks):
                runner = self.emulator.runner(self.cpu, runtime, plugin=plugin)
            else:
                runner = [*self.emulator.python(self.cpu, plugin=plugin), str(job_folder.WORKER)]
            # A minimal environment: its content moves addresses, and so counts, as does the seed of Python's hashes.
            # numpy needs no threads of its own.
            environment = {
                "PATH": os.environ.get("PATH", ""),
                "LC_ALL": "C.UTF-8",
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONHASHSEED": "0",
                "ORT_DISABLE_TELEMETRY": "1",
            }
            stopped = job_folder.start([*runner, folder], environment=environment)
            measurement = job_folder.read(folder, job, origin=ORIGIN, device=self.device, stopped=stopped)
            counts = _counts(folder / "counts.txt") if counting else ()
        if not measurement.stopped and len(counts) != job.runs:
            raise TargetError(
                f"the counting plugin saw {len(counts)} of {job.runs} runs; run edgeattn setup emulated-arm"
            )
        # Times and memory are QEMU's, and say nothing about the core.
        return replace(
            measurement,
            counts=counts,
            samples_ns=(),
            clock_step_ns=None,
            load_ns=None,
            first_run_ns=None,
            peak_memory_bytes=None,
            warmup_ns=None,
            operators=(),
            operators_note="an emulator has no times, so none by operator" if job.operators else "",
        )

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        # Counts do not drift.
        return tuple(map(self.run, jobs))


def _counts(path: Path) -> tuple[Counts, ...]:
    return tuple(Counts(*map(int, line.split())) for line in path.read_text().splitlines())


class EmulatedArm(Target):
    """A core under QEMU."""

    origin = ORIGIN
    settings = ("cpu",)
    trial = True

    def unavailable(self) -> str | None:
        return toolchain.missing()

    @contextmanager
    def connect(self, address: str, settings: Mapping[str, str]) -> Iterator[_Emulated]:
        """The core ``settings["cpu"]``, by default a cortex-a76."""
        if address:
            raise BadInputError(f"--target emulated-arm takes no address, not {address!r}; choose a core with --cpu")
        cpu = settings.get("cpu", DEFAULT_CPU)
        if cpu not in toolchain.CPUS:
            raise BadInputError(f"there is no core {cpu!r}; choose from {', '.join(toolchain.CPUS)}")
        yield _Emulated(toolchain.ready(), cpu)


TARGET: Target = EmulatedArm()
