"""What the files of a bundle answer to pictures: the best classes with their names, and how long a run took."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeattn.bundle import pictures
from edgeattn.bundle.manifest import Artifact, Bundle, Manifest
from edgeattn.bundle.tensors import Arrays, from_edge, to_edge, to_first
from edgeattn.errors import BadInputError, MissingError
from edgeattn.runtimes import Backend, backends
from edgeattn.system.progress import Progress, silent

BEST = 5


@dataclass(frozen=True)
class Best:
    """A class with its name (its number, where the bundle has no labels), and its score: the probability; of a model
    with a class for each pixel its share of the picture."""

    label: str
    number: int
    score: float


@dataclass(frozen=True)
class Answer:
    """What an artifact gave in one backend for one picture, the best first. ``milliseconds`` is the time of one run, by
    this process's clock, after a first one that is not timed."""

    picture: str
    artifact: str
    backend: str
    best: tuple[Best, ...]
    milliseconds: float


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read, or a file that nothing here runs, and why."""

    what: str
    reason: str


def find(path: Path) -> list[Path]:
    """A picture, or those in a folder, in order.

    Raises:
        BadInputError: there is none.
    """
    if not path.is_dir():
        if not path.is_file():
            raise BadInputError(f"there is no picture {path}")
        return [path]
    found = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in pictures.SUFFIXES)
    if not found:
        raise BadInputError(f"{path} holds no picture ({', '.join(pictures.SUFFIXES)})")
    return found


def chosen(bundle: Bundle, artifact: str | None, names: Sequence[str]) -> list[tuple[Artifact, Backend]]:
    """An artifact of a bundle, or all of them (None), with the first backend that runs it here, or those ``names``.

    Raises:
        BadInputError: the bundle has no such artifact, or no such backend runs it.
        MissingError: nothing here runs it.
    """
    artifacts = [a for a in bundle.manifest.artifacts if artifact in (None, a.file.path)]
    if not artifacts:
        known = ", ".join(a.file.path for a in bundle.manifest.artifacts)
        raise BadInputError(f"{bundle.folder} has no artifact {artifact}; it has {known}")
    found: list[tuple[Artifact, Backend]] = []
    reasons = []
    for each in artifacts:
        possible = backends(each.format, names)
        usable = [b for b in possible if not b.missing]
        found += [(each, backend) for backend in (usable if names else usable[:1])]
        reasons += [b.missing for b in possible if b.missing]
    if not found and reasons:
        raise MissingError(f"nothing here runs {artifact or 'the artifacts'}: {reasons[0]}")
    if not found:
        raise BadInputError(f"no such backend runs {artifact or 'an artifact'}: {', '.join(names)}")
    return found


def answers(
    bundle: Bundle,
    runs: Sequence[tuple[Artifact, Backend]],
    files: Sequence[Path],
    progress: Progress = silent,
) -> tuple[tuple[Answer, ...], tuple[Skipped, ...]]:
    """Every file's answers to every picture, and what was skipped: the pictures that are none, and the files that their
    runtime lacks something for.

    Raises:
        BadInputError: the model takes no picture; or none could be read.
        ArtifactError: a runtime refuses its file.
    """
    images, skipped = [], []
    for file in files:
        try:
            images.append((file.name, as_input(bundle.manifest, file)))
        except BadInputError as error:
            if len(files) == 1:
                raise BadInputError(f"{file}: {error}") from error
            skipped.append(Skipped(file.name, str(error)))
    if not images:
        raise BadInputError(f"no picture could be read; {skipped[0].what}: {skipped[0].reason}")
    found: list[Answer] = []
    progress.plan(len(runs))
    for artifact, backend in runs:
        progress(f"{artifact.file.path} in {backend.label}")
        try:
            found += _answers(bundle, artifact, backend, images)
        except MissingError as error:
            if len(runs) == 1:
                raise
            skipped.append(Skipped(f"{artifact.file.path} in {backend.label}", str(error)))
    return tuple(found), tuple(skipped)


def _answers(
    bundle: Bundle, artifact: Artifact, backend: Backend, images: Sequence[tuple[str, Arrays]]
) -> Iterator[Answer]:
    with backend.open(bundle.path(artifact.file)) as session:
        for number, (name, inputs) in enumerate(images):
            given = {tensor.name: to_edge(inputs[tensor.name], tensor) for tensor in artifact.inputs}
            if not number:
                session.run(given)
            begun = time.perf_counter_ns()
            outputs = session.run(given)
            elapsed = time.perf_counter_ns() - begun
            values = [
                to_first(from_edge(outputs[t.name], t, np.dtype(t.dtype if t.scale is None else "float32")), t)
                for t in artifact.outputs
            ]
            yield Answer(name, artifact.file.path, backend.label, best(bundle.manifest, values), elapsed / 1e6)


def as_input(manifest: Manifest, file: Path) -> Arrays:
    """A picture as the model's input, channels-first.

    Raises:
        BadInputError: it is no picture, or the model takes none.
    """
    shape, told = pictures.taken(manifest)
    name, pixels = manifest.inputs[0].name, pictures.as_bytes(pictures.read(file), told, shape)
    return {name: pixels if manifest.picture else pictures.normalised(pixels, told).astype(np.float32)}


def best(manifest: Manifest, outputs: Sequence[npt.NDArray[np.generic]]) -> tuple[Best, ...]:
    """The best classes of a model's outputs, channels-first, in its order.

    Raises:
        BadInputError: the first output has no classes.
    """
    first = np.asarray(outputs[0], np.float64)
    if manifest.answer == "top5":
        pairs = list(zip(np.asarray(outputs[1]).reshape(-1).tolist(), first.reshape(-1).tolist(), strict=True))
    elif first.ndim == 2:
        scores = first[0] if manifest.answer == "probabilities" else _softmax(first[0])
        pairs = [(int(i), float(scores[i])) for i in np.argsort(-scores, kind="stable")[:BEST]]
    elif first.ndim == 4:
        classes, counts = np.unique(first[0].argmax(axis=0), return_counts=True)
        order = np.argsort(-counts, kind="stable")[:BEST]
        pairs = [(int(classes[i]), float(counts[i] / counts.sum())) for i in order]
    else:
        raise BadInputError(f"the first output of {manifest.model} is {list(first.shape)}, and has no classes")
    labels = manifest.labels
    return tuple(Best(labels[i] if i < len(labels) else str(i), int(i), score) for i, score in pairs)


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    result: npt.NDArray[np.float64] = powers / powers.sum()
    return result
