"""Boards over ssh, against a real sshd on loopback: the same record, clear errors, and nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Answer
from sshd import Sshd
from test_targets import job_of

from edgeattn import targets
from edgeattn.bundle import records
from edgeattn.errors import TargetError
from edgeattn.system import cache
from edgeattn.targets import Measurement, ssh
from edgeattn.targets._runner import board as _board
from edgeattn.targets.ssh import connection
from edgeattn.targets.ssh.connection import Address

Command = Callable[..., Answer]
MANY = 10**9
# A cache that outlives the tests: the last tflite-runtime in an environment of its own.
OLD_RUNTIME = ("tflite-runtime==2.14.0", "numpy==1.26.4")


@pytest.fixture(scope="module")
def old_python() -> Path:
    """A Python with tflite-runtime alone; the folder appears when it is whole."""
    folder = cache.home() / f"tests-tflite-runtime-{sys.version_info.major}.{sys.version_info.minor}"
    if not (folder / "ready").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", *OLD_RUNTIME], check=True)
        (folder / "ready").touch()
    return folder / "bin/python"


@contextmanager
def once_it_runs(board: Sshd, do: Callable[[], object]) -> Iterator[None]:
    """``do`` something when samples have been written there, and had the time to be sent."""

    def watch() -> None:
        until = time.monotonic() + 60
        while not any(f.stat().st_size for f in board.tmp.rglob("samples*.txt")) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(3 * _board.POLL_S)
        do()

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield
    watcher.join()


def workers(board: Sshd) -> list[int]:
    """The processes there that run a job."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            here = f"TMPDIR={board.tmp}".encode() in (process / "environ").read_bytes()
            if here and b"\0worker.py\0" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def end_the_worker(board: Sshd) -> None:
    for worker in workers(board):
        os.kill(worker, signal.SIGKILL)


def test_a_profile(board: Sshd, edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    board.script("vcgencmd", 'echo "throttled=0x50000"')
    out, core = tmp_path / "r.json", min(os.sched_getaffinity(0))
    options = ("--runs", 7, "--warmup", 3, "--threads", 2, "--cores", core)
    answer = edgeattn("profile", made_bundle, "--target", board.target, *options, "--out", out)
    (board.bin / "vcgencmd").unlink()
    assert answer.code == 0, answer.err
    onnx, tflite = records.load(out).records
    assert (onnx.runtime, tflite.runtime) == ("onnxruntime", "litert")
    for record in (onnx, tflite):
        assert (record.origin, record.target, record.threads, record.warmup) == ("board", board.target, 2, 3)
        assert len(record.samples_ns) == 7
        assert min(*record.samples_ns, record.load_ns or 0, record.peak_memory_bytes or 0) > 0
        assert {"machine", "system", "kernel", "python", "package"} <= record.device.details.keys()
        assert record.device.details["pinned to cores"] == str(core)
        assert record.before["throttling"] == "under-voltage since the start, throttled since the start"
        assert record.before.keys() == record.after.keys()
        assert not record.partial
    assert record.device.details["package"].startswith("ai-edge-litert ")


def test_parity(board: Sshd, edgeattn: Command, lean: Path) -> None:
    answer = edgeattn("parity", lean, "--target", board.target, "--json")
    assert answer.code == 0, answer.err
    found = {row["runtime"] for row in answer.document["rows"] if row["hop"] == "conversion"}
    assert found == {f"{runtime} on {board.target}" for runtime in ("onnxruntime", "litert")}


def test_the_last_tflite_runtime(board: Sshd, old_python: Path, edgeattn: Command, lean: Path) -> None:
    there = ("--target", board.target, "--python", old_python, "--json")
    answer = edgeattn("parity", lean, *there)
    assert answer.code == 0, answer.err
    assert [row["candidate"] for row in answer.document["rows"] if row["hop"] == "conversion"]
    assert any("does not run onnx" in entry["reason"] for entry in answer.document["not_run"])
    (record,) = edgeattn("profile", lean, *there, "--runs", 5).document["records"]
    assert (record["runtime"], record["runtime_version"]) == ("litert", "2.14.0")
    assert record["device"]["details"]["package"] == "tflite-runtime 2.14.0"
    assert str(old_python) in record["device"]["details"]["python"]


def test_other_outputs_there_are_seen(board: Sshd, edgeattn: Command, lean: Path) -> None:
    """A runtime that is off by a thousandth, as a damaged one would be."""
    folder = board.home / "off"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "import numpy, sys\nsave = numpy.save\n"
        "numpy.save = lambda path, x: save(path, x * numpy.float32(1.001)) if 'last' in path else save(path, x)\n"
    )
    board.script("python3", f'PYTHONPATH={folder} exec {sys.executable} "$@"')
    answer = edgeattn("parity", lean, "--target", board.target)
    assert answer.code == 1, answer.err
    assert "other outputs in its last run than in its first" in answer.out


