"""A user's model runs in a process of its own: however that ends, the command has its exit code and leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODEL = """
import ctypes, os, subprocess, sys, threading, time, torch
from torch import nn
class M(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.layer, self.what = nn.Conv2d(3, 4, 1), what
    def forward(self, x):
        exec(self.what, globals())
        return self.layer(x)
def make(): return M(os.environ["DO"]).eval(), torch.rand(1, 3, 4, 4)
"""
HANG = "open('reached', 'w'); time.sleep(600)"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the model, and one for scratch files, of which nothing may be left."""
    (tmp_path / "m.py").write_text(MODEL)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not list((tmp_path / "scratch").iterdir())


def start(do: str, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "edgeattn", "export", "m.py:make", "--format", "onnx", "--out", "b", *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | {"DO": do}, stdout=pipe, stderr=pipe, text=True)


def export(do: str, *more: str) -> tuple[int, str, str]:
    process = start(do, *more)
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("os.abort()", "the model's code ended the process by SIGABRT; nothing was written"),
        ("ctypes.CDLL(None)._exit(0)", "with exit code 0"),
        ("ctypes.string_at(0)", "by SIGSEGV"),
        ("os.kill(os.getpid(), 9)", "by SIGKILL"),
        # In the middle of the export: its scratch folder is there.
        ("if os.path.exists('b') or any(n.startswith('.b.') for n in os.listdir()): os.abort()", "by SIGABRT"),
    ],
)
def test_an_end(do: str, said: str) -> None:
    code, out, err = export(do, "--json")
    assert code == 2
    assert said in json.loads(out)["error"]
    assert "Traceback" not in err
    assert not Path("b").exists()


def test_what_the_code_writes_is_apart() -> None:
    code, out, err = export("os.write(1, b'past\\n'); print('printed'); subprocess.run(['echo', 'below'])", "--json")
    assert code == 0
    assert json.loads(out)["passed"]
    assert {"past", "printed", "below"} <= set(err.split())


def test_a_thread_that_never_ends_keeps_nobody() -> None:
    code, out, _ = export("threading.Thread(target=time.sleep, args=(600,)).start()")
    assert code == 0
    assert "Bundle b" in out


def test_bounds() -> None:
    assert export("time.sleep(600)", "--time-limit", "4")[::2] == (
        2,
        "edgeattn: it did not come to an end within --time-limit; nothing was written\n",
    )
    code, _, err = export("torch.ones(10**9)", "--memory-limit", "3")
    assert code == 2
    assert "memory" in err
    assert len(err.splitlines()) == 1
    assert export("torch.ones(10**7)", "--memory-limit", "3", "--time-limit", "600")[0] == 0
    for option in ("--time-limit", "--memory-limit"):
        code, _, err = export("", option, "0")
        assert code == 2
        assert f"{option} must be a positive number" in err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"])
def test_a_signal_to_the_command_alone(name: str, folder: Path) -> None:
    process = start(HANG)
    until = time.monotonic() + 120
    while not (folder / "reached").exists() and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)  # until the other process, which holds these pipes too, is gone
    assert err == "edgeattn: interrupted; nothing was written\n"
    assert process.returncode == (-signal.SIGKILL if name == "SIGKILL" else 130)
    if name == "SIGKILL":  # nobody is left to delete it
        for left in (folder / "scratch").iterdir():
            left.rmdir()


def test_the_umask_is_followed(folder: Path) -> None:
    os.umask(saved := os.umask(0o077))
    try:
        os.umask(0o027)
        assert export("")[0] == 0
        subprocess.run([sys.executable, "-m", "edgeattn", "report", "b", "--out", "r.md"], check=True)
    finally:
        os.umask(saved)
    assert (folder / "b").stat().st_mode & 0o777 == 0o750
    assert (folder / "r.md").stat().st_mode & 0o777 == 0o640
