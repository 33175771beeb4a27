"""Boards over ssh, against a real sshd on loopback: the same record, clear errors, and nothing left behind."""

import json
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
import sshd
from conftest import Answer
from sshd import Sshd
from test_targets import job_of

from edgeattn import records
from edgeattn.errors import TargetError
from export import targets
from export.targets import Measurement, _board, _ssh_session
from export.targets._ssh_session import Address

Command = Callable[..., Answer]
MANY = 10**9
# A cache that outlives the tests: the last tflite-runtime in an environment of its own.
OLD_RUNTIME = ("tflite-runtime==2.14.0", "numpy==1.26.4")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if absent := sshd.missing():
        pytest.skip(absent)
    with sshd.start(tmp_path_factory.mktemp("board"), Path(sys.executable)) as board:
        yield board


@pytest.fixture
def board(served: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """The board as it was; whatever a test does to it, nothing of ours may be left on it."""
    monkeypatch.setenv("PATH", f"{served.client}{os.pathsep}{os.environ['PATH']}")
    sshd.login(served, key="user", known=True)
    served.use(Path(sys.executable))
    served.profile("")
    yield served
    assert served.left == []


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with no package at all."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def old_python() -> Path:
    """A Python with tflite-runtime alone; the folder appears when it is whole."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeattn"
    folder = cache / f"tests-tflite-runtime-{sys.version_info.major}.{sys.version_info.minor}"
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
        time.sleep(3 * _board.LOOK_S)
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
            if here and b"\0_worker.py\0" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def end_the_worker(board: Sshd) -> None:
    for worker in workers(board):
        os.kill(worker, signal.SIGKILL)


def lean(bundle: Path) -> Path:
    """With its first case alone."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["golden"] = dict([next(iter(manifest["golden"].items()))])
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


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
        assert record.device.details["cores used"] == str(core)
        assert record.before["throttling"] == "under-voltage since the start, throttled since the start"
        assert record.before.keys() == record.after.keys()
        assert not record.partial
    assert record.device.details["package"].startswith("ai-edge-litert ")


def test_parity(board: Sshd, edgeattn: Command, bundle: Path) -> None:
    answer = edgeattn("parity", lean(bundle), "--target", board.target, "--json")
    assert answer.code == 0, answer.err
    found = {row["runtime"] for row in answer.document["rows"] if row["hop"] == "conversion"}
    assert found == {f"{runtime} on {board.target}" for runtime in ("onnxruntime", "litert")}


def test_the_last_tflite_runtime(board: Sshd, old_python: Path, edgeattn: Command, bundle: Path) -> None:
    there = ("--target", board.target, "--python", old_python, "--json")
    answer = edgeattn("parity", lean(bundle), *there)
    assert answer.code == 0, answer.err
    assert [row["candidate"] for row in answer.document["rows"] if row["hop"] == "conversion"]
    assert any("does not run onnx" in entry["reason"] for entry in answer.document["not_run"])
    (record,) = edgeattn("profile", bundle, *there, "--runs", 5).document["records"]
    assert (record["runtime"], record["runtime_version"]) == ("litert", "2.14.0")
    assert record["device"]["details"]["package"] == "tflite-runtime 2.14.0"
    assert str(old_python) in record["device"]["details"]["python"]


def test_other_outputs_there_are_seen(board: Sshd, edgeattn: Command, bundle: Path) -> None:
    """A runtime that is off by a thousandth, as a damaged one would be."""
    folder = board.home / "off"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "import numpy, sys\nsave = numpy.save\n"
        "numpy.save = lambda path, x: save(path, x * numpy.float32(1.001)) if 'last' in path else save(path, x)\n"
    )
    board.script("python3", f'PYTHONPATH={folder} exec {sys.executable} "$@"')
    answer = edgeattn("parity", lean(bundle), "--target", board.target)
    assert answer.code == 1, answer.err
    assert "other outputs in its last run than in its first" in answer.out


def test_cores_are_those(board: Sshd) -> None:
    core = max(os.sched_getaffinity(0))
    with _ssh_session.session(Address.parse(board.target.partition(":")[2]), "python3") as opened:
        said = opened.run(["python3", "-c", "import os; print(os.sched_getaffinity(0))"], cores=[core]).out
    assert said.strip() == f"{{{core}}}"


