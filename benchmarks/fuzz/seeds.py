"""Real files to begin with: a small model in all formats, its bundle, a measurement, and what the runners wrote."""

import json
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from edgeattn import targets
from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.bundle.golden import golden_cases
from edgeattn.errors import MissingError
from edgeattn.export import attention_maps, pipeline, source
from edgeattn.export.cases import Case
from edgeattn.lowering import understand
from edgeattn.profile import run as profiles
from edgeattn.targets import Job
from edgeattn.targets._runner import job_folder
from edgeattn.targets.emulated_arm import toolchain

MODEL = """
import torch
from torch import nn
from edgeattn import LinearSelfAttention

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.attention, self.out = nn.GroupNorm(1, 8), LinearSelfAttention(8), nn.Linear(8, 4)

    def forward(self, x):
        x = torch.nn.functional.silu(self.deep(self.bn(self.conv(x))))
        return self.out((x + self.attention(self.norm(x))).mean((2, 3)))

def build():
    images = torch.randn(6, 3, 8, 8)
    return Small(), images[:1], {"inputs": images, "labels": torch.arange(6) % 4}
"""


def make(folder: Path) -> None:
    """Write all seeds to the new folder ``folder``."""
    folder.mkdir(parents=True)
    (folder / "small.py").write_text(MODEL)
    pipeline.export(source.load(f"{folder / 'small.py'}:build"), pipeline.Options(), folder / "bundle")
    loaded = bundles.load(folder / "bundle")
    with targets.connect("host", {}) as host:
        result = profiles.profile(loaded, host, profiles.Options("host", runs=7, warmup=1))
        records.save(folder / "records.json", result.records, result.not_run)
    of_bundle(folder)
    try:
        emulator = toolchain.ready()
    except MissingError as error:
        print(f"the native runner's output is not fuzzed: {error}")
    else:
        _run(folder / "native", _job(loaded, "tflite"), emulator.runner("cortex-a76"))


def of_bundle(folder: Path) -> None:
    """What is in ``folder / "bundle"``, what the worker wrote of it, and a bundle of all that a report reads."""
    loaded = bundles.load(folder / "bundle")
    for artifact in loaded.manifest.artifacts:
        path = loaded.path(artifact.file)
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, folder / path.name)
    for format_ in ("onnx", "tflite"):
        _run(folder / f"worker-{format_}", _job(loaded, format_), [sys.executable, str(job_folder.WORKER)])
    report = folder / "report"
    shutil.copytree(folder / "bundle", report)
    shutil.rmtree(report / "attention", ignore_errors=True)  # the bundle's own maps, of the example alone
    measured = records.load(folder / "records.json")
    records.save(report / "records.json", measured.records[:2], measured.not_run)  # a picture of each takes its time
    digits = replace(source.load("digits"), evaluation=None)
    understood = understand(digits.module, tuple(digits.inputs.values()))
    maps = attention_maps.write(digits, understood, {"photograph": Case("the example", digits.inputs)}, report)
    content = json.loads((report / bundles.MANIFEST).read_bytes())
    (report / bundles.MANIFEST).write_text(json.dumps(content | {"attention": asdict(maps)}))


def _job(bundle: bundles.Bundle, format_: str) -> Job:
    artifact = next(artifact for artifact in bundle.manifest.artifacts if artifact.format == format_)
    inputs = golden_cases(bundle)["example"].inputs_for(artifact)
    return Job(bundle.path(artifact.file), inputs, warmup=1, runs=7)


def _run(folder: Path, job: Job, command: list[str]) -> None:
    folder.mkdir()
    job_folder.write(folder, job)
    if stopped := job_folder.start([*command, folder], environment=os.environ):
        raise RuntimeError(f"{command} stopped: {stopped}")
    # The inputs of the runner are no outputs.
    input_files = {"job.txt", f"artifact{job.artifact.suffix}", *(f"input-0-{i}.npy" for i in range(len(job.inputs)))}
    for name in input_files:
        (folder / name).unlink()
    assert np.load(folder / "first-0.npy").size
