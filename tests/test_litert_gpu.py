"""LiteRT's GPU accelerator, which is in the package, on Chromium's software Vulkan: no phone needed. As a backend of
parity, layers and the self-test; and what it takes of a file."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
from conftest import Answer

from edgeattn import targets
from edgeattn.bundle import golden, manifest, records
from edgeattn.errors import ArtifactError, MissingError
from edgeattn.export import pipeline, source
from edgeattn.runtimes import RUNTIMES, litert_gpu

Command = Callable[..., Answer]
DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
RUNTIME = RUNTIMES.get("litert_gpu")
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


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A bundle of a model in TFLite alone, exported once."""
    made: dict[str, Path] = {}

    def bundle(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("gpu") / name
            options = pipeline.Options(formats=("tflite",))
            assert pipeline.export(source.load(*MODELS[name]), options, made[name]).report.passed
        return made[name]

    return bundle


def artifact(folder: Path) -> Path:
    return next(folder.glob("*.tflite"))


@pytest.mark.parametrize("name", MODELS)
def test_every_operator_is_on_it_and_the_model_is_the_same(
    name: str, bundles: Callable[[str], Path], edgeattn: Command
) -> None:
    folder = bundles(name)
    answer = edgeattn("parity", folder, "--backend", "litert gpu, fp32", "--json")
    assert answer.code == 0, answer.err
    ran = [row for row in answer.document["rows"] if row["hop"] == "conversion"]
    assert {row["runtime"] for row in ran} == {"litert gpu, fp32"}
    assert any(row["case"].startswith("example, again after") for row in ran)  # some drivers are right once only
    limits = ("--max-fallback", "gpu=0", "--max-partitions", 1)
    answer = edgeattn("inspect", artifact(folder), *limits, "--json")
    assert answer.code == 0, answer.err
    shares = {share["backend"]: share for share in answer.document["backends"]}
    assert list(shares) == ["litert (XNNPACK)", "litert gpu, fp32"]
    assert shares["litert gpu, fp32"]["taken"] == shares["litert (XNNPACK)"]["taken"] > 5
    assert shares["litert (XNNPACK)"]["partitions"] == 1
    assert "SwiftShader" in shares["litert gpu, fp32"]["note"]


def test_its_own_arithmetic_is_judged_as_half_precision(bundles: Callable[[str], Path], edgeattn: Command) -> None:
    """Chromium's driver has none of 16 bits, and it is said that nothing was computed in it."""
    answer = edgeattn("parity", bundles("attention"), "--backend", "litert gpu", "--json")
    assert answer.code == 0, answer.err
    assert any("in litert gpu: it computes in fp32" in warning for warning in answer.document["warnings"])
    folder = bundles("attention")
    loaded = manifest.load(folder)
    (made,) = loaded.manifest.artifacts
    example = next(iter(golden.golden_cases(loaded).values()))
    outputs = []
    for variant in RUNTIME.variants:
        with RUNTIME.open(artifact(folder), variant=variant) as session:
            outputs.append(session.run(example.inputs_for(made))["y"])
            assert ("it computes in fp32" in session.note) == (variant == litert_gpu.CHOSEN)
    assert np.array_equal(*outputs)


def test_a_damaged_file_is_another_model_there_too(
    bundles: Callable[[str], Path], tmp_path: Path, edgeattn: Command
) -> None:
    shutil.copytree(bundles("attention"), tmp_path / "b")
    answer = edgeattn("parity", tmp_path / "b", "--self-test", "--backend", "litert gpu, fp32", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["kill_rates"] == {"tflite": 1.0}
    assert len(answer.document["trials"]) > 20
    assert {trial["runtime"] for trial in answer.document["trials"]} == {"litert gpu, fp32"}


def test_the_layers_inside(bundles: Callable[[str], Path], edgeattn: Command) -> None:
    answer = edgeattn("parity", bundles("mobilevitv2"), "--layers", "--backend", "litert gpu, fp32", "--json")
    assert answer.code == 0, answer.err
    [depth] = answer.document["layers"]["depths"]
    assert depth["runtime"] == "litert_gpu"
    assert len(depth["rows"]) > 100


def test_what_it_leaves_is_said_in_its_own_words(five: Path, edgeattn: Command) -> None:
    answer = edgeattn("inspect", five, "--backends", "--json")
    assert answer.code == 0, answer.err
    xnnpack, gpu = answer.document["backends"]
    assert {left["kind"] for left in xnnpack["left"]} == {"CUMSUM", "ARG_MAX"}
    assert {left["reason"] for left in gpu["left"]} == {"Tensor dimensions must be less than 5.", "Unknown layout."}
    assert {left["kind"] for left in gpu["left"]} == {"MUL", "RESHAPE", "REDUCE_MAX"}
    total = sum(answer.document["operators"].values())
    assert all(share["taken"] + len(share["left"]) == total for share in (xnnpack, gpu))
    text = edgeattn("inspect", five, "--backends").out
    assert "Who runs what" in text
    assert "Tensor dimensions must be less than 5." in text


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--max-fallback", "gpu=0"), 1, "litert gpu, fp32 leaves 4 operators, 0 allowed"),
        (("--max-fallback", "gpu=4"), 0, ""),
        (("--max-fallback", "npu=0"), 1, "no backend with 'npu' in its name could be asked"),
        (("--max-partitions", 0), 1, "litert (XNNPACK) makes 1 partitions, 0 allowed"),
        (("--max-fallback", "gpu"), 2, "takes NAME=N"),
        (("--backend", "nosuch"), 2, "there is no backend 'nosuch'; choose from"),
    ],
)
def test_gates(options: tuple[object, ...], code: int, said: str, five: Path, edgeattn: Command) -> None:
    answer = edgeattn("inspect", five, *options)
    assert answer.code == code, answer.err
    assert said in answer.out + answer.err


