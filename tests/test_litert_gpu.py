"""Whole models on LiteRT's GPU accelerator, which is in the package, on Chromium's software Vulkan: no phone needed.

Asked for the GPU alone: with the CPU beside it, a model of which most runs on the CPU calls itself accelerated too.
"""

import json
import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeattn.bundle import golden, manifest
from edgeattn.export import pipeline, source

DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
# In a process of its own: a driver may end it.
RUN = """
import json, sys
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator
from ai_edge_litert.options import GpuOptions, Options
file, inputs, out = sys.argv[1], np.load(sys.argv[2]), sys.argv[3]
options = Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=True))
model = CompiledModel.from_file(file, options=options)
given, taken = model.create_input_buffers(0), model.create_output_buffers(0)
given[0].write(np.ascontiguousarray(inputs["x"]))
for _ in range(3):  # some drivers are right in the first run alone
    model.run_by_index(0, given, taken)
np.save(out, taken[0].read(int(inputs["size"]), np.float32))
print(json.dumps(bool(model.is_fully_accelerated())))
"""
MODELS = {
    "attention": ("attention", ["embed_dim=32", "pixels=4", "patches=16"]),
    "mobilevitv2": ("mobilevitv2", ["width=0.5", "image_size=64"]),
    "digits": ("digits", []),
}


@pytest.fixture(scope="module", autouse=True)
def vulkan() -> None:
    for missing, package in ((not DRIVER.exists(), "chromium"), (not find_library("vulkan"), "libvulkan1")):
        if missing:
            pytest.skip(f"install it: apt-get install -y {package}")


def on_the_gpu(
    artifact: Path, x: npt.NDArray[np.float32], size: int, folder: Path
) -> "subprocess.CompletedProcess[str]":
    np.savez(folder / "in.npz", x=x, size=size)
    command = [sys.executable, "-c", RUN, *map(str, (artifact, folder / "in.npz", folder / "out.npy"))]
    environment = os.environ | {"VK_ICD_FILENAMES": str(DRIVER)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("name", MODELS)
def test_every_operator_is_on_it_and_the_outputs_are_the_models(name: str, tmp_path: Path) -> None:
    model, arguments = MODELS[name]
    options = pipeline.Options(formats=("tflite",))
    made = pipeline.export(source.load(model, arguments), options, tmp_path / "b")
    assert made.report.passed
    bundle = manifest.load(tmp_path / "b")
    (artifact,) = bundle.manifest.artifacts
    example = next(iter(golden.golden_cases(bundle).values()))
    (x,), (expected,) = example.inputs_for(artifact).values(), example.oracle_for(artifact).values()
    done = on_the_gpu(bundle.folder / artifact.file.path, x, expected.size, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])
    found = np.load(tmp_path / "out.npy").reshape(-1)
    error = np.linalg.norm(found - expected.reshape(-1)) / np.linalg.norm(expected)
    assert error < 1e-5


def test_five_axes_are_refused(tmp_path: Path) -> None:
    """What the form with a dimension for each part of a map came to."""
    import litert_torch
    import torch
    from torch import Tensor, nn

    class Five(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.reshape(4, 2, 4, 2, 8) * x.reshape(4, 2, 4, 2, 8).amax((0, 2), keepdim=True)).reshape(1, 8, 8, 8)

    x = torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    litert_torch.convert(Five().eval(), (x,)).export(str(tmp_path / "five.tflite"))
    done = on_the_gpu(tmp_path / "five.tflite", x.numpy(), 512, tmp_path)
    assert done.returncode != 0 or not json.loads(done.stdout.splitlines()[-1])
