"""The page of ``edgeattn phone`` on WebGPU, in Chromium on an adapter in software: who ran what, and how it is said."""

from pathlib import Path
from typing import Any

import pytest
from phone_page import gpu_chromium, on_webgpu, playwright
from playwright.sync_api import Browser

from edgeattn.export import pipeline, source

# Fixtures of another file.
__all__ = ["gpu_chromium", "playwright"]

# An operator that neither runtime's WebGPU has.
XOR = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.conv(x) * ((x > 0).int() ^ 2)

def build():
    torch.manual_seed(0)
    return Model(), torch.randn(1, 8, 8, 8)
"""
# Tensors with five axes: XNNPACK, which is the CPU, takes what LiteRT's accelerator leaves.
FIVE = """
import torch
from torch import nn

class Model(nn.Module):
    def forward(self, x):
        y = x.reshape(4, 2, 4, 2, 8)
        return (y * y.amax((0, 2), keepdim=True)).reshape(1, 8, 8, 8) + x

def build():
    return Model(), torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
"""


def exported(folder: Path, code: str, **options: Any) -> Path:
    (folder / "model.py").write_text(code)
    loaded = source.load(f"{folder / 'model.py'}:build")
    made = pipeline.export(loaded, pipeline.Options(**{"formats": ("onnx", "tflite"), **options}), folder / "b")
    assert made.report.passed
    return folder / "b"


pytestmark = pytest.mark.usefixtures("phone_runtimes")


@pytest.fixture(scope="module")
def made_xor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("xor"), XOR)


@pytest.fixture(scope="module")
def made_five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("five"), FIVE, formats=("tflite",), lowering=False)


def test_what_is_left_to_the_cpu_is_counted_and_said(made_xor: Path, gpu_chromium: Browser, tmp_path: Path) -> None:
    found = on_webgpu(gpu_chromium, made_xor, tmp_path / "r.json")
    onnx, tflite = found.records["onnxruntime-web webgpu and CPU"], found.records["litert.js webgpu and CPU"]
    assert len(found.records) == 2
    assert onnx.untrusted[0].startswith("1 of 11 operators ran on the CPU (BitwiseXor (")
    assert tflite.untrusted[0].startswith(
        "6 of 11 operators ran on the CPU (BITWISE_XOR: Not supported op BITWISE_XOR)"
    )
    assert onnx.device.details["accelerated"] == "10 of 11 operators on webgpu, others on the CPU"
    assert "ONNX Runtime · WebGPU and CPU" in found.rows
    assert "LiteRT · WebGPU and CPU" in found.rows
    assert "⚠ 1 of 11 operators on the CPU: BitwiseXor" in found.rows
    report = (tmp_path / "report.html").read_text()
    assert "onnxruntime-web webgpu and CPU" in report
    assert "1 of 11 operators ran on the CPU" in report


def test_fully_accelerated_by_the_cpu_is_not_believed(made_five: Path, gpu_chromium: Browser, tmp_path: Path) -> None:
    """LiteRT.js calls this file fully accelerated. Without JSPI it cannot run in parts."""
    found = on_webgpu(gpu_chromium, made_five, tmp_path / "r.json")
    assert list(found.records) == ["litert.js webgpu and CPU"]
    assert "Tensor dimensions must be less than 5." in found.records["litert.js webgpu and CPU"].untrusted[0]
    without = ("self.onmessage =", "delete WebAssembly.Suspending; self.onmessage =")
    found = on_webgpu(gpu_chromium, made_five, tmp_path / "w.json", worker=without)
    assert not found.records
    assert "this browser has no JSPI" in found.not_run[0].reason
    assert "operators on the CPU: MUL: Tensor dimensions" in found.not_run[0].reason


def test_a_runtime_that_does_not_say(made_xor: Path, gpu_chromium: Browser, tmp_path: Path) -> None:
    """Without a count onnxruntime still tells all from some; without any answer nothing is claimed."""
    quiet = ("logSeverityLevel: 0", "logSeverityLevel: 3")
    found = on_webgpu(gpu_chromium, made_xor, tmp_path / "q.json", only="onnxruntime-web", onnxruntime=quiet)
    assert (
        found.records["onnxruntime-web webgpu and CPU"].device.details["accelerated"]
        == "not all operators on webgpu, others on the CPU"
    )
    assert "⚠ some operators on the CPU" in found.rows
    broken = ("log.lines = [];", "throw new Error();")
    found = on_webgpu(gpu_chromium, made_xor, tmp_path / "b.json", only="onnxruntime-web", onnxruntime=broken)
    assert "does not say whether all" in found.records["onnxruntime-web webgpu or CPU"].untrusted[0]
    assert "⚠ ONNX Runtime does not say whether all operators ran on WebGPU" in found.rows


def test_a_driver_that_is_right_once(made_bundle: Path, gpu_chromium: Browser, tmp_path: Path) -> None:
    """It goes on giving the outputs of the first run, which other inputs find out."""
    once = (
        "outputs = await session.run(feeds[number]);",
        "outputs = outputs.y ? outputs : await session.run(feeds[0]);",
    )
    found = on_webgpu(gpu_chromium, made_bundle, tmp_path / "r.json", only="onnxruntime-web", onnxruntime=once)
    assert found.code == 1
    parity = found.records["onnxruntime-web webgpu"].parity
    assert parity
    assert not parity.passed
    assert parity.reason.startswith("y of the run of another case: ")
