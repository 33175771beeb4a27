"""The protocol and the worker, on this machine: what comes back, and what is said when nothing does."""

import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Answer

from edgeattn import targets
from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.bundle.golden import golden_cases
from edgeattn.bundle.records import Device
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError, BadInputError, MissingError, TargetError
from edgeattn.parity.check import verify
from edgeattn.setups import SETUPS
from edgeattn.system.plugins import spelled
from edgeattn.targets import Job
from edgeattn.targets._runner import job_folder

Command = Callable[..., Answer]
HERE = Device("here", {})


def job_of(bundle: Path, suffix: str, **changes: int) -> Job:
    loaded = bundles.load(bundle)
    artifact = next(a for a in loaded.manifest.artifacts if a.file.path.endswith(suffix))
    return Job(loaded.path(artifact.file), golden_cases(loaded)["example"].inputs_for(artifact), **changes)


def run_worker(folder: Path, job: Job, *, prelude: str = "") -> targets.Measurement:
    """The worker as it is on a board, after ``prelude``."""
    job_folder.write(folder, job)
    arguments = f"import runpy, sys; sys.argv[1:] = [{str(folder)!r}]"
    code = f"{prelude}\n{arguments}\nrunpy.run_path({str(job_folder.WORKER)!r}, run_name='__main__')"
    stopped = job_folder.start([sys.executable, "-c", code], environment=os.environ)
    return job_folder.read(folder, job, origin="host", device=HERE, stopped=stopped)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_run_on_the_host(suffix: str, made_bundle: Path) -> None:
    job = job_of(made_bundle, suffix, runs=7, warmup=2)
    with targets.connect("host", {}) as host:
        seen = host.run(job)
    assert (seen.origin, seen.stopped, len(seen.samples_ns)) == ("host", "", 7)
    assert all(sample > 0 for sample in seen.samples_ns)
    assert min(seen.load_ns or 0, seen.first_run_ns or 0, seen.peak_memory_bytes or 0, seen.clock_step_ns or 0) > 0
    assert seen.first.keys() == {"y"}
    np.testing.assert_array_equal(seen.first["y"], seen.last["y"])
    assert seen.runtime == {".onnx": "onnxruntime", ".tflite": "litert"}[suffix]
    assert seen.runtime_version


def test_the_worker_can_be_read_by_an_old_python() -> None:
    ast.parse(job_folder.WORKER.read_text(), feature_version=(3, 8))


def test_short_calls_are_timed_in_batches(made_bundle: Path, tmp_path: Path) -> None:
    coarse = "import time; real = time.perf_counter_ns; time.perf_counter_ns = lambda: real() // 10**6 * 10**6"
    job = job_of(made_bundle, ".onnx", runs=3)
    seen = run_worker(tmp_path, job, prelude=coarse)
    assert seen.clock_step_ns == 10**6
    assert seen.calls_per_sample > 1
    # Twenty steps long, though each call is far below one: so a sample is no multiple of the step.
    assert any(sample % 10**6 for sample in seen.samples_ns)


def test_a_runtime_that_is_not_there(made_bundle: Path, tmp_path: Path) -> None:
    gone = "import sys; sys.modules.update(dict.fromkeys(['onnxruntime', 'ai_edge_litert', 'tflite_runtime']))"
    for suffix, said in ((".onnx", "pip install onnxruntime"), (".tflite", "pip install ai-edge-litert")):
        with pytest.raises(MissingError, match=said):
            run_worker(tmp_path, job_of(made_bundle, suffix), prelude=gone)


