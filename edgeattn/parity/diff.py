"""How the outputs of two artifacts, or of the artifacts of two bundles, differ on the same inputs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.tensors import Arrays, from_edge
from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.formats import FORMATS
from edgeattn.formats.graph import TensorInfo
from edgeattn.inspection import inspect as inspection
from edgeattn.inspection import sandbox as probe
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
        MissingError: a runtime that is needed is not here.
    """
    both = [(path / bundles.MANIFEST).is_file() for path in (a, b)]
    if both[0] != both[1]:
        raise BadInputError("give two bundles or two artifacts, not one of each")
    rows = list(_bundles(bundles.load(a), bundles.load(b), progress) if both[0] else _artifacts(a, b, progress))
    if not rows:
        raise BadInputError(f"{a} and {b} have no artifact of the same format and precision with the same inputs")
    return rows


def _bundles(a: bundles.Bundle, b: bundles.Bundle, progress: Progress) -> Iterator[Row]:
    probe.check(*(x.path(artifact.file) for x in (a, b) for artifact in x.manifest.artifacts), run=True)
    others = {(artifact.format, artifact.precision): artifact for artifact in b.manifest.artifacts}
    progress.plan(len(a.manifest.artifacts))
    for first in a.manifest.artifacts:
        progress(f"running {first.file.path} of both")
        second = others.get((first.format, first.precision))
        if second is None or [t.name for t in first.inputs] != [t.name for t in second.inputs]:
            continue
        with _opened(a.path(first.file)) as one, _opened(b.path(second.file)) as two:
            for case, golden in golden_cases(a).items():
                given = [golden.inputs_for(artifact) for artifact in (first, second)]
                if one.signature.accepts(given[0]) and two.signature.accepts(given[1]):
                    names = str(a.path(first.file)), str(b.path(second.file))
                    results = one.run(given[0]), two.run(given[1])
                    values = (_values(r, x, golden) for r, x in zip(results, (first, second), strict=True))
                    yield from _rows(names, case, *values)


def _values(results: Arrays, artifact: bundles.Artifact, golden: GoldenCase) -> Arrays:
    """What an artifact gave, as values of the reference's type."""
    values = dict(results)
    for output in artifact.outputs:
        if output.name in values:
            like = golden.reference("fp32")[output.name].dtype
            values[output.name] = from_edge(values[output.name], output, like)
    return values


def _artifacts(a: Path, b: Path, progress: Progress) -> Iterator[Row]:
    formats = [FORMATS.get(inspection.format_of(path)) for path in (a, b)]
    for format_ in formats:
        plugins.require(*format_.read_packages, extra=format_.extra)
    probe.check(a, b, run=True)
    declared = [{t.name: t for t in f.read(p).inputs} for f, p in zip(formats, (a, b), strict=True)]
    if declared[0].keys() != declared[1].keys():
        raise BadInputError(f"{a} takes {', '.join(declared[0])}, but {b} takes {', '.join(declared[1])}")
    progress.plan(1)
    progress(f"running {a} and {b}")
    random = np.random.default_rng(SEED)
    first = {name: _random(info, random) for name, info in declared[0].items()}
    second = {name: _laid_out(value, declared[1][name], b) for name, value in first.items()}
    with _opened(a) as one, _opened(b) as two:
        yield from _rows((str(a), str(b)), f"normal, seed {SEED}", one.run(first), two.run(second))


def _random(info: TensorInfo, random: np.random.Generator) -> Array:
    shape = [n or 1 for n in info.shape]
    if not info.dtype.startswith("float"):
        raise BadInputError(f"input {info.name} is of type {info.dtype}; only artifacts with float inputs are compared")
    return random.standard_normal(shape).astype(info.dtype)


def _laid_out(value: Array, info: TensorInfo, path: Path) -> Array:
    """``value`` as another artifact's input: as it is, or between channels-first and channels-last."""
    wanted = tuple(n or 1 for n in info.shape)
    for order in (tuple(range(value.ndim)), *([_TO_LAST, _TO_FIRST] if value.ndim == 4 else [])):
        if value.transpose(order).shape == wanted:
            return np.ascontiguousarray(value.transpose(order))
    raise BadInputError(f"{path} takes {info.name} as {list(wanted)}, and the other artifact as {list(value.shape)}")


def _opened(path: Path) -> AbstractContextManager[Session]:
    """The artifact in the first runtime of its format that is here."""
    found = backends(inspection.format_of(path))
    for backend in found:
        if not backend.missing:
            return backend.open(path)
    raise MissingError(f"{path} cannot be run here: {'; '.join(backend.missing for backend in found)}")


def _rows(names: tuple[str, str], case: str, one: Arrays, two: Arrays) -> Iterator[Row]:
    if one.keys() != two.keys():
        raise ArtifactError(f"{names[0]} gives {', '.join(one)}, but {names[1]} gives {', '.join(two)}")
    for output, value in one.items():
        other = two[output]
        if other.shape != value.shape and value.ndim == 4:
            other = next((y for o in (_TO_LAST, _TO_FIRST) if (y := other.transpose(o)).shape == value.shape), other)
        if other.shape != value.shape:
            raise ArtifactError(f"{output} is {list(value.shape)} in {names[0]} and {list(other.shape)} in {names[1]}")
        yield Row(*names, case, output, difference(reference=value, candidate=other))