def test_the_page_is_true(
    board: Sshd, old_python: Path, edgeattn: Command, lean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of docs/boards.md; the board is another one, and its Python stands elsewhere."""
    monkeypatch.chdir(lean.parent)  # the bundle is `b` there
    monkeypatch.setattr(ssh._Board, "warmup", 5)  # until times settle takes long where much else runs
    (board.home / "tflite").symlink_to(old_python.parent.parent)
    page = (Path(__file__).parent.parent / "docs/boards.md").read_text()
    commands = [line.split()[1:] for line in page.splitlines() if line.startswith("    edgeattn ")]
    assert len(commands) == 6
    here = {"ssh://pi@raspberrypi": "ssh://pi5", "3": max(os.sched_getaffinity(0))}
    for command in commands:
        answer = edgeattn(*(here.get(word, word) for word in command))
        assert answer.code == 0, (command, answer.err)
    (board.home / "tflite").unlink()
    assert {"pi.json", "pi-4.json", "pi-core.json"} <= {path.name for path in lean.parent.iterdir()}


def test_cores_are_those(board: Sshd) -> None:
    core = max(os.sched_getaffinity(0))
    with connection.session(Address.parse(board.target.partition(":")[2]), "python3") as opened:
        said = opened.run(["python3", "-c", "import os; print(os.sched_getaffinity(0))"], cores=[core]).out
    assert said.strip() == f"{{{core}}}"


def test_an_artifact_goes_over_once(board: Sshd, made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, sent = connection.Session.put, []
    monkeypatch.setattr(connection.Session, "put", lambda s, path, x: (sent.append(path), put(s, path, x)))
    job = job_of(made_bundle, ".tflite", runs=1)
    with targets.connect(board.target, {}) as there:
        first, second = there.run(job), there.run(job)
    np.testing.assert_array_equal(first.last["y"], second.last["y"])
    assert sum(path.startswith("artifacts/") for path in sent) == 1


def run_lost(board: Sshd, bundle: Path, do: Callable[[], object], suffix: str = ".onnx") -> Measurement:
    with targets.connect(board.target, {}) as there, once_it_runs(board, do):
        return there.run(job_of(bundle, suffix, runs=MANY))


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_lost_connection_keeps_the_samples(suffix: str, board: Sshd, made_bundle: Path) -> None:
    seen = run_lost(board, made_bundle, board.drop, suffix)
    assert f"the connection to {board.target} was lost" in seen.stopped
    assert 0 < len(seen.samples_ns) < MANY
    assert not seen.last
    assert board.left == []
    assert not workers(board)


def test_the_record_of_a_lost_connection(board: Sshd, edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    with once_it_runs(board, board.drop):
        answer = edgeattn("profile", made_bundle, "--target", board.target, "--runs", MANY, "--out", out)
    assert answer.code == 1, answer.err
    (record,) = records.load(out).records
    assert record.partial
    assert record.samples_ns
    assert "was lost" in record.untrusted[0]


def test_a_connection_that_is_lost_before_there_is_anything(board: Sshd, made_bundle: Path) -> None:
    """The worker's Python sleeps: as it is asked for its runtimes, so when the job is there the line is cut."""
    with targets.connect(board.target, {}) as there:
        board.script("slow", f'sleep 1; exec {sys.executable} "$@"')
        there.interpreter = replace(there.interpreter, path=str(board.bin / "slow"))
        threading.Timer(0.5, board.drop).start()
        with pytest.raises(TargetError, match=r"did not run on .*: the connection to ssh://.* was lost"):
            there.run(job_of(made_bundle, ".onnx", runs=1))


def test_interleaved(board: Sshd, made_bundle: Path) -> None:
    jobs = [job_of(made_bundle, suffix, runs=5) for suffix in (".onnx", ".tflite")]
    with targets.connect(board.target, {}) as there:
        onnx, tflite = there.run_interleaved(jobs)
    assert (onnx.runtime, tflite.runtime) == ("onnxruntime", "litert")
    assert len(onnx.samples_ns) == len(tflite.samples_ns) == 5
    assert onnx.device.details["package"] != tflite.device.details["package"]


def test_an_interrupt_keeps_the_samples(board: Sshd, edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with once_it_runs(board, lambda: os.kill(os.getpid(), signal.SIGINT)):
            answer = edgeattn("profile", made_bundle, "--target", board.target, "--runs", MANY, "--out", out)
    finally:
        signal.signal(signal.SIGINT, before)
    assert answer.code == 130, answer.err
    (record,) = records.load(out).records
    assert record.samples_ns
    assert "interrupted, after" in record.untrusted[0]


def test_a_worker_that_crashes(board: Sshd, made_bundle: Path) -> None:
    job = job_of(made_bundle, ".onnx", runs=3)
    with targets.connect(board.target, {}) as there:
        with once_it_runs(board, lambda: end_the_worker(board)):
            seen = there.run(job_of(made_bundle, ".onnx", runs=MANY))
        assert seen.stopped.startswith("it was ended by SIGKILL, after ")
        assert seen.samples_ns
        assert not there.run(job).stopped


def test_what_a_raspberry_pi_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, text in {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd0b\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/devices/system/cpu/online": "0-3\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "2400000\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setenv("PATH", "/nowhere")
    facts = _board.facts(str(tmp_path))
    assert facts["name"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert facts["details"]["system"] == "Debian GNU/Linux 12 (bookworm)"
    assert facts["details"]["cores"] == "0-3"
    assert _board.state(str(tmp_path)) == {
        "policy0": "1500 MHz (ondemand, at most 2400 MHz)",
        "zone cpu-thermal": "48.3 °C",
        "throttling": "under-voltage now, throttled now, under-voltage since the start, throttled since the start",
    }
    assert _board.state(str(tmp_path / "nothing")) == {}


@pytest.mark.parametrize(
    ("before", "after", "warned"),
    [
        ("none", "none", False),
        ("throttled since the start", "throttled since the start", False),
        ("none", "throttled since the start", True),
        ("throttled now", "throttled now", True),
    ],
)
def test_a_board_that_slowed_down(before: str, after: str, warned: bool) -> None:
    assert bool(ssh._throttled({"throttling": before}, {"throttling": after})) is warned
    assert not ssh._throttled({}, {})
