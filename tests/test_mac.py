"""The Mac and the iPhone, without either: coremltools itself runs, on stand-ins for what only Apple has."""

import asyncio
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import apple
import mil_programs
import numpy as np
import pytest
from conftest import Answer

from edgeattn import targets
from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.bundle.golden import golden_cases
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError, BadInputError, MissingError, TargetError
from edgeattn.formats import FORMATS
from edgeattn.parity.check import verify
from edgeattn.profile import run as profile
from edgeattn.profile.record import record
from edgeattn.report.content import Judged
from edgeattn.report.results import result
from edgeattn.runtimes import backends
from edgeattn.runtimes.coreml import UNITS
from edgeattn.targets import Job, iphone
from edgeattn.targets._apple import coreml, worker
from edgeattn.targets._runner import job_folder

Command = Callable[..., Answer]
PACKAGE = "attention-fp32.mlpackage"


@pytest.fixture
def job(made_bundle: Path) -> Job:
    loaded = bundles.load(made_bundle)
    artifact = next(a for a in loaded.manifest.artifacts if a.file.path == PACKAGE)
    return Job(made_bundle / PACKAGE, golden_cases(loaded)["example"].inputs_for(artifact), warmup=1, runs=3)


@pytest.fixture
def expected(job: Job) -> Arrays:
    return apple.predict(job.artifact, job.inputs)


