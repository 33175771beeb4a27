"""The job folder of the two runners (``worker.py``, ``arm64/runner.c``): writes their jobs, reads their results."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeattn.bundle.records import Device, Operator, Origin
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError, BadInputError, EdgeAttnError, MissingError, TargetError
from edgeattn.system import files, npy, signals
from edgeattn.system.bounded import Output
from edgeattn.system.foreign import plain_name, sentence
from edgeattn.targets import INTERRUPTED, Job, Measurement
from edgeattn.targets._runner import schema

WORKER = Path(__file__).with_name("worker.py")
# A device may be broken, or hostile. The results of a run are read up to so many bytes, and so many for each of its
# inputs (a map of 64 classes has more values than an image); a file of samples up to so many.
_OUTPUT_BYTES, _OUTPUT_SHARE = 2**26, 64
_SAMPLES_BYTES, _SAMPLE_BYTES = 2**23, 24
# The end of a runner's stderr.
_STDERR_BYTES = 1 << 16
_KINDS: dict[str, type[EdgeAttnError]] = {"artifact": ArtifactError, "input": BadInputError, "missing": MissingError}


def write_each(scratch: Path, jobs: Sequence[Job]) -> list[Path]:
    """Write a folder in ``scratch`` for each job, named by its number; a runner runs them interleaved."""
    folders = [scratch / str(number) for number in range(len(jobs))]
    for folder, job in zip(folders, jobs, strict=True):
        folder.mkdir()
        write(folder, job)
    return folders


def write(folder: Path, job: Job, *, count: bool = False, artifact: str = "", gpu: bool = False) -> None:
    """Put the job, its artifact and its inputs into ``folder``; ``count`` marks the runs for a counting emulator.
    ``artifact`` is the artifact's path relative to the folder, if it is already on the device. ``gpu`` is for the
    native runner of LiteRT alone.

    Raises:
        BadInputError: an input has a name that cannot stand in a line of the job.
    """
    for name in (*job.inputs, *(name for inputs in job.then for name in inputs)):
        if not plain_name(name):
            raise BadInputError(
                f"{job.artifact.name} has an input of the name {name!r}, which has no characters, or control "
                "characters; give it another name, and export again"
            )
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
        *(["gpu 1"] if gpu else []),
    ]
    for number, inputs in enumerate((job.inputs, *job.then)):
        lines += [f"then {number}"] if number else []
        for index, (name, value) in enumerate(inputs.items()):
            file = f"input-{number}-{index}.npy"
            np.save(folder / file, np.asarray(value, order="C"))  # not ascontiguousarray: a scalar stays one
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
        # Only we get a Ctrl-C: we end the runner ourselves, and read what it wrote.
        start_new_session=True,
    )
    assert process.stderr is not None
    stderr = Output(process.stderr, _STDERR_BYTES)
    try:
        process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return INTERRUPTED
    return stop_reason(process.returncode, stderr.text())


def stop_reason(code: int, stderr: str) -> str:
    """Why a runner stopped early, from its exit code (negative for a signal) and its stderr; "" if it did not."""
    if code == 0:
        return ""
    if name := signals.name_of(code):
        return f"it was ended by {name}"
    lines = stderr.strip().splitlines()
    return f"exit code {code}" + (f", {sentence(lines[-1])}" if lines else "")


def read(folder: Path, job: Job, *, origin: Origin, device: Device, stopped: str) -> Measurement:
    """The results of a runner in ``folder``; ``stopped`` is why it ended early, or "".

    Raises:
        ArtifactError, BadInputError, MissingError: the runner's own error.
        TargetError: there is no usable result.
    """
    result = _result(folder, job, device)
    if result.error:
        raise _KINDS.get(result.kind, TargetError)(f"{job.artifact.name} on {device.name}: {result.error}")
    if not result.runtime:
        if stopped == INTERRUPTED:
            raise KeyboardInterrupt
        raise TargetError(f"{job.artifact.name} did not run on {device.name}: {stopped or 'the runner left no result'}")
    try:
        samples, excess = _samples(folder / "samples.txt", job)
        complete = result.complete and not excess
        if not complete:
            reason = excess or stopped or "the runner ended"
            stopped = f"{reason}, after {len(samples)} of {job.runs} runs"
        runs = ["first", *(["last", *(f"then-{n}" for n in range(1, 1 + len(job.then)))] if complete else [])]
        paths = {run: [folder / f"{run}-{index}.npy" for index in range(len(result.outputs))] for run in runs}
        _check_size([path for each in paths.values() for path in each], job)
        arrays = {run: _outputs(result.outputs, each) for run, each in paths.items()}
        return Measurement(
            origin=origin,
            device=device,
            runtime=result.runtime,
            runtime_version=result.runtime_version,
            first=arrays["first"],
            last=arrays.get("last", {}),
            then=tuple(value for run, value in arrays.items() if run.startswith("then-")),
            samples_ns=samples,
            calls_per_sample=result.calls_per_sample,
            clock_step_ns=result.clock_step_ns,
            load_ns=result.load_ns,
            first_run_ns=result.first_run_ns,
            peak_memory_bytes=result.peak_memory_bytes,
            warmup=result.warmup,
            warmup_ns=result.warmup_ns,
            operators=tuple(Operator(name, kind, "", *rest) for name, kind, *rest in result.operators),
            operators_note=result.operators_note,
            stopped="" if complete else stopped,
            untrusted=() if result.settled else (_unsettled(result),),
        )
    except (OSError, ValueError) as error:
        raise _unreadable(device, job, error) from error


def most_bytes(job: Job) -> int:
    """The most bytes that the outputs of a job's runs may have."""
    inputs = (value for each in (job.inputs, *job.then) for value in each.values())
    return _OUTPUT_BYTES + _OUTPUT_SHARE * sum(value.nbytes for value in inputs)


