"""How the outputs of two artifacts, or of the artifacts of two bundles, differ on the same inputs."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.manifest import MANIFEST, Artifact, Bundle, describe, load, read_manifest
from edgeattn.bundle.tensors import Arrays, from_edge
from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.formats import FORMATS
from edgeattn.formats.graph import TensorInfo
from edgeattn.inspection import sandbox
from edgeattn.inspection.inspect import format_of
from edgeattn.parity import feed
from edgeattn.parity.feed import Edge, Order, Side
from edgeattn.parity.metrics import Array, Difference, difference
from edgeattn.runtimes import Session, backends
from edgeattn.system import plugins
from edgeattn.system.progress import Progress, silent


@dataclass(frozen=True)
class Row:
    """One output of one case: ``b`` against ``a``."""

    a: str
    b: str
    case: str
    output: str
    difference: Difference


def compare(
    a: Path, b: Path, progress: Progress = silent, *, sizes: Mapping[str, tuple[int, ...]] | None = None
) -> list[Row]:
    """Run ``a`` and ``b`` on the same inputs: golden ones for two bundles, seeded random ones for two artifacts.

    Bundles are compared artifact by artifact of one format and precision; artifacts may be of different formats, edge
    layouts and types. Of an artifact that lies in its bundle, the manifest says the layout.

    Args:
        sizes: of the inputs of two artifacts that leave axes free, by their names in ``a``.

    Raises:
        BadInputError: one is a bundle and the other is not, they have nothing in common to compare, or an input has no
            size.
        MissingError: a runtime or a package that is needed is not installed.
    """
    is_bundle = [(path / MANIFEST).is_file() for path in (a, b)]
    if is_bundle[0] != is_bundle[1]:
        raise BadInputError("give two bundles or two artifacts, not one of each")
    if is_bundle[0] and sizes:
        raise BadInputError("--shape goes with two artifacts: bundles are compared on their golden inputs")
    rows = list(_bundles(load(a), load(b), progress) if is_bundle[0] else _artifacts(a, b, progress, sizes or {}))
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
            names = str(a.path(first.file)), str(b.path(second.file))
            for case, golden in golden_cases(a).items():
                inputs = [golden.inputs_for(artifact) for artifact in (first, second)]
                if session_a.signature.accepts(inputs[0]) and session_b.signature.accepts(inputs[1]):
                    results = session_a.run(inputs[0]), session_b.run(inputs[1])
                    values = [_values(r, x, golden) for r, x in zip(results, (first, second), strict=True)]
                    yield from _bundle_rows(names, case, *values)


def _values(results: Arrays, artifact: Artifact, golden: GoldenCase) -> Arrays:
    """The outputs of an artifact, channels-first, as values of the reference's type."""
    values = dict(results)
    for output in artifact.outputs:
        if output.name in values:
            like = golden.reference("fp32")[output.name].dtype
            value = from_edge(values[output.name], output, like)
            is_last = output.layout == "channels_last" and value.ndim == 4
            values[output.name] = value.transpose(feed.TO_FIRST) if is_last else value
    return values


def _bundle_rows(names: tuple[str, str], case: str, a: Arrays, b: Arrays) -> Iterator[Row]:
    if a.keys() != b.keys():
        raise ArtifactError(f"{names[0]} gives {', '.join(a)}, but {names[1]} gives {', '.join(b)}")
    for output, value in a.items():
        yield _row(names, case, output, value, b[output])


def _row(names: tuple[str, str], case: str, output: str, value: Array, other: Array) -> Row:
    if other.shape != value.shape:
        raise ArtifactError(f"{output} is {list(value.shape)} in {names[0]} and {list(other.shape)} in {names[1]}")
    return Row(*names, case, output, difference(reference=value, candidate=other))


