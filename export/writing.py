"""What an export writes into a bundle beside the artifacts."""

import hashlib
from pathlib import Path

import torch

from edgeattn.bundle import manifest as bundle
from edgeattn.bundle.golden import GoldenCase, HeldOut
from edgeattn.export import calibration, cases, recording
from edgeattn.export import reference as golden
from edgeattn.export.source import Source, run
from edgeattn.layout import Layout
from edgeattn.lowering import Lowering
from edgeattn.parity import layer_file, layers
from edgeattn.precision import FP32


def _write_golden(
    source: Source,
    lowerings: dict[Layout, Lowering],
    exact: dict[Layout, Lowering],
    chosen: dict[str, cases.Case],
    folder: Path,
) -> dict[str, bundle.File]:
    (folder / "golden").mkdir()
    files = {}
    for name, case in chosen.items():
        path = folder / "golden" / f"{name}.safetensors"
        golden.case(source, lowerings, exact, case.inputs).write(path)
        files[name] = bundle.describe(folder, path)
    return files


def _write_layers(
    source: Source,
    lowerings: dict[Layout, Lowering],
    exact: dict[Layout, Lowering],
    artifacts: list[bundle.Artifact],
    folder: Path,
) -> dict[str, bundle.File]:
    (folder / layers.FOLDER).mkdir()
    files = {}
    given = GoldenCase({name: x.detach().numpy() for name, x in source.inputs.items()})
    for layout, lowering in lowerings.items():
        recorded = recording.record(lowering, exact[layout], source.inputs, list(source.outputs))
        if not recorded:
            continue
        path = folder / layers.FOLDER / f"{layout}.safetensors"
        layer_file.save(recorded, path)
        files[str(layout)] = bundle.describe(folder, path)
        for artifact in artifacts:
            if (
                artifact.precision == FP32.name
                and artifact.lowering == layout
                and (file := layers.find(artifact, recorded, given, folder))
            ):
                files[artifact.file.path] = file
    return files


def _write_evaluation(source: Source, folder: Path) -> bundle.File | None:
    if source.evaluation is None:
        return None
    # One by one, as the artifacts will be run.
    logits = [run(source.module, {"": one[None]})[0] for one in source.evaluation.inputs]
    path = folder / "evaluation" / "held_out.safetensors"
    path.parent.mkdir()
    labelled = (source.evaluation.inputs, source.evaluation.labels, torch.cat(logits))
    HeldOut(*(x.detach().numpy() for x in labelled)).write(path)
    return bundle.describe(folder, path)


def _described(chosen: calibration.Calibration | None) -> bundle.Calibrated | None:
    if chosen is None:
        return None
    return bundle.Calibrated(chosen.about, len(chosen.inputs), chosen.sha256, chosen.skipped, chosen.warning)


def _tensors(values: dict[str, torch.Tensor], dynamic_batch: bool) -> tuple[bundle.Tensor, ...]:
    return tuple(
        bundle.Tensor(
            name,
            (None, *x.shape[1:]) if dynamic_batch else tuple(x.shape),
            str(x.dtype).removeprefix("torch."),
            "channels_first" if x.dim() == 4 else None,
        )
        for name, x in values.items()
    )


def _hash_weights(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
