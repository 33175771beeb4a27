"""How the outputs of two artifacts, or of the artifacts of two bundles, differ on the same inputs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.manifest import MANIFEST, Artifact, Bundle, load
from edgeattn.bundle.tensors import Arrays, from_edge
from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.formats import FORMATS
from edgeattn.formats.graph import TensorInfo
from edgeattn.inspection import sandbox
from edgeattn.inspection.inspect import format_of
from edgeattn.parity.battery import SEED
from edgeattn.parity.metrics import Array, Difference, difference
from edgeattn.runtimes import Session, backends
from edgeattn.system import plugins
from edgeattn.system.progress import Progress, silent

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass(frozen=True)
class Row:
    """One output of one case: ``b`` against ``a``."""

    a: str
    b: str
    case: str
    output: str
    difference: Difference


def compare(a: Path, b: Path, progress: Progress = silent) -> list[Row]:
    """Run ``a`` and ``b`` on the same inputs: golden ones for two bundles, seeded random ones for two artifacts.

    Bundles are compared artifact by artifact of one format and precision; artifacts may be of different formats and
    edge layouts.

    Raises:
        BadInputError: one is a bundle and the other is not, or they have nothing in common to compare.
        MissingError: a runtime or a package that is needed is not installed.
    """
    is_bundle = [(path / MANIFEST).is_file() for path in (a, b)]
    if is_bundle[0] != is_bundle[1]:
        raise BadInputError("give two bundles or two artifacts, not one of each")
    rows = list(_bundles(load(a), load(b), progress) if is_bundle[0] else _artifacts(a, b, progress))
    if not rows:
        raise BadInputError(f"{a} and {b} have no artifact of the same format and precision with the same inputs")
    return rows


def _bundles(a: Bundle, b: Bundle, progress: Progress) -> Iterator[Row]:
    sandbox.check(*(x.path(artifact.file) for x in (a, b) for artifact in x.manifest.artifacts), run=True)
    artifacts_of_b = {(artifact.format, artifact.precision): artifact for artifact in b.manifest.artifacts}
    progress.plan(len(a.manifest.artifacts))
    for first in a.manifest.artifacts:
        progress(f"running {first.file.path} of both")
        second = artifacts_of_b.get((first.format, first.precision))
        if second is None or [t.name for t in first.inputs] != [t.name for t in second.inputs]:
            continue
        with _opened(a.path(first.file)) as session_a, _opened(b.path(second.file)) as session_b:
            for case, golden in golden_cases(a).items():
                inputs = [golden.inputs_for(artifact) for artifact in (first, second)]
                if session_a.signature.accepts(inputs[0]) and session_b.signature.accepts(inputs[1]):
                    names = str(a.path(first.file)), str(b.path(second.file))
                    results = session_a.run(inputs[0]), session_b.run(inputs[1])
                    values = (_values(r, x, golden) for r, x in zip(results, (first, second), strict=True))
                    yield from _rows(names, case, *values)


def _values(results: Arrays, artifact: Artifact, golden: GoldenCase) -> Arrays:
    """The outputs of an artifact, as values of the reference's type."""
    values = dict(results)
    for output in artifact.outputs:
        if output.name in values:
            like = golden.reference("fp32")[output.name].dtype
            values[output.name] = from_edge(values[output.name], output, like)
    return values


def _artifacts(a: Path, b: Path, progress: Progress) -> Iterator[Row]:
    formats = [FORMATS.get(format_of(path)) for path in (a, b)]
    for format_ in formats:
        plugins.require(*format_.read_packages, extra=format_.extra)
    sandbox.check(a, b, run=True)
    declared = [{t.name: t for t in f.read(p).inputs} for f, p in zip(formats, (a, b), strict=True)]
    if declared[0].keys() != declared[1].keys():
        raise BadInputError(f"{a} takes {', '.join(declared[0])}, but {b} takes {', '.join(declared[1])}")
    progress.plan(1)
    progress(f"running {a} and {b}")
    random = np.random.default_rng(SEED)
    first = {name: _random(info, random) for name, info in declared[0].items()}
    second = {name: _laid_out(value, declared[1][name], b) for name, value in first.items()}
    with _opened(a) as session_a, _opened(b) as session_b:
        yield from _rows((str(a), str(b)), f"normal, seed {SEED}", session_a.run(first), session_b.run(second))


def _random(info: TensorInfo, random: np.random.Generator) -> Array:
    shape = [n or 1 for n in info.shape]
    if not info.dtype.startswith("float"):
        raise BadInputError(f"input {info.name} is of type {info.dtype}; only artifacts with float inputs are compared")
    return random.standard_normal(shape).astype(info.dtype)


def _laid_out(value: Array, info: TensorInfo, path: Path) -> Array:
    """``value`` as the other artifact's input: unchanged, or moved between channels-first and channels-last."""
    shape = tuple(n or 1 for n in info.shape)
    for order in (tuple(range(value.ndim)), *([_TO_LAST, _TO_FIRST] if value.ndim == 4 else [])):
        if value.transpose(order).shape == shape:
            return np.ascontiguousarray(value.transpose(order))
    raise BadInputError(f"{path} takes {info.name} as {list(shape)}, and the other artifact as {list(value.shape)}")


def _opened(path: Path) -> AbstractContextManager[Session]:
    """The artifact in the first installed runtime of its format."""
    candidates = backends(format_of(path))
    for backend in candidates:
        if not backend.missing:
            return backend.open(path)
    raise MissingError(f"{path} cannot be run here: {'; '.join(backend.missing for backend in candidates)}")


def _rows(names: tuple[str, str], case: str, a: Arrays, b: Arrays) -> Iterator[Row]:
    if a.keys() != b.keys():
        raise ArtifactError(f"{names[0]} gives {', '.join(a)}, but {names[1]} gives {', '.join(b)}")
    for output, value in a.items():
        other = b[output]
        if other.shape != value.shape and value.ndim == 4:
            other = next((y for o in (_TO_LAST, _TO_FIRST) if (y := other.transpose(o)).shape == value.shape), other)
        if other.shape != value.shape:
            raise ArtifactError(f"{output} is {list(value.shape)} in {names[0]} and {list(other.shape)} in {names[1]}")
        yield Row(*names, case, output, difference(reference=value, candidate=other))
