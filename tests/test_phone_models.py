"""The sample models on the page of ``edgeattn phone``: in three browsers at once, and on WebGPU."""

import re
from pathlib import Path

import pytest
from browsers import firefox, opened, webkit
from phone_client import serving
from phone_page import LIMIT_MS, ONE, WASM, chromium, gpu_chromium, on_webgpu, playwright, visit, ways
from playwright.sync_api import Browser

from edgeattn.bundle import records
from edgeattn.export import pipeline, source
from edgeattn.inspection.inspect import inspect

# Fixtures of another file.
__all__ = ["chromium", "gpu_chromium", "playwright"]

pytestmark = pytest.mark.usefixtures("phone_runtimes")


@pytest.fixture(scope="module")
def made_mobilevit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mobilevit") / "b"
    loaded = source.load("mobilevitv2", ["width=0.5", "image_size=128"])
    assert pipeline.export(loaded, pipeline.Options(formats=("onnx", "tflite")), out).report.passed
    return out


# WebKitGTK has neither shared memory nor relaxed SIMD.
BROWSERS = {"Chrome": (WASM, "relaxed"), "Firefox": (WASM, "relaxed"), "Safari": (ONE, "fixed")}


@pytest.mark.parametrize("made", ["made_bundle", "made_mobilevit", "made_digits"])
def test_three_browsers_at_once(made: str, request: pytest.FixtureRequest, chromium: Browser, tmp_path: Path) -> None:
    """On localhost: one thread and all, both runtimes, and each the model's outputs."""
    out = tmp_path / "r.json"
    with (
        serving(request.getfixturevalue(made), "--out", out, "--wait", 3, "--runs", 5) as server,
        opened(firefox(), server.url),
        opened(webkit(), server.url),
    ):
        visit(chromium, server.url)
        code, document, said = server.wait(LIMIT_MS / 1000)
    assert code == 0, said
    assert document["passed"]
    found = records.load(out)
    for name, (expected, simd) in BROWSERS.items():
        own = [record for record in found.records if name in record.device.name]
        assert ways(own) == expected, found.not_run
        for record in own:
            assert record.parity
            assert record.parity.passed
            assert record.origin == "browser"
            assert len(record.samples_ns) == 5
            assert record.load_ns
            assert record.first_run_ns
            assert record.warmup >= 5
            assert record.clock_step_ns
            assert min(record.samples_ns) * record.calls_per_sample > 19 * record.clock_step_ns
            assert record.device.details["secure_context"] == "true"
            assert record.device.details["cross_origin_isolated"] == "true"
            assert record.device.details["simd"] == (simd if record.runtime.startswith("litert") else "fixed")


@pytest.mark.parametrize("made", ["made_bundle", "made_mobilevit", "made_digits"])
def test_all_of_it_is_on_webgpu(
    made: str, request: pytest.FixtureRequest, gpu_chromium: Browser, tmp_path: Path
) -> None:
    """On Chromium's adapter in software, which shows that the kernels are there and right, and no time."""
    bundle: Path = request.getfixturevalue(made)
    found = on_webgpu(gpu_chromium, bundle, tmp_path / "r.json")
    assert found.code == 0
    assert sorted(found.records) == ["litert.js webgpu", "onnxruntime-web webgpu"]
    for record in found.records.values():
        operators = sum(inspect(bundle / record.subject.artifact).operators.values())
        whole = re.fullmatch(r"all (\d+) operators on webgpu", record.device.details["accelerated"])
        assert whole
        # onnxruntime counts the nodes of the graph that it makes of the file, and it fuses some of the file's.
        taken = int(whole[1])
        assert taken == operators if record.runtime.startswith("litert") else operators / 2 < taken <= operators + 10
        assert f"{taken} of {taken} operators on WebGPU" in found.rows
        assert record.parity
        assert record.parity.passed
        assert "swiftshader" in record.device.details["adapter"]
        # Neither the CPU nor another output in the last run; that the driver is no GPU is said.
        driver, few = record.untrusted
        assert "these times are no GPU's" in driver
        assert "only 2 samples" in few
    assert "CPU" not in found.rows
