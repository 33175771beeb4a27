"""The job folder of the two runners (``worker.py``, ``arm64/runner.c``): writes their jobs, reads their results."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.bundle.records import Device, Operator, Origin
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError, BadInputError, EdgeAttnError, MissingError, TargetError
from edgeattn.system import files, npy
from edgeattn.targets import INTERRUPTED, Job, Measurement

WORKER = Path(__file__).with_name("worker.py")
# The largest text of a runner that is read: a device may be broken, or hostile.
_MAX_BYTES = 2**26
_KINDS: dict[str, type[EdgeAttnError]] = {"artifact": ArtifactError, "input": BadInputError, "missing": MissingError}


def write_each(scratch: Path, jobs: Sequence[Job]) -> list[Path]:
    """Write a folder in ``scratch`` for each job, named by its number; a runner runs them interleaved."""
    folders = [scratch / str(number) for number in range(len(jobs))]
    for folder, job in zip(folders, jobs, strict=True):
        folder.mkdir()
        write(folder, job)
    return folders


def write(folder: Path, job: Job, *, count: bool = False, artifact: str = "") -> None:
    """Put the job, its artifact and its inputs into ``folder``; ``count`` marks the runs for a counting emulator.
    ``artifact`` is the artifact's path relative to the folder, if it is already on the device."""
    if not artifact:
        artifact = f"artifact{job.artifact.suffix}"
        copy = shutil.copytree if job.artifact.is_dir() else shutil.copyfile
        copy(job.artifact, folder / artifact)
    lines = [
        f"artifact {artifact}",
        f"warmup {'auto' if job.warmup is None else job.warmup}",
        f"runs {job.runs}",
        f"threads {job.threads}",
        f"count {int(count)}",
        f"operators {int(job.operators)}",
    ]
    for number, inputs in enumerate((job.inputs, *job.then)):
        lines += [f"then {number}"] if number else []
        for index, (name, value) in enumerate(inputs.items()):
            file = f"input-{number}-{index}.npy"
            np.save(folder / file, np.ascontiguousarray(value))
            lines.append(f"input {file} {name}")
    (folder / "job.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def start(command: Sequence[str | Path], *, environment: Mapping[str, str]) -> str:
    """Run a runner on this machine; why it stopped early, or "". An interrupt ends it; its results so far remain."""
    process = subprocess.Popen(
        [str(word) for word in command],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # Only we get a Ctrl-C: we end the runner ourselves, and read what it wrote.
        start_new_session=True,
    )
    try:
        _, stderr = process.communicate()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return INTERRUPTED
    return stop_reason(process.returncode, stderr)


def stop_reason(code: int, stderr: str) -> str:
    """Why a runner stopped early, from its exit code (negative for a signal) and its stderr; "" if it did not."""
    if code == 0:
        return ""
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    lines = stderr.strip().splitlines()
    return f"exit code {code}" + (f", {lines[-1].strip()}" if lines else "")


def read(folder: Path, job: Job, *, origin: Origin, device: Device, stopped: str) -> Measurement:
    """The results of a runner in ``folder``; ``stopped`` is why it ended early, or "".

    Raises:
        ArtifactError, BadInputError, MissingError: the runner's own error.
        TargetError: there is no usable result.
    """
    result = _result(folder)
    if "error" in result:
        raise _KINDS.get(str(result.get("kind")), TargetError)(
            f"{job.artifact.name} on {device.name}: {result['error']}"
        )
    if "runtime" not in result:
        if stopped == INTERRUPTED:
            raise KeyboardInterrupt
        raise TargetError(f"{job.artifact.name} did not run on {device.name}: {stopped or 'the runner left no result'}")
    try:
        samples = tuple(int(line) for line in _lines(folder / "samples.txt"))
        untrusted = [] if result.get("settled", True) else [_unsettled(result)]
        if not result["complete"]:
            stopped = f"{stopped or 'the runner ended'}, after {len(samples)} of {job.runs} runs"
        return Measurement(
            origin=origin,
            device=device,
            runtime=result["runtime"],
            runtime_version=result["runtime_version"],
            first=_outputs(folder, "first", result["outputs"]),
            last=_outputs(folder, "last", result["outputs"]) if result["complete"] else {},
            then=tuple(_outputs(folder, f"then-{n}", result["outputs"]) for n in range(1, 1 + len(job.then)))
            if result["complete"]
            else (),
            samples_ns=samples,
            calls_per_sample=result.get("calls_per_sample", 1),
            clock_step_ns=result.get("clock_step_ns"),
            load_ns=result["load_ns"],
            first_run_ns=result.get("first_run_ns"),
            peak_memory_bytes=result.get("peak_memory_bytes"),
            warmup=result.get("warmup", 0),
            warmup_ns=result.get("warmup_ns"),
            operators=tuple(Operator(name, kind, "", *rest) for name, kind, *rest in result.get("operators", ())),
            operators_note=result.get("operators_note", ""),
            stopped="" if result["complete"] else stopped,
            untrusted=tuple(untrusted),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{device.name} gave no readable result for {job.artifact.name}: {error}") from error


def _unsettled(result: Mapping[str, Any]) -> str:
    return f"the times had not settled after {result['warmup']} runs, {result['warmup_ns'] / 1e9:.0f} s of warm-up"


def _result(folder: Path) -> dict[str, Any]:
    if not os.path.lexists(folder / "result.json"):
        return {}
    try:
        document = json.loads(files.read(folder / "result.json", _MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise TargetError(f"the runner's result.json cannot be read: {error}") from error
    return document if isinstance(document, dict) else {}


def _lines(path: Path) -> list[str]:
    """The complete lines of a file that may be cut off."""
    if not path.is_file():
        return []
    return files.read(path, _MAX_BYTES).decode("ascii").split("\n")[:-1]


def _outputs(folder: Path, which: str, names: list[str]) -> Arrays:
    files = ((name, folder / f"{which}-{index}.npy") for index, name in enumerate(names))
    return {name: npy.load(file) for name, file in files if file.is_file()}