@pytest.mark.parametrize(("suffix", "runtime"), [(".onnx", "onnxruntime"), (".tflite", "LiteRT")])
def test_an_artifact_that_is_refused(suffix: str, runtime: str, made_bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(b"rubbish")
    with targets.connect("host", {}) as host, pytest.raises(ArtifactError, match=f"{runtime} refuses the file"):
        host.run(Job(broken, job_of(made_bundle, suffix).inputs))


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_inputs_that_do_not_fit(suffix: str, made_bundle: Path) -> None:
    job = job_of(made_bundle, suffix)
    wrong: tuple[tuple[Arrays, str], ...] = (
        ({"z": job.inputs["x"]}, "the artifact takes x, not z"),
        ({"x": job.inputs["x"][:, :3]}, "fails on these inputs"),
    )
    with targets.connect("host", {}) as host:
        for given, said in wrong:
            with pytest.raises(BadInputError, match=said):
                host.run(Job(job.artifact, given))


def test_what_was_done_before_a_kill_is_kept(made_bundle: Path, tmp_path: Path) -> None:
    job = job_of(made_bundle, ".onnx", runs=10**9)
    job_folder.write(tmp_path, job)
    process = subprocess.Popen([sys.executable, job_folder.WORKER, tmp_path])
    while not (tmp_path / "samples.txt").exists() or len((tmp_path / "samples.txt").read_text()) < 100:
        time.sleep(0.01)
        assert process.poll() is None
    process.kill()
    process.wait()
    seen = job_folder.read(tmp_path, job, origin="host", device=HERE, stopped="the line was cut")
    assert len(seen.samples_ns) > 3
    assert seen.stopped == f"the line was cut, after {len(seen.samples_ns)} of {10**9} runs"
    assert seen.first
    assert not seen.last


def test_an_interrupt_keeps_the_samples(
    edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupt() -> None:
        until = time.monotonic() + 120
        while not any(f.stat().st_size > 100 for f in tmp_path.rglob("samples.txt")) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    # A shell gives its background jobs an ignored SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    out = tmp_path / "r.json"
    try:
        answer = edgeattn("profile", made_bundle, "--runs", 10**9, "--out", out, "--json")
    finally:
        signal.signal(signal.SIGINT, before)
    assert answer.code == 130, answer.err
    (record,) = records.load(out).records
    assert record.partial
    assert record.samples_ns
    assert "interrupted, after" in record.untrusted[0]
    assert any("stopped" in entry["reason"] for entry in answer.document["not_run"])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "did not run on here: exit code 7"),
        ({"result.json": "{"}, "gave no readable result"),
        ({"result.json": '{"error": "boom"}'}, "boom"),
        ({"result.json": '{"complete": true, "runtime": "x"}'}, "no readable result"),
        (
            {"result.json": json.dumps({"complete": True, "runtime": "x", "runtime_version": "1", "load_ns": 1,
                                        "outputs": []}), "samples.txt": "12\nabc\n"},
            "no readable result",
        ),
    ],
)  # fmt: skip
def test_rubbish_from_a_runner(files: dict[str, str], said: str, made_bundle: Path, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(TargetError, match=said):
        job_folder.read(tmp_path, job_of(made_bundle, ".onnx"), origin="host", device=HERE, stopped="exit code 7")


def test_a_runner_that_crashes() -> None:
    crash = [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]
    assert job_folder.start(crash, environment=os.environ) == "it was ended by SIGSEGV"
    talk = [sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"]
    assert job_folder.start(talk, environment=os.environ) == "exit code 3, why"


def test_profile_and_parity_on_the_host(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    answer = edgeattn("profile", made_bundle, "--runs", 5, "--out", tmp_path / "r.json")
    assert answer.code == 0, answer.err
    assert "Time of one run, ms" in answer.out
    assert "does not run coreml" in answer.out
    found = records.load(tmp_path / "r.json").records
    assert {record.subject.format for record in found} == {"onnx", "tflite", "executorch"}
    assert [len(record.samples_ns) for record in found] == [5] * 3
    manifest = bundles.load(made_bundle).manifest
    assert {a.file.sha256 for a in manifest.artifacts} >= {record.subject.sha256 for record in found}
    answer = edgeattn("parity", made_bundle, "--target", "host", "--json")
    assert answer.code == 0
    runtimes = {row["runtime"] for row in answer.document["rows"] if row["hop"] == "conversion"}
    assert runtimes == {"onnxruntime on host", "litert on host", "executorch on host"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("profile", "--target", "nosuch"), "there is no target 'nosuch'; choose from"),
        (("profile", "--target", "_runner"), "there is no target '_runner'"),
        (("profile", "--target", "host:1"), "takes no address"),
        (("profile", "--cpu", "max"), "--cpu means nothing to --target host"),
        (("profile", "--runs", "0"), "--runs"),
        (("parity", "--cpu", "max"), "--cpu needs --target"),
        (("parity", "--target", "host", "--self-test"), "omit --target"),
    ],
)
def test_bad_targets(arguments: tuple[str, ...], said: str, edgeattn: Command, made_bundle: Path) -> None:
    answer = edgeattn(arguments[0], made_bundle, *arguments[1:])
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""


def test_targets_are_found_by_their_names(edgeattn: Command) -> None:
    assert {"host", "emulated_arm"} <= set(targets.TARGETS.names)
    assert edgeattn("doctor", "--quick", "--json").document["targets"]["host"] == "ready"
    answer = edgeattn("setup", "host")
    assert answer.code == 2
    assert "host needs no set-up; choose from android, emulated-arm, phone" in answer.err


def test_set_ups_are_found_by_their_names(edgeattn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = edgeattn("setup", "nope")
    assert answer.code == 2
    assert answer.err == "edgeattn: there is no setup 'nope'; choose from android, emulated-arm, phone\n"
    assert "One of android, emulated-arm, phone." in " ".join(edgeattn("setup", "--help").out.split())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, setup in SETUPS.items():
        monkeypatch.setattr(setup, "build", lambda progress, name=name: tmp_path / name)
        answer = edgeattn("setup", spelled(name))
        assert answer.code == 0
        assert f"{spelled(name)} is ready, in {tmp_path / name}" in answer.out.replace("\n", " ")
        assert setup.about in " ".join(answer.out.split())
        assert setup.missing()


class Driver:
    """A target whose first or last run is wrong, as some drivers' are."""

    place, runtimes, warmup, runs = "driver", {"onnx": ("onnxruntime",)}, 0, 1

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def run(self, job: Job) -> targets.Measurement:
        with targets.connect("host", {}) as host:
            seen = host.run(job)
        broken = {name: value + 1 for name, value in seen.first.items()}
        return replace(seen, **{self.wrong: broken})


@pytest.mark.parametrize(("wrong", "passed"), [("first", True), ("last", False)])
def test_a_driver_that_is_right_once_only(wrong: str, passed: bool, made_bundle: Path) -> None:
    report = verify(bundles.load(made_bundle), connection=Driver(wrong))
    assert report.passed is passed
    assert any("gave other outputs in its last run than in its first" in warning for warning in report.warnings)


def test_a_runtime_that_keeps_its_outputs_is_not_judged(made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = replace(_stopped(Job(made_bundle, {})), first={})
    monkeypatch.setattr(Driver, "run", lambda self, job: silent)
    report = verify(bundles.load(made_bundle), connection=Driver("last"))
    assert {"it gives no outputs, times only"} <= {entry.reason for entry in report.not_run}
    assert not report.artifacts_checked


def test_a_run_that_stops_in_parity_is_an_error(made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Driver, "run", lambda self, job: replace(_stopped(job), stopped="unplugged"))
    with pytest.raises(TargetError, match=r"attention-fp32.onnx stopped on driver: unplugged"):
        verify(bundles.load(made_bundle), connection=Driver("last"))


def _stopped(job: Job) -> targets.Measurement:
    return targets.Measurement(
        origin="phone",
        device=HERE,
        runtime="onnxruntime",
        runtime_version="1",
        warmup=0,
        first=job.inputs,
        last={},
    )
