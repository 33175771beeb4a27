"""Writes golden cases, layers, labelled inputs and manifest entries of a bundle."""

import copy
import hashlib
from contextlib import suppress
from pathlib import Path

import torch

from edgeattn.bundle import manifest
from edgeattn.bundle.golden import GoldenCase, HeldOut
from edgeattn.errors import ArtifactError
from edgeattn.export import calibration, cases, recording, reference
from edgeattn.export.source import Source, run
from edgeattn.export.source.adapter import root_of
from edgeattn.layout import Layout
from edgeattn.lowering import Lowering
from edgeattn.parity import layer_file, layers
from edgeattn.precision import FP32


def write_golden(
    source: Source,
    lowerings: dict[Layout, Lowering],
    chosen: dict[str, cases.Case],
    folder: Path,
    oracle: torch.nn.Module | None,
) -> dict[str, manifest.File]:
    """Write each golden case; the files by the case's name.

    ``oracle``: the model in float64, if the module itself cannot be run in it: one that rounds to float32 inside.
    """
    double = oracle or copy.deepcopy(source.module).double()
    (folder / "golden").mkdir()
    files = {}
    for name, case in chosen.items():
        path = folder / "golden" / f"{name}.safetensors"
        reference.case(source, lowerings, case.inputs, double).write(path)
        files[name] = manifest.describe(folder, path)
    return files


def write_layers(
    source: Source,
    lowerings: dict[Layout, Lowering],
    artifacts: list[manifest.Artifact],
    folder: Path,
) -> dict[str, manifest.File]:
    """Write the layers of each lowered form, and their tensors in each fp32 artifact; files by layout or artifact.

    An artifact that its runtime does not show the values of has none: it can still be judged.
    """
    (folder / layers.FOLDER).mkdir()
    files = {}
    example = GoldenCase({name: x.detach().numpy() for name, x in source.inputs.items()})
    for layout, lowering in lowerings.items():
        recorded = recording.record(lowering, source.inputs, list(source.outputs), root_of(source.module))
        if not recorded:
            continue
        path = folder / layers.FOLDER / f"{layout}.safetensors"
        layer_file.save(recorded, path)
        files[str(layout)] = manifest.describe(folder, path)
        for artifact in artifacts:
            if artifact.precision != FP32.name or artifact.lowering != layout:
                continue
            with suppress(ArtifactError):
                if file := layers.find(artifact, recorded, example, folder):
                    files[artifact.file.path] = file
    return files


def write_evaluation(source: Source, folder: Path) -> manifest.File | None:
    """Write the labelled inputs with the reference's logits, if the source has any."""
    if source.evaluation is None:
        return None
    # With batch 1, as the artifacts are run.
    logits = [run(source.module, {"": x[None]})[0] for x in source.evaluation.inputs]
    path = folder / "evaluation" / "held_out.safetensors"
    path.parent.mkdir()
    labelled = (source.evaluation.inputs, source.evaluation.labels, torch.cat(logits))
    HeldOut(*(x.detach().numpy() for x in labelled)).write(path)
    return manifest.describe(folder, path)


def describe_calibration(chosen: calibration.Calibration | None) -> manifest.Calibrated | None:
    """The manifest's entry of a calibration set."""
    if chosen is None:
        return None
    return manifest.Calibrated(chosen.about, len(chosen.inputs), chosen.sha256, chosen.skipped, chosen.warning)


def describe_tensors(
    values: dict[str, torch.Tensor], dynamic_batch: bool, own_names: dict[str, str]
) -> tuple[manifest.Tensor, ...]:
    """The manifest's entries of the model's inputs or outputs."""
    return tuple(
        manifest.Tensor(
            name,
            (None, *x.shape[1:]) if dynamic_batch and x.dim() else tuple(x.shape),
            str(x.dtype).removeprefix("torch."),
            "channels_first" if x.dim() == 4 else None,
            own_name=own_names.get(name),
        )
        for name, x in values.items()
    )


def hash_weights(module: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