def test_a_file_that_is_partly_on_it_runs_and_says_so(five: Path) -> None:
    x = np.random.default_rng(0).random((1, 8, 8, 8), np.float32)
    with RUNTIME.open(five) as session, RUNTIMES.get("litert").open(five) as cpu:
        name = next(iter(session.signature.inputs))
        on_gpu, on_cpu = session.run({name: x}), cpu.run({name: x})
        assert session.note == "4 operators are not on the GPU"
    assert on_gpu.keys() == on_cpu.keys()
    assert all(np.allclose(on_gpu[each], on_cpu[each], rtol=1e-5) for each in on_cpu)


def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, made_bundle: Path, edgeattn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"\0" * 100)
    with pytest.raises(ArtifactError, match="accelerator refuses"), RUNTIME.open(tmp_path / "bad.tflite"):
        pass
    answer = edgeattn("parity", made_bundle, "--backend", "litert gpu", "--target", "host")
    assert (answer.code, "--backend is of this machine" in answer.err) == (2, True)
    (tmp_path / "none.json").write_text("{}")
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "none.json"))
    with pytest.raises(MissingError, match="there is no GPU"), RUNTIME.open(artifact(made_bundle)):
        pass
    answer = edgeattn("parity", made_bundle, "--backend", "litert gpu")
    assert answer.code == 3
    assert "apt-get install -y chromium" in answer.err
    monkeypatch.delenv("VK_ICD_FILENAMES")
    monkeypatch.setattr(litert_gpu, "_SOFTWARE", tmp_path / "nothing")
    monkeypatch.setattr(litert_gpu, "_DRIVERS", ())
    assert "there is no Vulkan driver" in (RUNTIME.unavailable() or "")
    monkeypatch.setattr(litert_gpu, "find_library", lambda name: None)
    assert "apt-get install -y libvulkan1" in (RUNTIME.unavailable() or "")


