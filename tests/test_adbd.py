"""The loopback phone itself, as the real `adb` sees it: files, ports that are forwarded back, addresses to open."""

import socket
import subprocess
from pathlib import Path

from attached import Attach


def adb(serial: str, *words: str) -> str:
    done = subprocess.run(["adb", "-s", serial, *words], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


def test_reverse(attach: Attach) -> None:
    phone = attach()
    with socket.create_server(("127.0.0.1", 0)) as served:
        here = f"tcp:{served.getsockname()[1]}"
        port = int(adb(phone.serial, "reverse", "tcp:0", here))
        assert adb(phone.serial, "reverse", "--list").split() == ["host", f"tcp:{port}", here]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as on_the_phone:
            accepted, _ = served.accept()
            with accepted:
                on_the_phone.sendall(b"question")
                assert accepted.recv(100) == b"question"
                accepted.sendall(b"answer" * 50_000)
            answer = b""
            while part := on_the_phone.recv(65536):
                answer += part
            assert answer == b"answer" * 50_000
    adb(phone.serial, "reverse", "--remove-all")
    assert adb(phone.serial, "reverse", "--list").split() == []


def test_an_address_is_opened(attach: Attach) -> None:
    opened: list[str] = []
    phone = attach(view=opened.append)
    words = ("am", "start", "-a", "android.intent.action.VIEW", "-d", "'http://localhost:8/?a=1&b=2'")
    assert "Starting: Intent" in adb(phone.serial, "shell", *words)
    assert opened == ["http://localhost:8/?a=1&b=2"]


def test_files_come_back_as_they_went(attach: Attach, tmp_path: Path) -> None:
    phone = attach()
    content = bytes(range(256)) * 1000
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(content)
    adb(phone.serial, "push", f"{tmp_path}/a/.", "/data/local/tmp/b")
    adb(phone.serial, "pull", "/data/local/tmp/b/.", str(tmp_path))
    assert (tmp_path / "file").read_bytes() == content
