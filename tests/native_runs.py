"""A job in a program that takes job folders: a native runner under emulation, or this machine's worker."""

import os
import subprocess
from pathlib import Path

from test_targets import HERE

from edgeattn.targets import Job, Measurement
from edgeattn.targets._runner import job_folder

Runner = list[str | Path]


def run(runner: Runner, folder: Path, job: Job) -> Measurement:
    """What it measures of one job."""
    folder.mkdir(exist_ok=True)
    job_folder.write(folder, job)
    stopped = job_folder.start([*runner, folder], environment=os.environ)
    return job_folder.read(folder, job, origin="emulated", device=HERE, stopped=stopped)


def threads_while_it_runs(runner: Runner, folder: Path, job: Job) -> int:
    """The number of its threads under QEMU, which has one of its own, as it takes samples; the job has no end."""
    job_folder.write(folder, job)
    process = subprocess.Popen([*runner, folder], stderr=subprocess.DEVNULL)
    while not (folder / "samples.txt").exists():
        assert process.poll() is None
    running = len(list(Path(f"/proc/{process.pid}/task").iterdir()))
    process.kill()
    process.wait()
    return running
