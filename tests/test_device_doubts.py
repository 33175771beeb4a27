"""What a device hides: a runtime that dies on import, a clock that is held down, threads without cores, odd names."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeattn.bundle.records import Device
from edgeattn.profile import record as recording
from edgeattn.targets import Measurement, ssh
from edgeattn.targets._runner import board as _board
from edgeattn.targets._runner import clocks
from edgeattn.targets.android import adb
from edgeattn.targets.android import state as _phone_state

STEADY = "2400 MHz (ondemand, at most 2400 MHz)"


def probe(folder: Path, **modules: str) -> dict[str, dict[str, str]]:
    """What an interpreter finds that has these modules, by their sources, and no others."""
    for name, source in modules.items():
        package = folder / name
        package.mkdir()
        (package / "__init__.py").write_text(source if name == "onnxruntime" else "__version__ = '2.0'")
        if name != "onnxruntime":
            (package / "interpreter.py").write_text(source)
    environment = {"PYTHONPATH": str(folder), "PATH": "/nowhere"}
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]\n{ssh.PROBE}",
    ]
    command[2] = command[2].replace("[sys.executable, ", "[sys.executable, '-S', ")
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, str]] = json.loads(ran.stdout.splitlines()[-1])
    return found


DIES = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"


def test_a_runtime_that_dies_hides_no_other(tmp_path: Path) -> None:
    found = probe(tmp_path, onnxruntime=DIES, ai_edge_litert="")
    assert found["packages"] == {"litert": "ai-edge-litert 2.0"}
    assert found["reasons"] == {"onnxruntime": "onnxruntime ends by SIGILL when it is imported"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise ImportError('libm.so.6: version `GLIBC_2.38 not found')", "GLIBC_2.38 not found"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("raise KeyboardInterrupt", "onnxruntime"),
    ],
)
def test_each_has_its_reason(source: str, said: str, tmp_path: Path) -> None:
    found = probe(tmp_path, onnxruntime=source)
    assert found["packages"] == {}
    assert list(found["reasons"]) == ["onnxruntime"]
    assert said in found["reasons"]["onnxruntime"]


def test_the_other_package_of_a_runtime_is_used(tmp_path: Path) -> None:
    found = probe(tmp_path, onnxruntime="print('noise'); __version__ = '1.9'", ai_edge_litert=DIES, tflite_runtime="")
    assert found["packages"] == {"onnxruntime": "onnxruntime 1.9", "litert": "tflite-runtime 2.0"}
    assert found["reasons"] == {}
    (tmp_path / "none").mkdir()
    assert probe(tmp_path / "none") == {"python": found["python"], "packages": {}, "reasons": {}}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"policy0": STEADY}, {"policy0": STEADY}, ""),
        (
            {"policy0": STEADY},
            {"policy0": "1008 MHz (ondemand, at most 1008 MHz)"},
            "was cut from 2400 MHz to 1008 MHz during the run",
        ),
        (
            {"policy0": "603 MHz (schedutil, at most 603 MHz of 1803 MHz)"},
            {"policy0": "603 MHz (schedutil, at most 603 MHz of 1803 MHz)"},
            "held at 603 MHz or less from the start, and its cores reach 1803 MHz",
        ),
        ({}, {"cooling cooling_device0 thermal-cpufreq-0": "3 of 10"}, "held the clock down after the run"),
        ({"thermal throttling": "4"}, {"thermal throttling": "9"}, "for its temperature 5 times"),
        ({"thermal throttling": "4"}, {"thermal throttling": "4"}, ""),
        ({"policy0": "unknown (, at most unknown)"}, {"policy0": ""}, ""),
    ],
)
def test_clocks_that_are_held_down(before: dict[str, str], after: dict[str, str], said: str) -> None:
    found = clocks.slowed(before, after)
    assert len(found) == bool(said)
    assert said in "".join(found)
    assert ssh._throttled(before, after) == found


def test_a_board_tells_what_holds_its_clock_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, thermal = "sys/devices/system/cpu", "sys/class/thermal"
    for path, text in {
        f"{cpu}/cpufreq/policy0/scaling_max_freq": "1008000\n",
        f"{cpu}/cpufreq/policy0/cpuinfo_max_freq": "2400000\n",
        f"{cpu}/cpufreq/policy0/scaling_cur_freq": "1008000\n",
        f"{cpu}/cpufreq/policy0/scaling_governor": "ondemand\n",
        f"{cpu}/cpufreq/policy4/scaling_max_freq": "2390000\n",
        f"{cpu}/cpufreq/policy4/cpuinfo_max_freq": "2400000\n",
        f"{cpu}/cpu0/thermal_throttle/core_throttle_count": "3\n",
        f"{cpu}/cpu1/thermal_throttle/core_throttle_count": "4\n",
        f"{thermal}/cooling_device0/type": "cpufreq-cpu0\n",
        f"{thermal}/cooling_device0/cur_state": "5\n",
        f"{thermal}/cooling_device0/max_state": "9\n",
        f"{thermal}/cooling_device1/type": "pwm-fan\n",
        f"{thermal}/cooling_device1/cur_state": "2\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setenv("PATH", "/nowhere")
    state = _board.state(str(tmp_path))
    assert state["policy0"] == "1008 MHz (ondemand, at most 1008 MHz of 2400 MHz)"
    assert state["policy4"].endswith("at most 2390 MHz)")
    assert state["cooling cooling_device0 cpufreq-cpu0"] == "5 of 9"
    assert state["thermal throttling"] == "7"
    assert len([name for name in state if name.startswith("cooling")]) == 1
    assert len(clocks.slowed(state, state)) == 2


def test_a_phone_whose_clock_is_capped_from_the_start() -> None:
    def phone(limit: int) -> _phone_state.State:
        policy = {
            "scaling_governor": "walt",
            "scaling_cur_freq": "1",
            "scaling_min_freq": "1",
            "scaling_max_freq": str(limit),
            "cpuinfo_max_freq": "1803000",
        }
        return _phone_state.parse("\n".join(f"policy0.{key}={value}" for key, value in policy.items()))

    [warning] = _phone_state.throttled(phone(603_000), phone(603_000))
    assert warning == "policy0 was held at 603 MHz or less from the start, and its cores reach 1803 MHz"
    assert _phone_state.throttled(phone(1_803_000), phone(1_803_000)) == ()
    assert "was cut from 1803 MHz to 603 MHz" in _phone_state.throttled(phone(1_803_000), phone(603_000))[0]


@pytest.mark.parametrize(
    ("origin", "details", "threads", "said"),
    [
        ("board", {"pinned to cores": "0", "cores": "0-3"}, 4, "4 threads on 1 core:"),
        ("board", {"pinned to cores": "0xf0"}, 8, "8 threads on 4 cores:"),
        ("phone", {"cores": "0-7"}, 9, "9 threads on 8 cores:"),
        ("host", {"cores": "2"}, 3, "3 threads on 2 cores:"),
        ("board", {"cores": "0-3"}, 4, ""),
        ("host", {"cores": "2"}, 2, ""),
        ("browser", {}, 64, ""),
        ("browser", {"cores": "several"}, 64, ""),
    ],
)
def test_more_threads_than_cores(
    origin: str, details: dict[str, str], threads: int, said: str, made_bundle: Path
) -> None:
    from test_targets import job_of

    samples = (10_000, 10_100, 10_050, 9_990, 90_000) * 12
    measured = Measurement(
        origin=origin,  # type: ignore[arg-type]
        device=Device("there", details),
        runtime="litert",
        runtime_version="2",
        warmup=1,
        samples_ns=samples,
        first={},
        last={},
    )
    job = replace(job_of(made_bundle, ".tflite", runs=60), threads=threads)
    made = recording.record(measured, job, recording.subject(job.artifact, "a", "tflite"), "there")
    text = " ".join(made.untrusted)
    assert ("threads on" in text) is bool(said)
    assert said in text
    assert ("something else was running" in text) is not bool(said)
    assert ("outliers: its threads wait for one another" in text) is bool(said)


LISTED = """* daemon started successfully
List of devices attached
adb-35121JEHN28132-jr888A (2)._adb-tls-connect._tcp device product:lynx model:Pixel_7a transport_id:26
emulator-5554          offline transport_id:3
192.168.1.7:5555\tdevice product:x
my device (3)._adb._tcp unauthorized usb:1-2
0123456789ABCDEF       no permissions (missing udev rules); see [http://developer.android.com/tools/device.html]

"""


def test_names_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "adb"
    (tmp_path / "listed").write_text(LISTED)
    program.write_text(f"#!/bin/sh\nwhile read -r line; do echo \"$line\"; done < '{tmp_path / 'listed'}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert adb.devices() == {
        "adb-35121JEHN28132-jr888A (2)._adb-tls-connect._tcp": "device",
        "emulator-5554": "offline",
        "192.168.1.7:5555": "device",
        "my device (3)._adb._tcp": "unauthorized",
        "0123456789ABCDEF": "no",
    }
