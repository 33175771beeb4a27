"""The layers of a bundle: matched in each artifact at export, compared in each runtime by the check.

A bundle keeps ``layers/LAYOUT.safetensors``, the values inside the lowered module (:mod:`edgeattn.export.recording`
writes it), and ``layers/ARTIFACT.json``, the tensor of each layer in an artifact: the check needs neither PyTorch nor
the model.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path

from edgeattn.bundle.golden import GoldenCase, golden_case
from edgeattn.bundle.manifest import Artifact, Bundle, File, describe, load
from edgeattn.errors import ArtifactError, MissingError
from edgeattn.parity import layer_match
from edgeattn.parity.layer_file import read
from edgeattn.parity.layer_match import Layer, Match, Matcher
from edgeattn.parity.verdicts import NotChecked
from edgeattn.precision import FP32
from edgeattn.runtimes import RUNTIMES, Observe, Observed, meant, missing
from edgeattn.system import files
from edgeattn.system.progress import Progress, silent

FOLDER = "layers"
CASE = "example"
_HARMLESS = "no output shows it"


@dataclass(frozen=True)
class LayerRow:
    """One layer in one artifact: the tensor that holds its value, and its error. A number that is missing is None."""

    layer: str
    op: str
    source: str
    artifact_op: str
    tensor: str
    passed: bool
    reason: str
    max_noise_units: float | None
    rms_noise_units: float | None


@dataclass(frozen=True)
class Depth:
    """All layers of one artifact in one runtime, in its order of execution.

    Args:
        first: the first layer that is over its limit, by an error that reaches an output.
        fused: layers that ``first`` is computed from and that no tensor holds, so that the error may begin there.
        lost: the layers from which on no value matches, if the outputs are wrong.
        unseen: layers that no tensor of the artifact holds within their noise: mostly, its converter fused them.
    """

    candidate: str
    runtime: str
    passed: bool
    rows: tuple[LayerRow, ...]
    first: LayerRow | None
    fused: tuple[str, ...]
    lost: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Where the error begins, for people."""
        about = f"{self.candidate} in {self.runtime}"
        if self.first is not None:
            text = f"{about}: the error begins at {_description(self.first)}."
            if self.fused:
                text += f" No tensor holds {', '.join(self.fused)}, which it is computed from: it may begin there."
        elif self.lost:
            text = f"{about}: the values are lost at {', '.join(self.lost)}: none is found from there to an output."
        else:
            text = f"{about}: no error begins inside."
        number = len(self.unseen)
        return text + (f" Not found in it: {number} of {number + len(self.rows)} layers." if number else "")


@dataclass(frozen=True)
class Layers:
    """Every artifact in every runtime that shows the values inside; what was not compared, and why."""

    depths: tuple[Depth, ...]
    not_run: tuple[NotChecked, ...]

    @property
    def passed(self) -> bool:
        return all(depth.passed for depth in self.depths)


def find(artifact: Artifact, layers: Sequence[Layer], golden: GoldenCase, folder: Path) -> File | None:
    """Write which tensor of an artifact in ``folder`` holds each layer; None if no runtime here shows its values.

    Args:
        artifact: newly made.
        layers: of its lowered form.
        golden: the case ``example``.
        folder: the bundle's.
    """
    for _, observe, reason in _observers(artifact.format, ()):
        if reason:
            continue
        matcher = Matcher(layers, artifact.precision)
        try:
            observe(folder / artifact.file.path, golden.inputs_for(artifact), partial(_add, matcher))
        except MissingError:
            continue
        path = folder / FOLDER / f"{artifact.file.path}.json"
        path.write_text(json.dumps({k: vars(m) for k, m in matcher.matches().items()}, indent=1, sort_keys=True) + "\n")
        return describe(folder, path)
    return None


def located(bundle: Bundle, artifact: Artifact) -> dict[str, str]:
    """Of the values of an artifact, by their names: the layer of the module, and the line in the user's code; none
    where the bundle does not say.

    Raises:
        ArtifactError: a file of the bundle cannot be read.
    """
    known = bundle.manifest.layers or {}
    if not {artifact.lowering, artifact.file.path} <= known.keys():
        return {}
    sources = {layer.name: layer.source for layer in read(bundle.path(known[artifact.lowering]))}
    matches = _matches(bundle.path(known[artifact.file.path]))
    return {
        match.tensor: f"{layer} ({source})" if (source := sources.get(layer)) else layer
        for layer, match in matches.items()
    }


def located_in_file(path: Path) -> dict[str, str]:
    """As :func:`located`, of a file that may be in no bundle, or in one that cannot be read."""
    try:
        bundle = load(path.parent)
        return next((located(bundle, a) for a in bundle.manifest.artifacts if a.file.path == path.name), {})
    except ArtifactError:
        return {}


def _add(matcher: Matcher, observed: Observed) -> None:
    matcher.add(observed.name, observed.value)


