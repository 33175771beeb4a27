"""The user's own benchmark tools, which run instead of our runner: the known kinds, and their common code."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeattn.bundle.records import Device
from edgeattn.errors import BadInputError, TargetError
from edgeattn.system.foreign import sentence
from edgeattn.targets import INTERRUPTED, Job, Measurement
from edgeattn.targets._runner.schema import MOST_NS
from edgeattn.targets.android import benchmark_model, elf, onnxruntime_perf_test
from edgeattn.targets.android.benchmark_output import BenchmarkTool

# The tools have no warm-up until the times settle: they get this number of runs instead.
WARMUP = 5


@dataclass(frozen=True)
class Tool:
    """A tool at ``path``; its ``kind`` is known from the file's name."""

    path: Path
    kind: BenchmarkTool

    @property
    def libraries(self) -> tuple[Path, ...]:
        """The shared libraries in its folder: they are pushed with it."""
        return tuple(sorted(self.path.parent.glob("*.so")))

    def script(self, jobs: Sequence[Job], artifacts: Sequence[str], tool: Sequence[str]) -> str:
        """Shell that runs ``jobs`` interleaved, each in the folder of its number; ``tool`` is its command."""
        words = shlex.join(tool)
        starts = self.kind.starts(jobs[0], interleaved=len(jobs) > 1)
        pairs = list(zip(jobs, artifacts, strict=True))
        turn = [self.kind.once(job, _warmup(job), words, artifact, starts=starts) for job, artifact in pairs]
        after = [self.kind.after(job, words, artifact) for job, artifact in pairs]
        lines = [" && ".join(f"(cd {number} && {line})" for number, line in enumerate(part)) for part in (turn, after)]
        return f"i=0; while [ $i -lt {starts} ]; do {lines[0]} || exit; i=$((i+1)); done; {lines[1]}"

    def read(self, folder: Path, job: Job, *, device: Device, stopped: str) -> Measurement:
        """The results in ``folder``; ``stopped`` is why the tool ended early, or "".

        Raises:
            TargetError: there is no usable result.
        """
        try:
            output = self.kind.parse(folder, job, _warmup(job))
            if any(not 0 <= sample <= MOST_NS for sample in output.samples_ns):
                raise ValueError("a time that cannot be")
        except (ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
            said = sentence(str(error)) or type(error).__name__
            raise TargetError(f"{self.kind.name} on {device.name} wrote what cannot be read: {said}") from error
        if not output.samples_ns:
            if stopped == INTERRUPTED:
                raise KeyboardInterrupt
            reasons = "; ".join(reason for reason in (stopped, output.error) if reason)
            raise TargetError(
                f"{self.kind.name} measured nothing of {job.artifact.name} on {device.name}: {reasons or 'no times'}"
            )
        # More starts than were asked for, in a file that is not what the tool wrote.
        samples = output.samples_ns[: job.runs]
        if len(samples) < job.runs:
            stopped = f"{stopped or f'{self.kind.name} ended'}, after {len(samples)} of {job.runs} runs"
        else:
            stopped = ""
        return Measurement(
            origin="phone",
            device=device,
            runtime=self.kind.name,
            # Neither tool prints its version; the file's hash identifies the build.
            runtime_version=f"sha256 {hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]}",
            first={},
            last={},
            samples_ns=samples,
            clock_step_ns=output.clock_step_ns,
            load_ns=output.load_ns,
            first_run_ns=output.first_run_ns,
            peak_memory_bytes=output.peak_memory_bytes,
            warmup=_warmup(job),
            operators=output.operators,
            operators_note=output.operators_note,
            stopped=stopped,
        )


_KNOWN = (benchmark_model.TOOL, onnxruntime_perf_test.TOOL)


def find(path: Path) -> Tool:
    """The tool at ``path``.

    Raises:
        BadInputError: there is no such file, it is no known tool, or no arm64 program.
    """
    kind = next((kind for kind in _KNOWN if kind.name in path.name), None)
    if kind is None:
        names = " and ".join(kind.name for kind in _KNOWN)
        raise BadInputError(f"--runner {path} is none of {names}, which it tells by the file's name")
    elf.check(path, f"--runner {path}")
    return Tool(path, kind)


def _warmup(job: Job) -> int:
    return WARMUP if job.warmup is None else job.warmup
