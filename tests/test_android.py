"""A phone over adb: the real `adb` against a loopback phone, whose ARM programs run under emulation."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import loop_phone
import pytest
from adbd import Phone
from conftest import Answer
from test_emulated_arm import emulator
from test_export import replace_file
from test_targets import job_of

from edgeattn import records
from edgeattn.errors import BadInputError
from edgeattn.records import Record
from export import targets
from export.targets import _adb, _arm_native, _arm_setup, _cores, _phone_state, android

Command = Callable[..., Answer]
Attach = Callable[..., Phone]
QUICK = ("--runs", 3, "--warmup", 1)
__all__ = ["emulator"]


@pytest.fixture(scope="module")
def base_root(emulator: _arm_setup.Emulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0:
        pytest.skip("the loopback phone needs root, for chroot")
    if not shutil.which("adb"):
        pytest.skip(_adb.INSTALL)
    _arm_native.build()
    root = tmp_path_factory.mktemp("phone") / "root"
    root.mkdir()
    loop_phone.make_root(root, emulator.root("cortex-a76") / "proc/cpuinfo")
    return root


@pytest.fixture(scope="module")
def adb_server(base_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server of our own, which finds nothing by itself and keeps its key in a folder of its own."""
    home = tmp_path_factory.mktemp("adb")
    (home / ".android").mkdir()
    port = 6100 + os.getpid() % 900
    settings = {
        "ANDROID_ADB_SERVER_PORT": str(port),
        "ANDROID_SDK_HOME": str(home),
        "ANDROID_USER_HOME": str(home / ".android"),
        "ADB_MDNS": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        subprocess.run(["adb", "start-server"], check=True, capture_output=True)
        yield
        subprocess.run(["adb", "kill-server"], check=True, capture_output=True)


@pytest.fixture
def attach(base_root: Path, adb_server: None, tmp_path: Path) -> Iterator[Attach]:
    """Attach a phone of its own folder."""
    phones: list[Phone] = []

    def new(**faults: object) -> Phone:
        root = tmp_path / f"phone-{len(phones)}"
        subprocess.run(["cp", "-al", base_root, root], check=True)
        phone = Phone(root, **faults)  # type: ignore[arg-type]  # as the caller writes them
        phones.append(phone)
        connecting = subprocess.Popen(["adb", "connect", phone.serial], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while _adb.devices().get(phone.serial) != phone.state and time.monotonic() < until:
            time.sleep(0.05)
        # An offline phone lets it wait for ten seconds.
        connecting.kill()
        connecting.wait()
        return phone

    yield new
    for phone in phones:
        phone.lose()
        subprocess.run(["adb", "disconnect", phone.serial], check=False, capture_output=True)


def left_on(phone: Phone) -> list[str]:
    return [file.name for file in (phone.root / "data/local/tmp").iterdir()]


def records_of(out: Path) -> tuple[Record, ...]:
    return records.load(out).records


def test_profile(attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    phone = attach()
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK, "--out", tmp_path / "r.json")
    assert answer.code == 0, answer.err
    assert "does not run onnx" in answer.out
    (record,) = records_of(tmp_path / "r.json")
    assert (record.origin, record.runtime, len(record.samples_ns)) == ("phone", "litert", 3)
    assert record.target == f"android:{phone.serial}"
    assert record.untrusted == ()
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
    assert rows == {f"litert on android:{phone.serial}"}
    names = [path.rsplit("/", 1)[1] for path in phone.pushed]
    assert names.count("libLiteRt.so") == 1
    assert len([name for name in names if name.endswith(".tflite")]) == 1
    assert names.count("job.txt") == 3
    assert set((phone.root / "data/taskset").read_text().split()) == {"f0"}
    assert left_on(phone) == []


def test_the_outputs_are_those_of_the_emulated_core(attach: Attach, made_bundle: Path) -> None:
    attach()
    job = job_of(made_bundle, ".tflite", runs=1, warmup=0)
    with targets.connect("android", {}) as phone, targets.connect("emulated-arm", {}) as core:
        ours, theirs = phone.run(job), core.run(job)
    assert ours.last["y"].tobytes() == theirs.last["y"].tobytes()


def test_jobs_in_turn(attach: Attach, made_bundle: Path) -> None:
    attach()
    job = job_of(made_bundle, ".tflite", runs=4, warmup=1)
    with targets.connect("android", {}) as phone:
        first, second = phone.run_in_turn((job, job))
    assert (len(first.samples_ns), len(second.samples_ns), first.stopped, second.stopped) == (4, 4, "", "")


def test_several_phones_at_once(attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    one, other, third = attach(), attach(), attach()
    loop_phone.say(third.root, properties={**loop_phone.PROPERTIES, "ro.product.cpu.abilist": "armeabi-v7a"})
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK, "--out", tmp_path / "r.json")
    assert answer.code == 0, answer.err
    found = records.load(tmp_path / "r.json")
    assert {record.target for record in found.records} == {f"android:{one.serial}", f"android:{other.serial}"}
    assert any("does not run arm64 programs" in entry.reason for entry in found.not_run)
    assert left_on(one) == left_on(other) == left_on(third) == []
    answer = edgeattn("parity", made_bundle, "--target", "android")
    assert answer.code == 2
    assert "several phones are attached; say which: --target android:127" in answer.err


def stop_when(reached: Callable[[], bool], then: Callable[[], object]) -> None:
    def watch() -> None:
        until = time.monotonic() + 60
        while not reached() and time.monotonic() < until:
            time.sleep(0.02)
        then()

    threading.Thread(target=watch, daemon=True).start()


def samples_on(phone: Phone) -> Callable[[], bool]:
    return lambda: any(file.stat().st_size > 200 for file in phone.root.rglob("samples.txt"))


def runners_of(phone: Phone) -> list[str]:
    """Processes that still run on the phone."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "root").readlink() == phone.root:
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("phones", [1, 2])
def test_an_interrupt(phones: int, attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    attached = [attach() for _ in range(phones)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_when(lambda: all(samples_on(phone)() for phone in attached), lambda: os.kill(os.getpid(), signal.SIGINT))
    out = tmp_path / "r.json"
    try:
        answer = edgeattn("profile", made_bundle, "--target", "android", "--runs", 10**9, "--warmup", 0, "--out", out)
    finally:
        signal.signal(signal.SIGINT, before)
    assert answer.code == 1, answer.err
    found = records_of(out)
    assert len(found) == phones
    for record in found:
        assert record.partial
        assert record.samples_ns
        assert "interrupted, after" in record.untrusted[0]
    for phone in attached:
        assert left_on(phone) == []
        assert runners_of(phone) == []


def test_lost_in_a_run(
    attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(android, "FETCH_S", 0.2)
    phone = attach()
    # The second fetch is after the first samples.
    stop_when(lambda: samples_on(phone)() and not time.sleep(1.0), phone.lose)
    out = tmp_path / "r.json"
    answer = edgeattn("profile", made_bundle, "--target", "android", "--runs", 10**9, "--warmup", 0, "--out", out)
    assert answer.code == 1, answer.err
    (record,) = records_of(out)
    assert record.partial
    assert record.samples_ns
    assert f"the phone was lost; /data/local/tmp/{left_on(phone)[0]} is still on it, after" in record.untrusted[0]


def test_lost_in_a_push(attach: Attach, edgeattn: Command, made_bundle: Path) -> None:
    phone = attach(lost_after=3_000_000)
    answer = edgeattn("profile", made_bundle, "--target", f"android:{phone.serial}", *QUICK)
    assert answer.code == 1
    assert answer.err == (
        f"edgeattn: the phone {phone.serial} was lost during adb push; it may still hold /data/local/tmp/edgeattn-*\n"
    )


def test_no_space(attach: Attach, edgeattn: Command, made_bundle: Path) -> None:
    phone = attach(space_bytes=3_000_000)
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK)
    assert answer.code == 1
    assert answer.err == f"edgeattn: the phone {phone.serial} has no space left for /data/local/tmp; free some\n"
    assert left_on(phone) == []


# What a runner does instead, in the folder of the jobs; the loader is what is started.
FAULTS = {
    "crash": ("kill -11 $$", "did not run on Loop 8: it was ended by SIGSEGV"),
    "refusal": ("echo no such symbol >&2; exit 127", "did not run on Loop 8: exit code 127, no such symbol"),
    "rubbish": ("echo '{rubbish' >0/result.json", "result.json cannot be read"),
    "nothing": ("exit 0", "the runner left no result"),
    "hang": ("sleep 1000", "did not run on Loop 8: it did nothing for 2 s, and was ended"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_runner_that_fails(
    fault: str, attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, said = FAULTS[fault]
    monkeypatch.setattr(android, "FETCH_S", 0.3)
    monkeypatch.setattr(android, "SILENCE_S", 2.0)
    for name in (*_arm_native.LIBRARIES, "runner"):
        loop_phone.write_script(tmp_path / name, line)
    monkeypatch.setattr(_arm_native, "ready", lambda: _arm_native.Native(tmp_path))
    phone = attach()
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK)
    assert answer.code == 1
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert left_on(phone) == []
    assert runners_of(phone) == []


def test_a_crash_in_mid_run_keeps_the_samples(attach: Attach, made_bundle: Path) -> None:
    phone = attach()
    stop_when(samples_on(phone), lambda: kill_runner(phone))
    with targets.connect("android", {}) as connection:
        seen = connection.run(job_of(made_bundle, ".tflite", runs=10**9, warmup=0))
    assert seen.samples_ns
    assert seen.stopped == f"it was ended by SIGSEGV, after {len(seen.samples_ns)} of {10**9} runs"
    assert left_on(phone) == []


def kill_runner(phone: Phone) -> None:
    for pid in phone.root.rglob("pid"):
        os.kill(int(pid.read_text()), signal.SIGSEGV)


def test_an_artifact_that_is_refused(attach: Attach, edgeattn: Command, bundle: Path) -> None:
    phone = attach()
    replace_file(bundle, "attention-fp32.tflite", b"rubbish")
    answer = edgeattn("profile", bundle, "--target", "android", *QUICK)
    assert answer.code == 2
    assert "LiteRT refuses the file" in answer.err
    assert left_on(phone) == []


@pytest.mark.parametrize(
    ("state", "said"), [("unauthorized", "accept the question about USB debugging"), ("offline", "is offline")]
)
def test_a_phone_that_cannot_be_used(
    state: str, said: str, attach: Attach, edgeattn: Command, made_bundle: Path
) -> None:
    phone = attach(state=state)
    for target in ("android", f"android:{phone.serial}"):
        answer = edgeattn("profile", made_bundle, "--target", target)
        assert answer.code == 3
        assert f"the phone {phone.serial} " in answer.err
        assert said in answer.err


@pytest.mark.usefixtures("adb_server")
def test_no_phone(edgeattn: Command, made_bundle: Path) -> None:
    for target, said in (("android", "no phone is attached"), ("android:nosuch", "no phone nosuch is attached")):
        answer = edgeattn("profile", made_bundle, "--target", target)
        assert answer.code == 3
        assert said in answer.err


def test_no_adb(edgeattn: Command, made_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in ("profile", "parity"):
        answer = edgeattn(command, made_bundle, "--target", "android")
        assert answer.code == 3
        assert "apt-get install -y adb" in answer.err
    assert "apt-get install -y adb" in edgeattn("doctor", "--json").document["targets"]["android"]


def test_no_runner(
    attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answer = edgeattn("profile", made_bundle, "--target", "android")
    assert answer.code == 3
    assert "run: edgeattn setup android" in answer.err


def test_set_up(edgeattn: Command, base_root: Path) -> None:
    answer = edgeattn("setup", "android", "--json")
    assert answer.code == 0
    names = {file.name for file in Path(answer.document["folder"]).iterdir()}
    assert names == {"runner", "libLiteRt.so", *_arm_native.LIBRARIES}


def test_cool_down(attach: Attach, made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(android, "FETCH_S", 0.1)
    phone = attach()
    job = job_of(made_bundle, ".tflite", runs=2, warmup=0)
    with targets.connect("android", {"cool_down": "yes"}) as connection:
        assert connection.run(job).untrusted == ()
        hot = {**loop_phone.ZONES, "cpu-big": 61000}
        loop_phone.say(phone.root, zones=hot)
        started = time.monotonic()
        cooled = threading.Timer(1.0, lambda: loop_phone.say(phone.root))
        cooled.start()
        seen = connection.run(job)
        assert time.monotonic() - started > 1.0
        assert (seen.untrusted, seen.before["zone cpu-big"]) == ((), "43.8 °C")
        loop_phone.say(phone.root, zones=hot)
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
            loop_phone.say(phone.root, thermal=hot, cut_khz=900_000)
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
    assert (state.device.name, state.temperature, state.words()) == ("X", None, {})
    assert not state.runs_arm64