def _artifacts(a: Path, b: Path, progress: Progress, sizes: Mapping[str, tuple[int, ...]]) -> Iterator[Row]:
    formats = [FORMATS.get(format_of(path)) for path in (a, b)]
    for format_ in formats:
        plugins.require(*format_.read_packages, extra=format_.extra)
    sandbox.check(a, b, run=True)
    graphs = [format_.read(path) for format_, path in zip(formats, (a, b), strict=True)]
    sides = [
        Side(str(path), _edges(graph.inputs, path, "inputs"), _edges(graph.outputs, path, "outputs"), format_.layout)
        for path, graph, format_ in zip((a, b), graphs, formats, strict=True)
    ]
    inputs = feed.pairs(sides[0], sides[1], sizes)
    orders = {pair.order for pair in inputs if len(pair.order) == 4}
    usual = next(iter(orders)) if len(orders) == 1 else None
    progress.plan(1)
    progress(f"running {a} and {b}")
    most = feed.most_integers(*graphs)
    worst: dict[str, Row] = {}
    with _opened(a) as session_a, _opened(b) as session_b:
        for case, first, second in feed.cases(inputs, most):
            for row in _rows(sides[0], sides[1], case, session_a.run(first), session_b.run(second), usual):
                known = worst.setdefault(row.output, row)
                worst[row.output] = max(known, row, key=lambda r: r.difference.max_abs)
    yield from worst.values()


def _edges(tensors: Iterable[TensorInfo], path: Path, side: str) -> tuple[Edge, ...]:
    """What a file declares, with the layouts that the manifest of its bundle says."""
    layouts = _layouts(path, side)
    return tuple(
        Edge(t.name, t.shape, t.dtype, layouts.get(t.name), t.scale if "int" in t.dtype else None, t.zero_point or 0)
        for t in tensors
    )


def _layouts(path: Path, side: str) -> dict[str, str]:
    """The layouts of an artifact's inputs or outputs, if it lies in its bundle, and is the file that was exported."""
    folder = path.absolute().parent
    if not (folder / MANIFEST).is_file():
        return {}
    try:
        artifacts = read_manifest(folder).artifacts
    except ArtifactError:  # a manifest of something else
        return {}
    for artifact in artifacts:
        if artifact.file.path == path.name and artifact.file == describe(folder, folder / path.name):
            tensors = artifact.inputs if side == "inputs" else artifact.outputs
            return {t.name: t.layout for t in tensors if t.layout is not None}
    return {}


def _opened(path: Path) -> AbstractContextManager[Session]:
    """The artifact in the first installed runtime of its format."""
    candidates = backends(format_of(path))
    for backend in candidates:
        if not backend.missing:
            return backend.open(path)
    raise MissingError(f"{path} cannot be run here: {'; '.join(backend.missing for backend in candidates)}")


def _rows(a: Side, b: Side, case: str, first: Arrays, second: Arrays, usual: Order | None) -> Iterator[Row]:
    """``usual`` is the order of the inputs' axes, for outputs of which no bundle says the order."""
    edges_a, edges_b = ({edge.name: edge for edge in side.outputs} for side in (a, b))
    for name, other_name in feed.output_names(a, b).items():
        edge, other_edge = edges_a[name], edges_b[other_name]
        if name not in first or other_name not in second:
            raise ArtifactError(f"{a.name if name not in first else b.name} does not give its output {name}")
        value, other = feed.values(first[name], edge), feed.values(second[other_name], other_edge)
        order = feed.known_order(edge, other_edge)
        other = _ordered(value.shape, other, order or usual)
        yield _row((a.name, b.name), case, name, value, other)


def _ordered(shape: tuple[int, ...], other: Array, order: Order | None) -> Array:
    """An output of the second artifact with the axes in the order of the first; by its shape, if nothing says more."""
    if other.ndim != 4 or len(shape) != 4:
        return other
    tried = (*([tuple(int(i) for i in np.argsort(order))] if order else []), (0, 1, 2, 3), feed.TO_LAST, feed.TO_FIRST)
    return next((y for o in tried if (y := other.transpose(o)).shape == shape), other)