def _unreadable(device: Device, job: Job, error: Exception) -> TargetError:
    return TargetError(f"{device.name} gave no readable result for {job.artifact.name}: {sentence(str(error))}")


def _unsettled(result: schema.Result) -> str:
    seconds = (result.warmup_ns or 0) / 1e9
    return f"the times had not settled after {result.warmup} runs, {seconds:.0f} s of warm-up"


def _result(folder: Path, job: Job, device: Device) -> schema.Result:
    if not os.path.lexists(folder / "result.json"):
        return schema.Result()
    try:
        return schema.parse(files.read(folder / "result.json", schema.RESULT_BYTES), schema.Result)
    except ValueError as error:
        raise _unreadable(device, job, error) from error


def _samples(path: Path, job: Job) -> tuple[tuple[int, ...], str]:
    """The samples in a file that may be cut off, in ns; and a sentence if there are more than there may be, or ""."""
    if not path.is_file():
        return (), ""
    most = min(_SAMPLES_BYTES, _SAMPLE_BYTES * (job.runs + 1))
    content = files.start(path, most)
    samples = tuple(map(_sample, content.split(b"\n")[:-1]))
    if len(samples) > job.runs or path.stat().st_size > most:
        return samples[: job.runs], "it sent more samples than it may"
    return samples, ""


def _sample(line: bytes) -> int:
    """Raises ValueError for what is no time."""
    if not line.isdigit() or len(line) > _SAMPLE_BYTES or int(line) > schema.MOST_NS:
        raise ValueError(f"a sample is {sentence(repr(line.decode(errors='replace')), 40)}, which is no time in ns")
    return int(line)


def _check_size(paths: Sequence[Path], job: Job) -> None:
    size, most = sum(path.stat().st_size for path in paths if path.is_file()), most_bytes(job)
    if size > most:
        raise ValueError(f"its outputs have {size:,} bytes, and more than {most:,} are not read")


def _outputs(names: Sequence[str], paths: Sequence[Path]) -> Arrays:
    return {name: npy.load(path) for name, path in zip(names, paths, strict=True) if path.is_file()}
