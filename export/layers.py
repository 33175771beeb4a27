"""The layers of a bundle: found in each artifact when it is made, compared in each runtime when it is checked.

A bundle keeps ``layers/LAYOUT.safetensors``, the values inside the lowered module (:mod:`export.recording` writes it),
and ``layers/ARTIFACT.json``, where each of them is in an artifact: neither PyTorch nor the model is needed to check.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import ModuleType

from edgeattn import layers as pure
from edgeattn.errors import ArtifactError, MissingError
from edgeattn.layers import Layer, Match, Matcher
from export import plugins
from export.bundle import Artifact, Bundle, File, describe
from export.runtimes import Arrays, Observed, as_layout, missing

FOLDER = "layers"
CASE = "example"


@dataclass(frozen=True)
class LayerRow:
    """One layer in one artifact: where its value was found there, and its error. No number where there is none."""

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
        first: the first layer that is over its limit.
        fused: layers that ``first`` is computed from and that no tensor holds, so that it may be theirs.
        lost: the layers from which on no value is found, where the outputs are not the module's.
        unseen: layers that no tensor of the artifact holds: fused, folded or composed by its converter.
    """

    candidate: str
    runtime: str
    passed: bool
    rows: tuple[LayerRow, ...]
    first: LayerRow | None
    fused: tuple[str, ...]
    lost: tuple[str, ...]
    unseen: tuple[str, ...]


def read(path: Path) -> tuple[Layer, ...]:
    """The layers of a file that :func:`export.recording.save` wrote.

    Raises:
        ArtifactError: the file is not one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return tuple(
                Layer(
                    x["name"],
                    x["op"],
                    x["source"],
                    tuple(x["inputs"]),
                    tuple(x["shape"]),
                    *(file.get_tensor(f"{i}/{key}") for key in ("positions", "fp64", "fp32")),
                )
                for i, x in enumerate(json.loads(file.metadata()["layers"]))
            )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} holds no layers: {error}; export the bundle again") from error


def find(artifact: Artifact, layers: Sequence[Layer], inputs: Arrays, folder: Path) -> File | None:
    """Write where the artifact in ``folder`` holds each layer; None if no runtime here shows what is inside.

    Args:
        artifact: as it was just made.
        layers: of its lowered form.
        inputs: the example input, channels-first.
        folder: the bundle's.
    """
    for name in _runtimes(artifact.format):
        runtime = plugins.get("runtimes", name)
        if missing(runtime):
            continue
        matcher = Matcher(layers, artifact.precision)
        try:
            runtime.observe(
                folder / artifact.file.path, _given(artifact, inputs), lambda seen: matcher.see(seen.name, seen.value)
            )
        except MissingError:
            continue
        path = folder / FOLDER / f"{artifact.file.path}.json"
        path.write_text(json.dumps({k: vars(m) for k, m in matcher.matches().items()}, indent=1, sort_keys=True) + "\n")
        return describe(folder, path)
    return None


def compare(bundle: Bundle, say: Callable[[str], None] = lambda _: None) -> tuple[tuple[Depth, ...], dict[str, str]]:
    """Compare the layers of every artifact in every runtime that shows them, and say why what was not compared.

    Raises:
        ArtifactError: the bundle holds no layers, or a file of it cannot be read.
    """
    from safetensors.numpy import load_file

    manifest = bundle.manifest
    if not manifest.layers:
        raise ArtifactError(f"{bundle.folder} holds no layers; export it again with this version of edgeattn")
    golden = load_file(bundle.path(manifest.golden[CASE]))
    inputs = {t.name: golden[f"input/{t.name}"] for t in manifest.inputs}
    found, not_run = [], {}
    for artifact in manifest.artifacts:
        name = artifact.file.path
        if name not in manifest.layers:
            not_run[name] = "no runtime showed its values when the bundle was made; export it again where one is"
            continue
        layers = read(bundle.path(manifest.layers[artifact.lowering]))
        matches = _matches(bundle.path(manifest.layers[name]))
        for runtime_name in _runtimes(artifact.format):
            runtime = plugins.get("runtimes", runtime_name)
            if reason := missing(runtime):
                not_run[f"{name} in {runtime_name}"] = reason
                continue
            say(f"layers of {name} in {runtime_name}")
            try:
                rows = _rows(bundle.path(artifact.file), artifact, layers, matches, inputs, runtime)
            except MissingError as error:
                not_run[f"{name} in {runtime_name}"] = str(error)
            else:
                found.append(_depth(name, runtime_name, layers, matches, rows))
    if not found:
        raise MissingError(f"no artifact's layers could be seen here: {'; '.join(not_run.values())}")
    return tuple(found), not_run


def _runtimes(format_: str) -> list[str]:
    """The runtimes of a format that can show what is computed inside."""
    modules = {name: plugins.get("runtimes", name) for name in plugins.names("runtimes")}
    return [name for name, m in modules.items() if m.FORMAT == format_ and hasattr(m, "observe")]


def _given(artifact: Artifact, inputs: Arrays) -> Arrays:
    return {t.name: as_layout(inputs[t.name], t) for t in artifact.inputs}


def _matches(path: Path) -> dict[str, Match]:
    try:
        return {layer: Match(m["tensor"], m["order"]) for layer, m in json.loads(path.read_text()).items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} does not say where layers are: {error}; export the bundle again") from error


def _rows(
    path: Path,
    artifact: Artifact,
    layers: Sequence[Layer],
    matches: dict[str, Match],
    inputs: Arrays,
    runtime: ModuleType,
) -> list[LayerRow]:
    wanted: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.name in matches:
            wanted.setdefault(matches[layer.name].tensor, []).append(layer)
    rows = []

    def see(seen: Observed) -> None:
        for layer in wanted.pop(seen.name, ()):
            verdict = pure.judge(layer, matches[layer.name], seen.value, artifact.precision)
            numbers = (verdict.max_noise_units, verdict.rms_noise_units)
            rows.append(
                LayerRow(
                    layer.name,
                    layer.op,
                    layer.source,
                    seen.op,
                    seen.name,
                    verdict.passed,
                    verdict.reason,
                    *(n if isfinite(n) else None for n in numbers),
                )
            )

    runtime.observe(path, _given(artifact, inputs), see)
    if wanted:
        raise ArtifactError(f"{path} has no tensor {next(iter(wanted))!r} any more; export the bundle again")
    return rows


def _depth(
    candidate: str, runtime: str, layers: Sequence[Layer], matches: dict[str, Match], rows: Sequence[LayerRow]
) -> Depth:
    first = next((row for row in rows if not row.passed), None)
    lost = pure.lost(layers, matches)
    return Depth(
        candidate,
        runtime,
        first is None and not lost,
        tuple(rows),
        first,
        () if first is None else pure.unseen_before(layers, first.layer, matches),
        lost,
        tuple(layer.name for layer in layers if layer.name not in matches),
    )
