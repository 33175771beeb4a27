"""What the page runs: each artifact of a bundle, on every backend that a browser may have for its format."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.records import NotRun
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import MissingError

# By format: pairs of runtime and backend. Only the browser knows whether it has them.
BACKENDS = {
    "onnx": (("onnxruntime-web", "wasm"), ("onnxruntime-web", "webgpu"), ("onnxruntime-web", "webnn")),
    "tflite": (("litert.js", "wasm"), ("litert.js", "webgpu")),
}
# The samples that a task keeps at most if it runs for a time: fewer than a message may have.
KEPT = 9000


@dataclass(frozen=True)
class Task:
    """One measurement: ``threads`` is "one", or "all" of the phone's."""

    key: str
    artifact: int
    runtime: str
    backend: str
    threads: str


@dataclass(frozen=True)
class Plan:
    """``artifacts`` are those of the bundle that a browser runs; a task names one by its index. ``golden`` is
    the bundle's first golden case, ``runs`` the samples of a task. ``others`` are, by artifact, the case that a backend
    other than the CPU runs once between its last sample and the last run; None where no other case fits. With
    ``seconds`` each task runs for so long, and ``runs`` are the samples that it keeps at most."""

    bundle: Bundle
    artifacts: tuple[Artifact, ...]
    golden: GoldenCase
    others: tuple[GoldenCase | None, ...]
    tasks: dict[str, Task]
    not_run: tuple[NotRun, ...]
    runs: int
    runtime_versions: dict[str, str]
    seconds: float | None = None

    def other(self, task: Task) -> GoldenCase | None:
        """The second case that ``task`` runs, if any: state can leak from run to run on a GPU."""
        return None if task.backend == "wasm" else self.others[task.artifact]

    def outputs(self, artifact: Artifact, case: GoldenCase | None = None) -> dict[str, npt.NDArray[np.generic]]:
        """The artifact's expected outputs of ``case`` (the first one), up to its precision; a phone's outputs have
        their shapes and types."""
        values = (case or self.golden).reference_for(artifact)
        return {output.name: values[output.name].astype(output.dtype) for output in artifact.outputs}

    def output_bytes(self) -> int:
        """The output bytes of the artifact with the largest outputs."""
        return max(sum(value.nbytes for value in self.outputs(artifact).values()) for artifact in self.artifacts)

    def document(self) -> dict[str, Any]:
        """The plan as the page reads it; its paths are those of the served files."""
        return {
            "model": self.bundle.manifest.model,
            "runs": self.runs,
            "seconds": self.seconds or 0,
            "artifacts": [self._describe(index, artifact) for index, artifact in enumerate(self.artifacts)],
            "tasks": [vars(task) for task in self.tasks.values()],
        }

    def _describe(self, index: int, artifact: Artifact) -> dict[str, Any]:
        return {
            "name": artifact.file.path,
            "url": f"artifacts/{index}",
            "precision": artifact.precision,
            "inputs": _urls(index, "first", self.golden.inputs_for(artifact)),
            "other": _urls(index, "other", other.inputs_for(artifact)) if (other := self.others[index]) else [],
        }

    def inputs(self) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
        """The inputs of all artifacts, by the path at which the page finds them."""
        for index, artifact in enumerate(self.artifacts):
            for name, case in (("first", self.golden), ("other", self.others[index])):
                for position, value in enumerate(case.inputs_for(artifact).values() if case else ()):
                    yield _url(index, name, position), value


def _urls(artifact: int, case: str, inputs: Arrays) -> list[dict[str, Any]]:
    return [
        {"name": name, "url": _url(artifact, case, position), "dtype": str(value.dtype), "shape": value.shape}
        for position, (name, value) in enumerate(inputs.items())
    ]


def _url(artifact: int, case: str, position: int) -> str:
    return f"inputs/{artifact}-{case}-{position}"


def make_plan(bundle: Bundle, *, runs: int, runtime_versions: dict[str, str], seconds: float | None = None) -> Plan:
    """Everything in ``bundle`` that a browser may run: so many times, or for so many seconds.

    Raises:
        MissingError: it holds nothing for a browser.
    """
    artifacts = tuple(a for a in bundle.manifest.artifacts if a.format in BACKENDS)
    not_run = tuple(
        NotRun(a.file.path, "phone", f"browsers do not run {a.format}")
        for a in bundle.manifest.artifacts
        if a.format not in BACKENDS
    )
    if not artifacts:
        raise MissingError(f"{bundle.folder} holds nothing that a browser runs; export it to ONNX or TFLite")
    cases = golden_cases(bundle)
    golden = next(iter(cases.values()))
    others = tuple(_other(artifact, cases) for artifact in artifacts)
    tasks = {task.key: task for task in _tasks(artifacts)}
    return Plan(bundle, artifacts, golden, others, tasks, not_run, KEPT if seconds else runs, runtime_versions, seconds)


def _other(artifact: Artifact, cases: dict[str, GoldenCase]) -> GoldenCase | None:
    """The first case after the first one that is of its shapes, and in reach of the artifact's precision."""
    first, *others = cases
    shapes = {name: value.shape for name, value in cases[first].inputs_for(artifact).items()}
    for name in others:
        inputs = cases[name].inputs_for(artifact)
        if name not in artifact.beyond and {key: value.shape for key, value in inputs.items()} == shapes:
            return cases[name]
    return None


def _tasks(artifacts: tuple[Artifact, ...]) -> Iterator[Task]:
    for index, artifact in enumerate(artifacts):
        for runtime, backend in BACKENDS[artifact.format]:
            for threads in ("one", "all") if backend == "wasm" else ("one",):
                yield Task(f"{index}-{runtime}-{backend}-{threads}", index, runtime, backend, threads)
