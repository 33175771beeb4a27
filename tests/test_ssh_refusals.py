"""Boards over ssh that cannot be reached, or lack something: one clear sentence, and nothing left behind."""

import ast
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from pathlib import Path

import pytest
import sshd
from conftest import Answer
from sshd import Sshd
from test_targets import job_of

from edgeattn import targets
from edgeattn.errors import TargetError
from edgeattn.system.progress import silent
from edgeattn.targets.ssh import connection, install
from edgeattn.targets.ssh.connection import Address, CommandResult

Command = Callable[..., Answer]


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
        assert Address.parse(text).arguments == words
        assert str(Address.parse(text)) == f"ssh:{text.rstrip('/')}"


@pytest.mark.parametrize("cores", ["x", "-1", "0-", "3-1", "999", "", "0x0"])
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
    here = [record for record in here if record["runtime"] != "executorch"]  # it needs torch on the board
    assert [(r["runtime"], r["runtime_version"]) for r in there] == [(r["runtime"], r["runtime_version"]) for r in here]
    assert all(".cache/edgeattn/board/bin/python" in r["device"]["details"]["python"] for r in there)
    made = (board.home / ".cache/edgeattn/board/pyvenv.cfg").stat().st_mtime_ns
    assert refused(edgeattn, made_bundle, board.target, "--install", "--runs", 3).code == 0
    assert (board.home / ".cache/edgeattn/board/pyvenv.cfg").stat().st_mtime_ns == made
    subprocess.run(["rm", "-r", board.home / ".cache/edgeattn"], check=True)


def test_an_installation_that_fails(
    board: Sshd, bare_python: Path, edgeattn: Command, made_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "PACKAGES", dict.fromkeys(install.PACKAGES, (("not-a-package",),)))
    board.use(bare_python)
    board.profile("export PIP_NO_INDEX=1")
    answer = refused(edgeattn, made_bundle, board.target, "--install")
    assert answer.code == 3
    assert "could install no runtime: ERROR: No matching distribution found for not-a-package" in answer.err
    assert not (board.home / ".cache/edgeattn/board").exists()


class OldBoard:
    """Takes tflite-runtime alone, as pip on a 32-bit board does."""

    address = "ssh://old"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def scratch(self, path: str) -> AbstractContextManager[None]:
        return nullcontext()

    def run(self, command: list[str]) -> CommandResult:
        self.asked.append([word for word in command if word not in install.PIP][1:])
        refused = "pip" in command and "tflite-runtime==2.14.0" not in command
        return CommandResult(int(refused), "", "ERROR: No matching distribution found\n" if refused else "")


def test_what_is_tried_in_an_installation() -> None:
    board, here = OldBoard(), metadata.version
    install.install(board, "python3", "there", ["onnxruntime", "litert"], silent)
    assert board.asked == [
        ["venv", "--clear", "there"],
        [f"onnxruntime=={here('onnxruntime')}"],
        ["onnxruntime"],
        [f"ai-edge-litert=={here('ai-edge-litert')}"],
        ["ai-edge-litert"],
        ["tflite-runtime==2.14.0", "numpy<2"],
    ]


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
    monkeypatch.setattr(connection, "HELLO_S", 1)
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
    agent.write_text(connection.AGENT.read_text().replace('"file": path,', '"file": "../" + path.replace("/", "-"),'))
    monkeypatch.setattr(connection, "AGENT", agent)
    with targets.connect(board.target, {}) as there, pytest.raises(TargetError, match="left no result"):
        there.run(job_of(made_bundle, ".onnx", runs=3))


def test_a_board_that_talks_nonsense(board: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = tmp_path / "agent.py"
    agent.write_text(connection.AGENT.read_text().replace("json.dumps(message).encode()", 'b"nonsense"'))
    monkeypatch.setattr(connection, "AGENT", agent)
    said = r"sent an invalid message \(nonsense: Invalid JSON"
    with pytest.raises(TargetError, match=said), targets.connect(board.target, {}):
        pass


def test_the_agent_can_be_read_by_an_old_python() -> None:
    ast.parse(connection.AGENT.read_text(), feature_version=(3, 8))
