"""A phone over adb: the real `adb` against a loopback phone, whose ARM programs run under emulation."""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import loop_phone
import pytest
from attached import Attach, left_on
from conftest import Answer
from test_targets import job_of

from edgeattn import targets
from edgeattn.bundle import records
from edgeattn.errors import BadInputError
from edgeattn.targets import android
from edgeattn.targets._runner import cores as _cores
from edgeattn.targets._runner import fetch, native
from edgeattn.targets.android import state as _phone_state

Command = Callable[..., Answer]
# The version of onnxruntime's library.
NODE = json.loads(fetch.data("package.json").read_text())["dependencies"]["onnxruntime-node"]
QUICK = ("--runs", 3, "--warmup", 1)


def test_profile(attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    phone = attach()
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK, "--out", tmp_path / "r.json")
    assert answer.code == 0, answer.err
    assert "does not run coreml" in answer.out
    found = {record.runtime: record for record in records.load(tmp_path / "r.json").records}
    assert {name: record.runtime_version for name, record in found.items()} == {
        **{"litert": "2.3.0", "onnxruntime": NODE},
        "executorch": "1.5.1",
    }
    for record in found.values():
        assert (record.origin, len(record.samples_ns)) == ("phone", 3)
        assert record.target == f"android:{phone.serial}"
        assert record.untrusted == ("only 3 samples: at least 20 are needed to see whether the times are steady",)
        assert record.parity
        assert record.parity.passed
        assert record.before["battery"] == "85 %, 29.5 °C, charging"
        assert min(record.load_ns or 0, record.first_run_ns or 0) > 0
        assert record.operators
    assert left_on(phone) == []


def test_what_the_phone_says_of_itself(attach: Attach, made_bundle: Path) -> None:
    attach()
    with targets.connect("android", {}) as connection:
        seen = connection.run(job_of(made_bundle, ".tflite", runs=2, warmup=0))
    assert seen.device.name == "Loop 8"
    assert seen.device.details["soc"] == "LS8"
    assert seen.device.details["policy4"] == "cores 4 5 6 7, schedutil, 400 MHz to 2802 MHz"
    assert seen.before["battery"] == "85 %, 29.5 °C, charging"
    assert seen.before["policy0"] == "1328 MHz (schedutil, at most 1803 MHz)"
    assert seen.after["zone cpu-big"] == "43.8 °C"
    assert seen.after["thermal status"] == "none"
    assert "zone modem-off" not in seen.after


def test_parity_pushes_everything_once(attach: Attach, edgeattn: Command, bundle: Path) -> None:
    phone = attach()
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["golden"] = dict(list(manifest["golden"].items())[:2])
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    answer = edgeattn("parity", bundle, "--target", f"android:{phone.serial}", "--cores", "4-7", "--json")
    assert answer.code == 0, answer.err
    rows = {row["runtime"] for row in answer.document["rows"] if row["hop"] == "conversion"}
    assert rows == {f"{runtime} on android:{phone.serial}" for runtime in ("litert", "onnxruntime", "executorch")}
    names = [path.rsplit("/", 1)[1] for path in phone.pushed]
    assert [names.count(name) for name in (*chain(*native.RUNTIMES.values()), *native.LIBRARIES)] == [1] * 14
    assert [sum(name.endswith(suffix) for name in names) for suffix in (".tflite", ".onnx", ".pte")] == [1, 1, 1]
    assert names.count("job.txt") == 3  # all cases of a file in one start
    assert set((phone.root / "data/taskset").read_text().split()) == {"f0"}
    assert left_on(phone) == []


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".pte"])
def test_the_outputs_are_those_of_the_emulated_core(suffix: str, attach: Attach, made_bundle: Path) -> None:
    """There onnxruntime runs by the Python worker, in the version of its own package."""
    attach()
    job = job_of(made_bundle, suffix, runs=1, warmup=0)
    with targets.connect("android", {}) as phone, targets.connect("emulated-arm", {}) as core:
        ours, theirs = phone.run(job), core.run(job)
    assert ours.last["y"].tobytes() == theirs.last["y"].tobytes()


def test_jobs_in_turn(attach: Attach, made_bundle: Path) -> None:
    attach()
    job = job_of(made_bundle, ".tflite", runs=4, warmup=1)
    with targets.connect("android", {}) as phone:
        first, second = phone.run_interleaved((job, job))
    assert (len(first.samples_ns), len(second.samples_ns), first.stopped, second.stopped) == (4, 4, "", "")


