"""What goes wrong over adb: one clear sentence, what was measured is kept, and nothing stays on the phone."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import loop_phone
import pytest
from adbd import Phone
from attached import Attach, left_on, runner_instead
from conftest import Answer
from test_export import replace_file
from test_targets import job_of

from edgeattn import targets
from edgeattn.bundle import records
from edgeattn.targets import android

Command = Callable[..., Answer]
QUICK = ("--runs", 3, "--warmup", 1)


def stop_when(reached: Callable[[], bool], then: Callable[[], object]) -> None:
    def watch() -> None:
        until = time.monotonic() + 60
        while not reached() and time.monotonic() < until:
            time.sleep(0.02)
        then()

    threading.Thread(target=watch, daemon=True).start()


def samples_in(folder: Path) -> Callable[[], bool]:
    return lambda: any(file.stat().st_size > 200 for file in folder.rglob("samples.txt"))


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
    stop_when(lambda: all(samples_in(phone.root)() for phone in attached), lambda: os.kill(os.getpid(), signal.SIGINT))
    out = tmp_path / "r.json"
    try:
        answer = edgeattn("profile", made_bundle, "--target", "android", "--runs", 10**9, "--warmup", 0, "--out", out)
    finally:
        signal.signal(signal.SIGINT, before)
    assert answer.code == 130, answer.err
    found = records.load(out).records
    assert len(found) == phones
    for record in found:
        assert record.partial
        assert record.samples_ns
        assert "interrupted, after" in record.untrusted[0]
    for phone in attached:
        assert left_on(phone) == []
        assert runners_of(phone) == []


def test_an_interrupt_in_a_push(attach: Attach, edgeattn: Command, made_bundle: Path) -> None:
    phone = attach()
    phone.sent = lambda *_: time.sleep(0.05)  # type: ignore[method-assign]  # it takes its time
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_when(lambda: len(phone.pushed) > 1, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK)
    finally:
        signal.signal(signal.SIGINT, before)
    assert answer.code == 130
    assert left_on(phone) == []


def test_an_emulator_gives_no_times(attach: Attach, edgeattn: Command, made_bundle: Path) -> None:
    phone = attach()
    loop_phone.tell(phone.root, properties={**loop_phone.PROPERTIES, "ro.boot.qemu": "1"})
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK)
    assert answer.code == 2
    assert "is an emulator, whose times say nothing of a phone" in answer.err


def test_lost_in_a_run(
    attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(android, "FETCH_S", 0.2)
    phone = attach()
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(fetched))
    stop_when(samples_in(fetched), phone.lose)
    out = tmp_path / "r.json"
    answer = edgeattn("profile", made_bundle, "--target", "android", "--runs", 10**9, "--warmup", 0, "--out", out)
    assert answer.code == 1, answer.err
    (record,) = records.load(out).records
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
    "rubbish": ("echo '{rubbish' >0/result.json", "gave no readable result"),
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
    runner_instead(tmp_path / "native", line, monkeypatch)
    phone = attach()
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK)
    assert answer.code == 1
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert left_on(phone) == []
    assert runners_of(phone) == []


def test_a_crash_in_mid_run_keeps_the_samples(attach: Attach, made_bundle: Path) -> None:
    phone = attach()
    stop_when(samples_in(phone.root), lambda: kill_runner(phone))
    with targets.connect("android", {}) as connection:
        seen = connection.run(job_of(made_bundle, ".tflite", runs=10**9, warmup=0))
    assert seen.samples_ns
    assert seen.stopped == f"it was ended by SIGSEGV, after {len(seen.samples_ns)} of {10**9} runs"
    assert left_on(phone) == []


def kill_runner(phone: Phone) -> None:
    for pid in phone.root.rglob("pid"):
        os.kill(int(pid.read_text()), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("suffix", "runtime", "said"),
    [
        ("tflite", "litert", "LiteRT refuses the file (LiteRtCreateModelFromFile"),
        ("onnx", "onnxruntime", "onnxruntime refuses the file: Load model from ../../artifact-0.onnx failed:Protobuf"),
    ],
)
def test_an_artifact_that_is_refused(
    suffix: str, runtime: str, said: str, attach: Attach, edgeattn: Command, bundle: Path
) -> None:
    phone = attach()
    replace_file(bundle, f"attention-fp32.{suffix}", b"rubbish")
    answer = edgeattn("profile", bundle, "--target", "android", "--runtime", runtime, *QUICK)
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
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
    assert "apt-get install -y adb" in edgeattn("doctor", "--quick", "--json").document["targets"]["android"]


def test_no_runner(
    attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answer = edgeattn("profile", made_bundle, "--target", "android")
    assert answer.code == 3
    assert "run: edgeattn setup android" in answer.err