def test_an_artifact_goes_over_once(board: Sshd, made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, sent = _ssh_session.Session.put, []
    monkeypatch.setattr(_ssh_session.Session, "put", lambda s, path, x: (sent.append(path), put(s, path, x)))
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


def test_in_turn(board: Sshd, made_bundle: Path) -> None:
    jobs = [job_of(made_bundle, suffix, runs=5) for suffix in (".onnx", ".tflite")]
    with targets.connect(board.target, {}) as there:
        onnx, tflite = there.run_in_turn(jobs)
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
    assert answer.code == 1, answer.err
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


def refused(edgeattn: Command, bundle: Path, target: str, *options: object) -> Answer:
    return edgeattn("profile", bundle, "--target", target, *options)


def test_a_wrong_key(board: Sshd, edgeattn: Command, made_bundle: Path) -> None:
    sshd.login(board, key="stranger", known=True)
    answer = refused(edgeattn, made_bundle, board.target)
    assert answer.code == 3
    assert "does not accept a key of yours" in answer.err
    assert f"ssh-copy-id -p {board.port}" in answer.err


def test_an_unknown_host_key(board: Sshd, edgeattn: Command, made_bundle: Path) -> None:
    sshd.login(board, key="user", known=False)
    answer = refused(edgeattn, made_bundle, board.target)
    assert answer.code == 3
    assert "ssh does not know the host key" in answer.err


def test_another_host_key(board: Sshd, edgeattn: Command, made_bundle: Path) -> None:
    known = board.folder / "known_hosts"
    right = known.read_text()
    known.write_text(f"[127.0.0.1]:{board.port} {(board.folder / 'stranger.pub').read_text()}")
    answer = refused(edgeattn, made_bundle, board.target)
    known.write_text(right)
    assert answer.code == 3
    assert "or knows another" in answer.err


def test_no_such_host_and_a_closed_port(board: Sshd, edgeattn: Command, made_bundle: Path) -> None:
    answer = refused(edgeattn, made_bundle, "ssh://root@nosuch.invalid")
    assert answer.code == 3
    assert "cannot be reached: ssh: Could not resolve hostname" in answer.err
    answer = refused(edgeattn, made_bundle, f"ssh://root@127.0.0.1:{sshd.free_port()}")
    assert answer.code == 3
    assert "Connection refused" in answer.err


def test_no_ssh_here(edgeattn: Command, made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    answer = refused(edgeattn, made_bundle, "ssh://pi@raspberrypi")
    assert answer.code == 3
    assert "apt-get install openssh-client" in answer.err


@pytest.mark.parametrize(
    "address",
    [
        "",
        "pi@raspberrypi",
        "//",
        "//-oProxyCommand=touch${IFS}owned",
        "//pi@-oProxyCommand=x",
        "//-l@host",
        "//pi;id@host",
        "//pi@host$(id)",
        "//pi@host`id`",
        "//pi@host:0",
        "//pi@host:65536",
        "//pi@host:22x",
        "//pi@host\n",
        "//pi:password@host",
        "//pi@host/folder",
        "//pi@[-x]",
    ],
)
def test_what_is_no_address(address: str, edgeattn: Command, made_bundle: Path) -> None:
    answer = refused(edgeattn, made_bundle, f"ssh:{address}")
    assert answer.code == 2
    assert "write ssh://user@host" in answer.err


def test_addresses() -> None:
    for text, words in {
        "//pi@raspberrypi": ["pi@raspberrypi"],
        "//board-2.local:2222/": ["-p", "2222", "board-2.local"],
        "//pi@[fe80::1%eth0]:22": ["-p", "22", "pi@fe80::1%eth0"],
    }.items():
        assert Address.parse(text).words == words
        assert str(Address.parse(text)) == f"ssh:{text.rstrip('/')}"


@pytest.mark.parametrize("cores", ["x", "-1", "0-", "3-1", "4096", ""])
def test_cores_that_are_not_there(cores: str, board: Sshd, edgeattn: Command, made_bundle: Path) -> None:
    answer = refused(edgeattn, made_bundle, board.target, f"--cores={cores}")
    assert answer.code == 2
    assert "cores" in answer.err


def test_no_python_there(board: Sshd, edgeattn: Command, made_bundle: Path) -> None:
    answer = refused(edgeattn, made_bundle, board.target, "--python", "~/no such python; exit 0")
    assert answer.code == 3
    assert "install Python there" in answer.err


def test_an_old_python_there(board: Sshd, edgeattn: Command, made_bundle: Path) -> None:
    old = "import sys; sys.version_info = (3, 7, 3); exec(sys.argv.pop(1))"
    board.script("python3", f'shift 2; exec {sys.executable} -u -c "{old}" "$@"')
    answer = refused(edgeattn, made_bundle, board.target)
    assert answer.code == 3
    assert "older than Python 3.8" in answer.err


def test_no_runtime_there(board: Sshd, bare_python: Path, edgeattn: Command, made_bundle: Path) -> None:
    answer = refused(edgeattn, made_bundle, board.target, "--python", bare_python)
    assert answer.code == 3
    assert "has no runtime; --install makes an environment" in answer.err


def test_an_installation(board: Sshd, bare_python: Path, edgeattn: Command, made_bundle: Path) -> None:
    """Really, from the package index; the second time it is there."""
    board.use(bare_python)
    answer = refused(edgeattn, made_bundle, board.target, "--install", "--runs", 3, "--json")
    assert answer.code == 0, answer.err
    here = refused(edgeattn, made_bundle, "host", "--runs", 3, "--json").document["records"]
    there = answer.document["records"]
    assert [(r["runtime"], r["runtime_version"]) for r in there] == [(r["runtime"], r["runtime_version"]) for r in here]
    assert all(".cache/edgeattn/board/bin/python" in r["device"]["details"]["python"] for r in there)
    made = (board.home / ".cache/edgeattn/board/pyvenv.cfg").stat().st_mtime_ns
    assert refused(edgeattn, made_bundle, board.target, "--install", "--runs", 3).code == 0
    assert (board.home / ".cache/edgeattn/board/pyvenv.cfg").stat().st_mtime_ns == made
    subprocess.run(["rm", "-r", board.home / ".cache/edgeattn"], check=True)


def test_an_installation_that_fails(board: Sshd, bare_python: Path, edgeattn: Command, made_bundle: Path) -> None:
    board.use(bare_python)
    board.profile("export PIP_NO_INDEX=1")
    answer = refused(edgeattn, made_bundle, board.target, "--install")
    assert answer.code == 3
    assert "could install no runtime: ERROR: No matching distribution found for onnxruntime" in answer.err
    assert not (board.home / ".cache/edgeattn/board").exists()


def test_a_python_without_venv(
    board: Sshd, bare_python: Path, tmp_path: Path, edgeattn: Command, made_bundle: Path
) -> None:
    """As Debian's is, if python3-venv is not installed."""
    (tmp_path / "venv.py").write_text("import sys; print('ensurepip is not available'); sys.exit(1)")
    board.use(bare_python)
    board.profile(f"export PYTHONPATH={tmp_path}")
    answer = refused(edgeattn, made_bundle, board.target, "--install")
    assert answer.code == 3
    assert "no virtual environment (ensurepip is not available)" in answer.err
    assert "apt-get install python3-venv" in answer.err


def test_a_lost_connection_in_an_installation(board: Sshd, bare_python: Path) -> None:
    board.use(bare_python)
    environment = board.home / ".cache/edgeattn/board"

    def cut() -> None:
        until = time.monotonic() + 60
        while not environment.exists() and time.monotonic() < until:
            time.sleep(0.01)
        board.drop()

    said: list[str] = []
    threading.Thread(target=cut).start()
    with pytest.raises(TargetError, match="was lost"), targets.connect(board.target, {"install": "yes"}, said.append):
        pass
    assert said == [f"{board.target}: {bare_python} -m venv --clear {environment}"]
    assert board.left == []
    assert not environment.exists()


def test_a_noisy_shell(board: Sshd, made_bundle: Path) -> None:
    board.profile(f"echo welcome; printf '{{\"ok\": true}}\\n\\377\\0'; echo warning >&2; touch {board.home}/seen")
    with targets.connect(board.target, {}) as there:
        seen = there.run(job_of(made_bundle, ".onnx", runs=3))
    assert len(seen.samples_ns) == 3
    assert (board.home / "seen").exists()


def test_a_shell_that_does_not_let_us_in(board: Sshd, edgeattn: Command, made_bundle: Path) -> None:
    board.profile("echo closed for today >&2; exit 5")
    answer = refused(edgeattn, made_bundle, board.target)
    assert answer.code == 1
    assert "ended with exit code 5, closed for today" in answer.err


def test_a_shell_that_hangs(board: Sshd, made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ssh_session, "HELLO_S", 1)
    board.profile("sleep 3")
    with pytest.raises(TargetError, match="did not answer within 1 s"), targets.connect(board.target, {}):
        pass


def test_no_room_there(board: Sshd, edgeattn: Command, made_bundle: Path) -> None:
    """No file may become larger than a kilobyte, as if the disk were full."""
    board.profile("ulimit -f 1")
    answer = refused(edgeattn, made_bundle, board.target)
    assert answer.code == 1
    assert f"{board.target} cannot put: [Errno 27] File too large" in answer.err


def test_a_board_cannot_write_where_it_likes(
    board: Sshd, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = tmp_path / "agent.py"
    agent.write_text(_ssh_session.AGENT.read_text().replace('"file": path,', '"file": "../" + path.replace("/", "-"),'))
    monkeypatch.setattr(_ssh_session, "AGENT", agent)
    with targets.connect(board.target, {}) as there, pytest.raises(TargetError, match="left no result"):
        there.run(job_of(made_bundle, ".onnx", runs=3))


def test_a_board_that_talks_nonsense(board: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = tmp_path / "agent.py"
    agent.write_text(_ssh_session.AGENT.read_text().replace("json.dumps(message).encode()", 'b"nonsense"'))
    monkeypatch.setattr(_ssh_session, "AGENT", agent)
    said = "said what is no message of ours: b'nonsense"
    with pytest.raises(TargetError, match=said), targets.connect(board.target, {}):
        pass


def test_what_a_raspberry_pi_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, text in {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd0b\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/devices/system/cpu/cpufreq/policy0/affected_cpus": "0 1 2 3\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "2400000\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setenv("PATH", "/nowhere")
    facts = _board.facts(str(tmp_path))
    assert facts["name"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert facts["details"]["system"] == "Debian GNU/Linux 12 (bookworm)"
    assert _board.state(str(tmp_path)) == {
        "governor of cpu 0 1 2 3": "ondemand",
        "frequency of cpu 0 1 2 3": "2400 MHz",
        "temperature cpu-thermal": "48.3 °C",
        "throttling": "under-voltage now, throttled now, under-voltage since the start, throttled since the start",
    }
    assert _board.state(str(tmp_path / "nothing")) == {}