@pytest.fixture
def darwin(made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(apple, "ORIGINAL", [made_bundle / PACKAGE])


@pytest.fixture
def framework(darwin: None, monkeypatch: pytest.MonkeyPatch) -> type[apple.Framework]:
    """Core ML below coremltools, and the worker in this process, where the stand-in is."""
    from coremltools.models import compute_plan, model

    monkeypatch.setattr(model, "_MLModelProxy", apple.Framework)
    monkeypatch.setattr(model, "_macos_version", lambda: (15, 0))
    monkeypatch.setattr(compute_plan, "_MLModelProxy", apple.Framework)

    def start(command: Sequence[str | Path], *, environment: Mapping[str, str]) -> str:
        assert list(command[:3]) == [sys.executable, "-m", "edgeattn.targets._apple.worker"]
        codes = [worker.main([str(folder)]) for folder in command[3:]]
        return "exit code 1" if any(codes) else ""

    monkeypatch.setattr(job_folder, "start", start)
    return apple.Framework


@pytest.mark.parametrize("name", ["mac", "iphone"])
def test_elsewhere_it_says_so(name: str, edgeattn: Command, made_bundle: Path) -> None:
    answer = edgeattn("profile", made_bundle, "--target", name)
    assert answer.code == 3
    assert answer.err.startswith(f"edgeattn: --target {name} needs macOS")
    assert len(answer.err.splitlines()) == 1
    assert "not run on hardware" in edgeattn("doctor", "--quick", "--json").document["targets"][name]


@pytest.mark.parametrize("runtime", UNITS)
def test_every_compute_unit_of_the_mac(
    runtime: str, job: Job, expected: Arrays, framework: type[apple.Framework]
) -> None:
    unit = apple.UNITS[UNITS[runtime]]
    with targets.connect("mac", {}) as mac:
        assert runtime in mac.runtimes["coreml"]
        seen = mac.run(replace(job, runtime=runtime))
    assert (seen.runtime, seen.origin, seen.stopped, len(seen.samples_ns)) == (runtime, "host", "", 3)
    assert all(sample > 0 for sample in seen.samples_ns)
    assert seen.peak_memory_bytes
    for outputs in (seen.first, seen.last):
        np.testing.assert_array_equal(outputs["y"], expected["y"])
    assert f"{unit} " in seen.operators_note
    assert coreml.ESTIMATE in seen.operators_note
    places = {operator.unit for operator in seen.operators if operator.kind != "softmax"}
    assert places == {unit}
    assert {operator.unit for operator in seen.operators if operator.kind == "softmax"} == {"CPU"}
    assert not any(operator.kind == "const" for operator in seen.operators)
    assert sum(operator.median_ns for operator in seen.operators) == pytest.approx(apple.PREDICT_NS, rel=0.01)
    # Kinds and names are those of the file.
    assert {op.name for op in seen.operators} <= {op.name for op in FORMATS.get("coreml").read(job.artifact).ops}


def test_operators_stand_as_in_the_package(tmp_path: Path) -> None:
    def build(mb: Any, given: Any) -> Any:
        return mb.relu(x=mb.transpose(x=given.x, perm=[1, 0], name="turned"), name="y")

    path = mil_programs.save(tmp_path / "p.mlpackage", {"x": np.zeros((2, 3), np.float32)}, build)
    given = [records.Operator("y", "relu", "", 2), records.Operator("turned", "transpose", "", 1)]
    turned, y = coreml.in_package_order(given, path)
    assert (turned.name, turned.layout, y.layout) == ("turned", True, False)


def test_a_compute_unit_has_one_name(job: Job, framework: type[apple.Framework]) -> None:
    """So that a report finds by it what parity on this Mac said of the runtime that was measured."""
    labels = [backend.label for backend in backends("coreml")]
    with targets.connect("mac", {}) as mac:
        assert {"mil_reference", *mac.runtimes["coreml"]} == set(labels)
        seen = mac.run(replace(job, runtime="coreml, CPU and Neural Engine"))
    subject = records.Subject("a.mlpackage", "0", 1, "coreml", "fp32")
    judged = [Judged("m", "a", "0", 1, label, label == seen.runtime, "", 1, "", 1.0, 1.0) for label in labels]
    assert result(record(seen, job, subject, "mac"), tuple(judged)).same_model is True


def test_a_mark_from_the_package_stays(
    bundle: Path, framework: type[apple.Framework], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gather by constants is a layout op, which its kind alone does not tell."""
    read = FORMATS.get("coreml").read

    def gathering(path: Path) -> Any:
        graph = read(path)
        return replace(graph, ops=tuple(replace(op, kind="gather", constant_indices=True) for op in graph.ops))

    with targets.connect("mac", {}) as mac:
        loaded, options = bundles.load(bundle), profile.Options("mac", runs=1, runtimes=("coreml, all",))
        monkeypatch.setattr(FORMATS.get("coreml"), "read", gathering)
        (record,) = profile.profile(loaded, mac, options).records
    assert record.operators
    assert all(operator.layout for operator in record.operators)


def test_everything_on_the_cpu(job: Job, framework: type[apple.Framework]) -> None:
    with targets.connect("mac", {}) as mac:
        seen = mac.run(job)
    assert seen.operators_note.startswith("compute plan: CPU ")
    assert "(100% of the estimated cost); times by operator are coremltools' estimate" in seen.operators_note


def test_an_old_mac_has_no_plan(job: Job, framework: type[apple.Framework], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framework, "plans", False)
    with targets.connect("mac", {}) as mac:
        seen = mac.run(job)
    assert len(seen.samples_ns) == 3
    assert seen.operators_note.startswith("no compute plan, which needs macOS 14.4 or later: MLComputePlan is only")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"newest_specification": 6}, "has version 7 but the Core ML framework version installed only supports"),
        ({"refuses": "compiler error: no such op"}, "compiler error: no such op"),
    ],
)
def test_a_package_that_core_ml_refuses(
    changed: dict[str, Any], said: str, job: Job, framework: type[apple.Framework], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in changed.items():
        monkeypatch.setattr(framework, name, value)
    with targets.connect("mac", {}) as mac, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coremltools' own; the worker's go nowhere
        with pytest.raises(ArtifactError, match=said):
            mac.run(job)


def test_the_worker_starts_as_a_process(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here there is no Core ML, and it is coremltools that says so; in turn, the others run all the same."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    other = replace(job, artifact=job.artifact.with_suffix(".onnx"))
    real = job_folder.start
    folders: list[Path] = []

    def start(command: Sequence[Any], *, environment: Mapping[str, str]) -> str:
        folders.extend(command[3:])
        return real(command, environment={**environment, "PYTHONPATH": str(Path(__file__).parent.parent)})

    monkeypatch.setattr(job_folder, "start", start)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda prefix: nullcontext(tmp_path))
    refused = "Core ML refuses the package: Model prediction is only supported on macOS"
    with targets.connect("mac", {}) as mac, pytest.raises(ArtifactError, match=refused):
        mac.run_interleaved([other, job])
    here = records.Device("here", {})
    assert len(job_folder.read(folders[0], other, origin="host", device=here, stopped="").samples_ns) == 3


def test_the_mac_profiles_all_formats(
    edgeattn: Command, made_bundle: Path, framework: type[apple.Framework], tmp_path: Path
) -> None:
    answer = edgeattn("profile", made_bundle, "--target", "mac", "--runs", 3, "--out", tmp_path / "r.json")
    assert answer.code == 0, answer.err
    found = records.load(tmp_path / "r.json").records
    assert sorted(record.runtime for record in found) == sorted([*UNITS, "litert", "onnxruntime"])
    bundles.load(made_bundle)  # its hashes still hold


@pytest.mark.parametrize("wrong_on", ["", "GPU"])
def test_parity_on_every_compute_unit(
    wrong_on: str, made_bundle: Path, framework: type[apple.Framework], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framework, "wrong_on", wrong_on)
    with targets.connect("mac", {}) as mac:
        report = verify(bundles.load(made_bundle), connection=mac)
    assert report.passed is not bool(wrong_on)
    found: dict[str, bool] = {}
    for row in report.rows:
        if row.candidate == PACKAGE and row.hop == "conversion":
            found[row.runtime] = found.get(row.runtime, True) and row.passed
    assert found == {f"{name} on mac": not wrong_on or "GPU" not in name for name in UNITS}


@pytest.fixture
def tools(darwin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> apple.Tools:
    """Xcode's tools with one phone; coremltools' own Python above them."""
    from coremltools.models.ml_program.experimental import async_wrapper, remote_device

    found = apple.Tools(apple.phone())
    monkeypatch.setattr(remote_device, "_subprocess", found)
    for name in ("xcodebuild", "devicectl"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DEVELOPMENT_TEAM", "ABCDE12345")
    # The wheels for Linux lack Apple's project of the app.
    (tmp_path / "modelrunner/ModelRunner.xcworkspace").mkdir(parents=True)
    builder = remote_device._ModelRunnerAppBuilder
    monkeypatch.setattr(builder, "_get_project_path", lambda: tmp_path / "modelrunner")
    compiler = create_autospec(async_wrapper.compile_model, side_effect=apple.compile_package)
    monkeypatch.setattr(async_wrapper, "compile_model", compiler)
    wrapper = async_wrapper.RemoteMLModelAsyncWrapper

    async def plan(self: Any) -> Any:
        return apple.plan(apple.ORIGINAL[0], self.compute_units.name)

    monkeypatch.setattr(wrapper, "retrieve_compute_plan", plan)
    # It asks twenty times, half a second apart.
    monkeypatch.setattr(remote_device._asyncio, "sleep", _at_once)
    return found


_sleep = asyncio.sleep


async def _at_once(delay: float) -> None:
    await _sleep(0)


def test_an_iphone(job: Job, expected: Arrays, tools: apple.Tools) -> None:
    assert iphone.IPhone().addresses() == ("00-1",)
    jobs = [Job(job.artifact, job.inputs, None, 2, runtime=runtime, operators=True) for runtime in UNITS]
    with targets.connect("iphone:Ada's iPhone", {}) as phone:
        found = phone.run_interleaved(jobs[1:3])
        assert tools.running
    assert not tools.running
    assert any("DEVELOPMENT_TEAM=ABCDE12345" in command for command in tools.commands)
    for seen, unit in zip(found, ("GPU", "Neural Engine"), strict=True):
        assert (seen.origin, seen.device.name, seen.runtime_version) == ("phone", "Ada's iPhone", "iOS 18.5 (22F76)")
        assert seen.samples_ns == (apple.PREDICT_NS,) * 2
        assert (seen.load_ns, seen.first_run_ns, seen.warmup) == (apple.LOAD_NS, apple.PREDICT_NS, 2)
        for outputs in (seen.first, seen.last):
            np.testing.assert_array_equal(outputs["y"], expected["y"])
        assert {operator.unit for operator in seen.operators} == {unit, "CPU"}
        assert f"{unit} " in seen.operators_note
        assert "not measured" in seen.operators_note


def test_an_iphone_from_the_command_line(
    edgeattn: Command, made_bundle: Path, tools: apple.Tools, tmp_path: Path
) -> None:
    answer = edgeattn("profile", made_bundle, "--target", "iphone", "--runs", 2, "--out", tmp_path / "r.json")
    assert answer.code == 0, answer.err
    saved = records.load(tmp_path / "r.json")
    assert len(saved.not_run) == len(FORMATS.names) - 1
    found = saved.records
    assert [record.runtime for record in found] == list(UNITS)
    assert all(record.origin == "phone" and record.parity and record.parity.passed for record in found)
    assert "iphone (Ada's iPhone) does not run onnx" in answer.out


def test_a_phone_that_is_lost_keeps_its_samples(job: Job, tools: apple.Tools) -> None:
    with targets.connect("iphone", {}) as phone:
        tools.lost_after = tools.predictions + 5  # the first run, a warm-up, two samples, and one whose answer is lost
        seen = phone.run(job)
    assert len(seen.samples_ns) == 2
    assert "The device was disconnected.; its app has ended" in seen.stopped
    assert seen.stopped.endswith("after 2 of 3 runs")
    assert (seen.last, seen.operators_note) == ({}, "no compute plan: the run stopped before it")


def test_an_interrupt_keeps_the_samples_of_the_phone(
    job: Job, tools: apple.Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = iphone._IPhone._predict

    async def predict(self: Any, session: Any, *refusal: Any) -> Any:
        if session.samples:
            raise asyncio.CancelledError  # what asyncio makes of Ctrl-C
        return await real(self, session, *refusal)

    monkeypatch.setattr(iphone._IPhone, "_predict", predict)
    with targets.connect("iphone", {}) as phone:
        seen = phone.run(job)
    assert seen.stopped == "interrupted, after 1 of 3 runs"


@pytest.mark.parametrize(
    ("phones", "address", "error", "said"),
    [
        ([], "", MissingError, "no iPhone is attached$"),
        ([apple.phone()], "Bob", MissingError, "no iPhone 'Bob' is attached; this Mac knows Ada's iPhone"),
        ([apple.phone(state="disconnected")], "", MissingError, "it is disconnected: attach it by cable, unlock it"),
        ([apple.phone(mode="disabled")], "", MissingError, "its developer mode is off"),
        ([apple.phone(ios="16.7.2")], "", MissingError, "it has iOS 16.7.2, and coremltools' app wants 17 or later"),
        ([apple.phone(), apple.phone(name="B", udid="2")], "", BadInputError, r"iPhone \(00-1\), iphone:B"),
    ],
)  # fmt: skip
def test_which_iphone(phones: list[Any], address: str, error: type[Exception], said: str, tools: apple.Tools) -> None:
    tools.phones = phones
    with pytest.raises(error, match=said), iphone.TARGET.connect(address, {}):
        pass


@pytest.mark.parametrize(
    ("part", "says", "said"),
    [
        ("list devices", "ERROR: no CoreDevice", "cannot list iPhones: ERROR: no CoreDevice"),
        ("xcodebuild", "", "cannot be built, signed, installed or started on Ada's iPhone"),
        ("install app", "ERROR: not trusted", "ERROR: not trusted; unlock the phone, sign in to Xcode"),
    ],
)
def test_what_xcode_refuses(part: str, says: str, said: str, tools: apple.Tools) -> None:
    tools.fails[part] = says
    with pytest.raises(MissingError, match=said), iphone.TARGET.connect("", {}):
        pass


def test_an_app_without_a_signature(tools: apple.Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEVELOPMENT_TEAM")
    with pytest.raises(MissingError, match="set DEVELOPMENT_TEAM"), iphone.TARGET.connect("", {}):
        pass


def test_a_mac_without_xcode(tools: apple.Tools, edgeattn: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "there is no xcodebuild; install Xcode" in (iphone.TARGET.unavailable() or "")


@pytest.mark.parametrize(
    ("method", "error", "said"),
    [
        ("Load", ArtifactError, "Core ML on Ada's iPhone refuses attention-fp32.mlpackage: too new"),
        ("Prediction", BadInputError, "attention-fp32.mlpackage did not run on Ada's iPhone: too new"),
    ],
)
def test_what_the_phone_refuses(method: str, error: type[Exception], said: str, job: Job, tools: apple.Tools) -> None:
    tools.refuses[method] = "too new"
    with targets.connect("iphone", {}) as phone, pytest.raises(error, match=said):
        phone.run(job)


def test_a_locked_phone(job: Job, tools: apple.Tools) -> None:
    with targets.connect("iphone", {}) as phone:
        tools.running = False  # the app could not be started
        tools.fails["device copy"] = "ERROR: the device is locked"
        with pytest.raises(TargetError, match="the device is locked; its app has ended: is the phone attached and unl"):
            phone.run(job)


def test_a_phone_without_a_plan(job: Job, tools: apple.Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    from coremltools.models.ml_program.experimental import async_wrapper

    async def plan(self: Any) -> Any:
        raise ValueError("not on iOS 17.0")

    monkeypatch.setattr(async_wrapper.RemoteMLModelAsyncWrapper, "retrieve_compute_plan", plan)
    with targets.connect("iphone", {}) as phone:
        seen = phone.run(job)
    assert len(seen.samples_ns) == 3
    assert seen.operators_note.startswith(
        "no compute plan, which needs iOS 17.4 and macOS 14.4 or later: not on iOS 17"
    )


def test_the_plan_says_who_runs_what(
    framework: type[apple.Framework], made_bundle: Path, edgeattn: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = edgeattn("inspect", made_bundle / PACKAGE, "--backends", "--json")
    assert answer.code == 0, answer.err
    shares = {share["backend"]: share for share in answer.document["backends"]}
    assert shares["coreml, CPU only"]["left"] == []
    for name in ("coreml, CPU and GPU", "coreml, CPU and Neural Engine", "coreml, all"):
        (left,) = shares[name]["left"]
        assert (left["kind"], left["reason"]) == ("softmax", "only the CPU supports it")
        assert shares[name]["taken"] == shares["coreml, CPU only"]["taken"] - 1
        assert shares[name]["partitions"] == 2
        assert "no trace" in shares[name]["note"]
    limits = ("--max-fallback", "Neural Engine=0", "--json")
    assert edgeattn("inspect", made_bundle / PACKAGE, *limits).code == 1
    monkeypatch.setattr(framework, "plans", False)
    answer = edgeattn("inspect", made_bundle / PACKAGE, "--backends", "--json")
    assert all(share["taken"] is None for share in answer.document["backends"])
    assert "has no compute plan" in answer.document["backends"][0]["note"]