def compare(bundle: Bundle, progress: Progress = silent, *, chosen: Sequence[str] = ()) -> Layers:
    """Compare the layers of every artifact in every runtime that shows them, or in the ``chosen`` ones.

    Raises:
        ArtifactError: the bundle holds no layers, or a file of it cannot be read.
        MissingError: no runtime here shows the values inside an artifact.
    """
    manifest = bundle.manifest
    if manifest.layers is None:
        raise ArtifactError(f"{bundle.folder} holds no layers; export it again with this version of edgeattn")
    if CASE not in manifest.golden:
        raise ArtifactError(f"{bundle.folder} has no golden case {CASE!r}, which its layers are of; export it again")
    golden = golden_case(bundle, CASE)
    comparisons = []
    for artifact in manifest.artifacts:
        layers = read(bundle.path(manifest.layers[artifact.lowering])) if artifact.lowering in manifest.layers else ()
        for runtime, observe, reason in _observers(artifact.format, chosen):
            if artifact.precision != FP32.name:
                reason = f"the layers of {artifact.precision} are not compared; `edgeattn study precision` does that"
            elif not layers:
                reason = "its module computes other steps in float64 than in float32, so that there is no oracle inside"
            elif artifact.file.path not in manifest.layers:
                reason = "no runtime showed its values when the bundle was made; export it again where one is"
            comparisons.append((artifact, layers, runtime, observe, reason))
    progress.plan(sum(reason is None for *_, reason in comparisons))
    depths, not_run = [], []
    for artifact, layers, runtime, observe, reason in comparisons:
        name = artifact.file.path
        if reason is None:
            progress(f"layers of {name} in {runtime}")
            matches = _matches(bundle.path(manifest.layers[name]))
            try:
                rows = _rows(bundle.path(artifact.file), artifact, layers, matches, golden, observe)
            except MissingError as error:  # the runtime is installed, but lacks what it needs to show the values
                reason = str(error)
            else:
                depths.append(_depth(name, runtime, layers, matches, rows))
        if reason is not None:
            not_run.append(NotChecked(name, runtime, reason))
    if not depths:
        raise MissingError(f"no artifact's layers could be seen here: {not_run[0].reason}")
    return Layers(tuple(depths), tuple(not_run))


def _observers(format_: str, chosen: Sequence[str]) -> Iterator[tuple[str, Observe, str | None]]:
    """The runtimes of a format that can show the values inside: the name, the function, and why it cannot run here."""
    for name, runtime in RUNTIMES.items():
        if runtime.format == format_ and runtime.observe and meant(name, runtime, chosen):
            yield name, runtime.observe, missing(runtime)


def _matches(path: Path) -> dict[str, Match]:
    try:
        matches = {layer: Match(m["tensor"], m["order"]) for layer, m in json.loads(files.read(path)).items()}
        if not all(isinstance(match.tensor, str) and match.order in layer_match.ORDERS for match in matches.values()):
            raise ValueError("a layer is in no tensor, or in no known order")
        return matches
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} does not say where layers are: {error}; export the bundle again") from error


def _rows(
    path: Path,
    artifact: Artifact,
    layers: Sequence[Layer],
    matches: dict[str, Match],
    golden: GoldenCase,
    observe: Observe,
) -> list[LayerRow]:
    by_tensor: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.name in matches:
            by_tensor.setdefault(matches[layer.name].tensor, []).append(layer)
    rows = []

    def judge(observed: Observed) -> None:
        for layer in by_tensor.pop(observed.name, ()):
            verdict = layer_match.judge(layer, matches[layer.name], observed.value, artifact.precision)
            numbers = (verdict.max_noise_units, verdict.rms_noise_units)
            rows.append(
                LayerRow(
                    layer.name,
                    layer.op,
                    layer.source,
                    observed.op,
                    observed.name,
                    verdict.passed,
                    verdict.reason,
                    *(n if isfinite(n) else None for n in numbers),
                )
            )

    observe(path, golden.inputs_for(artifact), judge)
    if by_tensor:
        raise ArtifactError(f"{path} has no tensor {next(iter(by_tensor))!r} any more; export the bundle again")
    return rows


def _description(row: LayerRow) -> str:
    line = f", {row.source}" if row.source else ""
    return f"{row.layer} ({row.op}{line}), in the artifact {row.artifact_op} {row.tensor}: {row.reason}"


def _depth(
    candidate: str, runtime: str, layers: Sequence[Layer], matches: dict[str, Match], rows: Sequence[LayerRow]
) -> Depth:
    over = layer_match.reaching_outputs(layers, {row.layer for row in rows if not row.passed}, matches)
    rows = [
        row if row.passed or row.layer in over else replace(row, passed=True, reason=f"{row.reason}; {_HARMLESS}")
        for row in rows
    ]
    first = next((row for row in rows if not row.passed), None)
    lost = layer_match.lost(layers, matches)
    return Depth(
        candidate,
        runtime,
        first is None and not lost,
        tuple(rows),
        first,
        () if first is None else layer_match.sources(layers, first.layer, matches).unmatched,
        lost,
        tuple(layer.name for layer in layers if layer.name not in matches),
    )