def test_a_driver_that_dies_is_one_sentence(made_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text("import os; os.abort()")
    monkeypatch.setattr(litert_gpu._litert_gpu_child, "__file__", str(child))
    with pytest.raises(ArtifactError, match="ended the process that ran"), RUNTIME.open(artifact(made_bundle)):
        pass


def test_a_driver_that_hangs_is_one_sentence(
    made_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    child = tmp_path / "child.py"
    child.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(litert_gpu._litert_gpu_child, "__file__", str(child))
    monkeypatch.setattr(litert_gpu, "_LIMIT_S", 1)
    with pytest.raises(ArtifactError, match="did not come to an end"), RUNTIME.open(artifact(made_bundle)):
        pass


def test_it_runs_only_where_it_is_asked_for(made_bundle: Path, edgeattn: Command) -> None:
    answer = edgeattn("parity", made_bundle, "--json")
    assert not any("gpu" in row["runtime"] for row in answer.document["rows"])
    assert not any("gpu" in entry["runtime"] for entry in answer.document["not_run"])


def test_the_child_says_what_is_wrong_and_ends() -> None:
    script = litert_gpu._litert_gpu_child.__file__
    done = subprocess.run([sys.executable, script, "nosuch.tflite", "fp32"], capture_output=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout[8:])["error"]


def test_it_is_measured_where_it_is_asked_for(
    bundles: Callable[[str], Path], tmp_path: Path, edgeattn: Command
) -> None:
    out, folder = tmp_path / "r.json", bundles("attention")
    chosen = ("--runtime", "litert", "--runtime", "litert gpu", "--runtime", "litert gpu, fp32")
    answer = edgeattn("profile", folder, *chosen, "--runs", 3, "--warmup", 1, "--out", out)
    assert answer.code == 0, answer.err
    saved = {record.runtime: record for record in records.load(out).records}
    assert list(saved) == ["litert", "litert gpu", "litert gpu, fp32"]
    assert all(record.parity and record.parity.passed for record in saved.values())
    assert not any("SwiftShader" in warning for warning in saved["litert"].untrusted)
    assert any("no GPU's" in warning for warning in saved["litert gpu"].untrusted)
    assert "litert gpu" not in edgeattn("profile", folder, "--runs", 3, "--warmup", 1).out


def test_what_is_not_on_it_alone_is_not_measured_on_it(five: Path) -> None:
    x = np.random.default_rng(0).random((1, 8, 8, 8), np.float32)
    with targets.connect("host", {}) as host, pytest.raises(ArtifactError, match="it is not on the GPU alone"):
        host.run(targets.Job(five, {"args_0": x}, runs=1, runtime=litert_gpu.FP32))


def test_the_report_says_who_runs_what(bundles: Callable[[str], Path], tmp_path: Path, edgeattn: Command) -> None:
    for name in ("r.md", "r.html", "r.json"):
        answer = edgeattn("report", bundles("attention"), "--backends", "--no-layers", "--out", tmp_path / name)
        assert answer.code == 0, answer.err
    page = (tmp_path / "r.md").read_text()
    assert "On the GPU, and on the CPU" in page
    assert "litert gpu, fp32" in page
    assert "Left to others" not in page
    assert "On the GPU" not in (edgeattn("report", bundles("attention"), "--out", tmp_path / "o.md").out)
    assert "On the GPU" not in (tmp_path / "o.md").read_text()


def test_a_driver_that_dies_costs_its_own_row(
    made_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, edgeattn: Command
) -> None:
    child = tmp_path / "child.py"
    child.write_text("import os; os.abort()")
    monkeypatch.setattr(litert_gpu._litert_gpu_child, "__file__", str(child))
    answer = edgeattn("parity", made_bundle, "--backend", "litert gpu", "--backend", "onnxruntime", "--json")
    assert answer.code == 1
    rows = {row["runtime"]: row for row in answer.document["rows"] if row["hop"] == "conversion"}
    assert rows["onnxruntime"]["passed"]
    assert not rows["litert gpu"]["passed"]
    assert "ended the process" in rows["litert gpu"]["reason"]