def test_several_phones_at_once(attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    one, other, third = attach(), attach(), attach()
    loop_phone.tell(third.root, properties={**loop_phone.PROPERTIES, "ro.product.cpu.abilist": "armeabi-v7a"})
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK, "--out", tmp_path / "r.json")
    assert answer.code == 1
    found = records.load(tmp_path / "r.json")
    assert {record.target for record in found.records} == {f"android:{one.serial}", f"android:{other.serial}"}
    assert any("does not run arm64 programs (but armeabi-v7a)" in entry.reason for entry in found.not_run)
    assert left_on(one) == left_on(other) == left_on(third) == []
    answer = edgeattn("parity", made_bundle, "--target", "android")
    assert answer.code == 2
    assert "several phones are attached; say which: --target android:127" in answer.err


def test_set_up(edgeattn: Command, base_root: Path) -> None:
    answer = edgeattn("setup", "android", "--json")
    assert answer.code == 0
    folder = Path(answer.document["folder"])
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert names == {
        *(f"{runtime}/{name}" for runtime, libraries in native.RUNTIMES.items() for name in ("runner", *libraries)),
        *(f"glibc/{name}" for name in native.LIBRARIES),
    }
    listed = ["aarch64-linux-gnu-readelf", "-d", *(folder / name for name in names)]
    needed = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    needs = {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "NEEDED" in line}
    assert needs <= {name.rpartition("/")[2] for name in names}


def test_cool_down(attach: Attach, made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(android, "FETCH_S", 0.1)
    phone = attach()
    job = job_of(made_bundle, ".tflite", runs=2, warmup=0)
    with targets.connect("android", {"cool_down": "yes"}) as connection:
        assert connection.run(job).untrusted == ()
        hot = {**loop_phone.ZONES, "cpu-big": 61000}
        loop_phone.tell(phone.root, zones=hot)
        started = time.monotonic()
        cooled = threading.Timer(1.0, lambda: loop_phone.tell(phone.root))
        cooled.start()
        seen = connection.run(job)
        assert time.monotonic() - started > 1.0
        assert (seen.untrusted, seen.before["zone cpu-big"]) == ((), "43.8 °C")
        loop_phone.tell(phone.root, zones=hot)
        monkeypatch.setattr(android, "COOLING_S", 0.5)
        assert connection.run(job).untrusted[0].startswith("it was 17 °C warmer than before the first run")


def test_throttling_is_told(attach: Attach, made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone = attach()
    job = job_of(made_bundle, ".tflite", runs=2, warmup=0)
    hot = loop_phone.THERMAL.replace("Thermal Status: 0", "Thermal Status: 3")
    loop_phone.script(phone.root, "taskset", "exit 1")
    with targets.connect("android", {}) as connection:
        real = connection._execute

        def execute(*arguments: object) -> str:
            loop_phone.tell(phone.root, thermal=hot, cut_khz=900_000)
            return real(*arguments)

        monkeypatch.setattr(connection, "_execute", execute)
        seen = connection.run(job)
    assert seen.untrusted == (
        "the phone was too warm: its thermal status was severe after the run",
        "the highest frequency of policy0 was cut from 1803 MHz to 903 MHz during the run",
        "the highest frequency of policy4 was cut from 2802 MHz to 1902 MHz during the run",
    )


@pytest.mark.parametrize(
    ("cores", "mask"), [("4-7", "f0"), ("0,4", "11"), ("4", "10"), ("0xF0", "f0"), (" 0-1, 7", "83")]
)
def test_cores(cores: str, mask: str) -> None:
    assert _cores.mask(cores, present="0-7") == mask


@pytest.mark.parametrize(
    ("cores", "said"),
    [("big", "names no core"), ("0x0", "names no core"), ("4-9", "there are 0-7"), ("7-4", "no core")],
)
def test_cores_that_there_are_not(cores: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        _cores.mask(cores, present="0-7")


def test_a_setting_of_another_target(edgeattn: Command, made_bundle: Path) -> None:
    for option in (("--cores", "1"), ("--cool-down",), ("--runner", "x")):
        answer = edgeattn("profile", made_bundle, *option)
        assert answer.code == 2
        assert f"{option[0]} means nothing to --target host" in answer.err


def test_a_phone_that_tells_little() -> None:
    state = _phone_state.parse("[ro.product.model]: [X]\npresent=\npolicy*.scaling_governor=\nzone.=\n")
    assert (state.device.name, state.temperature, state.summary()) == ("X", None, {})
    assert state.abis == ""
