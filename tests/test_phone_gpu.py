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


ASKED = "log.lines = [];"


@pytest.mark.parametrize(
    ("script", "runtime", "accelerated", "row"),
    [
        # No count, and onnxruntime still tells all from some.
        (
            ("logSeverityLevel: 0", "logSeverityLevel: 3"),
            "onnxruntime-web webgpu and CPU",
            "not all operators on webgpu, others on the CPU",
            "⚠ some operators on the CPU",
        ),
        # An error, and no end: nothing is claimed.
        *(
            (
                (ASKED, instead),
                "onnxruntime-web webgpu or CPU",
                "it does not say who ran what",
                "⚠ ONNX Runtime does not say whether all operators ran on WebGPU",
            )
            for instead in ("throw new Error();", "await new Promise(() => {});")
        ),
    ],
    ids=["no count", "an error", "no end"],
)
def test_a_runtime_that_does_not_say(
    script: tuple[str, str],
    runtime: str,
    accelerated: str,
    row: str,
    made_xor: Path,
    gpu_chromium: Browser,
    tmp_path: Path,
) -> None:
    soon = ("ANSWER_MS = 60_000", "ANSWER_MS = 2_000")
    out = tmp_path / "r.json"
    found = on_webgpu(gpu_chromium, made_xor, out, only="onnxruntime-web", onnxruntime=script, worker=soon)
    assert {name: record.device.details["accelerated"] for name, record in found.records.items()} == {
        runtime: accelerated
    }
    assert row in found.rows


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
