"""The page of ``edgeattn phone`` on WebGPU, in Chromium on an adapter in software: who ran what, and how it is said."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from phone_client import serving
from phone_page import PHONE, done, launched, playwright
from playwright.sync_api import Browser, Playwright, Route

from edgeattn.bundle import records
from edgeattn.bundle.records import NotRun, Record
from edgeattn.export import pipeline, source

# A fixture of another file.
__all__ = ["playwright"]

# WebGPU without a GPU: for function only, its times mean nothing.
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
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


@pytest.fixture(scope="module")
def gpu_chromium(playwright: Playwright) -> Iterator[Browser]:
    with launched(playwright, *SOFTWARE_GPU) as browser:
        yield browser


@dataclass(frozen=True)
class OnGpu:
    """What came of the tasks on WebGPU: the rows of the page, the records by runtime, and the exit code."""

    rows: str
    records: dict[str, Record]
    not_run: tuple[NotRun, ...]
    code: int


def on_webgpu(browser: Browser, made: Path, out: Path, **changed: tuple[str, str]) -> OnGpu:
    """``changed``: scripts of the page by name, with a text in each that is replaced by another."""
    with serving(made, "--out", out, "--wait", 1, "--runs", 2) as server:
        with browser.new_context(**PHONE) as context:
            context.route("**/plan.json", webgpu_alone)
            for name, (text, other) in changed.items():
                context.route(f"**/page/{name}.js", partial(replaced, text=text, other=other))
            page = context.new_page()
            page.goto(server.url)
            done(page)
            rows = page.inner_text("#tasks")
        code, _, _ = server.wait()
    found = records.load(out)
    return OnGpu(rows, {record.runtime: record for record in found.records}, found.not_run, code)


def webgpu_alone(route: Route) -> None:
    response = route.fetch()
    plan = response.json()
    route.fulfill(response=response, json={**plan, "tasks": [t for t in plan["tasks"] if t["backend"] == "webgpu"]})


def replaced(route: Route, text: str, other: str) -> None:
    response = route.fetch()
    script = response.text()
    assert script.count(text) == 1
    route.fulfill(response=response, body=script.replace(text, other))


# Nodes of the graph that onnxruntime makes of the file, and the operators of LiteRT's file, as on the host.
@pytest.mark.parametrize(
    ("made", "onnx", "tflite"), [("made_bundle", 13, 11), ("made_mobilevit", 456, 478), ("made_digits", 410, 435)]
)
def test_all_of_it_is_on_webgpu(
    made: str, onnx: int, tflite: int, request: pytest.FixtureRequest, gpu_chromium: Browser, tmp_path: Path
) -> None:
    """On Chromium's adapter in software, which shows that the kernels are there and right, and no time."""
    found = on_webgpu(gpu_chromium, request.getfixturevalue(made), tmp_path / "r.json")
    assert found.code == 0
    assert {runtime: record.device.details["accelerated"] for runtime, record in found.records.items()} == {
        "onnxruntime-web webgpu": f"all {onnx} operators on webgpu",
        "litert.js webgpu": f"all {tflite} operators on webgpu",
    }
    for count in (onnx, tflite):
        assert f"{count} of {count} operators on WebGPU" in found.rows
    assert "CPU" not in found.rows
    for record in found.records.values():
        assert record.parity
        assert record.parity.passed
        assert "swiftshader" in record.device.details["adapter"]
        # Neither the CPU nor another output in the last run; that the driver is no GPU is said.
        assert [warning[:30] for warning in record.untrusted] == [
            "its GPU is a driver in softwar",
            "only 2 samples: at least 20 ar",
        ]


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
    found = on_webgpu(gpu_chromium, made_xor, tmp_path / "q.json", onnxruntime=quiet)
    assert (
        found.records["onnxruntime-web webgpu and CPU"].device.details["accelerated"]
        == "not all operators on webgpu, others on the CPU"
    )
    assert "⚠ some operators on the CPU" in found.rows
    broken = ("log.lines = [];", "throw new Error();")
    found = on_webgpu(gpu_chromium, made_xor, tmp_path / "b.json", onnxruntime=broken)
    assert "does not say whether all" in found.records["onnxruntime-web webgpu or CPU"].untrusted[0]
    assert "⚠ ONNX Runtime does not say whether all operators ran on WebGPU" in found.rows


def test_a_driver_that_is_right_once(made_bundle: Path, gpu_chromium: Browser, tmp_path: Path) -> None:
    """It goes on giving the outputs of the first run, which other inputs find out."""
    once = (
        "outputs = await session.run(feeds[number]);",
        "outputs = outputs.y ? outputs : await session.run(feeds[0]);",
    )
    found = on_webgpu(gpu_chromium, made_bundle, tmp_path / "r.json", onnxruntime=once)
    assert found.code == 1
    wrong, good = found.records["onnxruntime-web webgpu"].parity, found.records["litert.js webgpu"].parity
    assert wrong
    assert not wrong.passed
    assert wrong.reason.startswith("y of the run of another case: ")
    assert good
    assert good.passed
