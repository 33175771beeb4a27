"""A real sshd on loopback, which stands for a board: its own port, keys, home folder and place for temporary files.

All of it lies in one folder; neither the user's ~/.ssh nor the machine's sshd is touched. It needs root, as Debian's
sshd does.
"""

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {"openssh-server": "/usr/sbin/sshd", "openssh-client": "ssh-keygen"}


def missing() -> str | None:
    """Why there can be no sshd here, or None."""
    absent = [name for name, program in PACKAGES.items() if shutil.which(program) is None]
    if absent:
        return f"not installed: apt-get install -y {' '.join(absent)}"
    return None if os.geteuid() == 0 else "sshd on loopback is started as root"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Sshd:
    """A board. ``home`` and ``tmp`` are its folders, ``bin`` is the first in its PATH, ``client`` has a ``ssh`` that
    knows the key and the host, and no other configuration."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def client(self) -> Path:
        return self.folder / "client"

    @property
    def target(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def left(self) -> list[str]:
        """What is left in the places where something is put; after a lost line it takes a moment until it is gone."""
        until = time.monotonic() + 10
        while (found := sorted(path.name for path in self.tmp.iterdir())) and time.monotonic() < until:
            time.sleep(0.05)
        return found

    @property
    def sessions(self) -> list[int]:
        """The processes of sshd that serve a connection."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in children.split()]

    def drop(self) -> None:
        """Lose every connection."""
        for session in self.sessions:
            os.kill(session, signal.SIGKILL)

    def profile(self, text: str) -> None:
        """What bash reads there before any command."""
        (self.home / ".bashrc").write_text(text)

    def use(self, python: Path) -> None:
        """Which Python the board has."""
        self.script("python3", f'exec {shlex.quote(str(python))} "$@"')

    def script(self, name: str, text: str) -> None:
        """A program of the board."""
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)


@contextmanager
def start(folder: Path, python: Path) -> Iterator[Sshd]:
    """Start one in ``folder``, which is empty; its ``python3`` is ``python``."""
    port = free_port()
    for name in ("home", "tmp", "bin", "client"):
        (folder / name).mkdir()
    for key in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    environment = {
        "HOME": folder / "home",
        "TMPDIR": folder / "tmp",
        "XDG_CACHE_HOME": folder / "home/.cache",
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
    }
    config = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "UsePAM": "no",
        "StrictModes": "no",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "SetEnv": " ".join(f"{name}={value}" for name, value in environment.items()),
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
    Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        board = Sshd(folder, port, process)
        board.use(python)
        login(board, key="user", known=True)
        try:
            _wait(board)
            yield board
        finally:
            board.drop()
            process.terminate()
            process.wait()


def login(board: Sshd, *, key: str, known: bool) -> None:
    """Say what ``ssh`` does from now on: which key it offers, and whether it knows the host. ``pi5`` is the name of the
    board in the user's configuration."""
    config = board.client / "config"
    config.write_text(
        f"Host pi5\nHostName 127.0.0.1\nPort {board.port}\nUser {getpass.getuser()}\n"
        f"Host *\nIdentityFile {board.folder / key}\nIdentitiesOnly yes\nIdentityAgent none\n"
        f"UserKnownHostsFile {board.folder / 'known_hosts' if known else '/dev/null'}\nGlobalKnownHostsFile /dev/null\n"
    )
    file = board.client / "ssh"
    file.write_text(f'#!/bin/sh\nexec {shutil.which("ssh", path=os.defpath)} -F {config} "$@"\n')
    file.chmod(0o755)


def _wait(board: Sshd) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and board.process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", board.port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"sshd did not start: {(board.folder / 'log').read_text()}")
