"""No command asks anything of another machine; only `setup` and the name of a model at a hub do.

Python is guarded from inside, in child processes too (tests/no_network). Native code is not seen by that: the one
library that is known to call home, onnxruntime, is looked for by the files that it then leaves.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUARD = ROOT / "tests" / "no_network"
COMMANDS = (
    "--help",
    "--version",
    "models",
    "doctor --json",
    "export attention --arg embed_dim=16 --arg pixels=4 --arg patches=16 --out made",
    "inspect made/attention-fp32.onnx",
    "inspect made/attention-fp32.tflite",
    "inspect made/attention-fp32.mlpackage",
    "parity b",
    "parity b --layers",
    "compare b b",
    "profile b --runs 3 --warmup 1 --out old.json",
    "profile b --runs 3 --warmup 1 --out new.json",
    "compare old.json new.json",
    "report old.json b --out report.html",
    "study layout --quick --out study",
)
# All in one process, as PyTorch takes seconds to import. The study on its smallest module only.
RUN_ALL = """
import contextlib, json, os, sys
from edgeattn.cli import main as cli
from edgeattn.profile.studies import layout
small = layout.STUDY.groups(True)[:1]
layout.STUDY.groups = lambda quick: small
codes = {}
for line in sys.argv[1:]:
    sys.argv = ["edgeattn", *line.split()]
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        try:
            cli.main()
        except SystemExit as stop:
            codes[line] = stop.code
print(json.dumps(codes))
"""


def guarded(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Python under guard, with a home of its own and not as in a CI, where onnxruntime is silent by itself."""
    log = folder / "guard.txt"
    clean = {key: value for key, value in os.environ.items() if key not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    path = os.pathsep.join(map(str, (GUARD, ROOT)))
    own = {"PYTHONPATH": path, "EDGEATTN_GUARD": str(log), "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**clean, **own}, capture_output=True, text=True, check=False
    )
    return done, log.read_text().splitlines()


def left_by_onnxruntime(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if ".onnxruntime" in file.parts]


def test_no_command_asks_another_machine(made_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to(made_bundle)
    done, log = guarded(tmp_path, "-c", RUN_ALL, *COMMANDS)
    assert done.returncode == 0, done.stderr
    # Two measurements on a busy machine: a regression that is certain is an answer too.
    answers = {line: {0, 1} if line == "compare old.json new.json" else {0} for line in COMMANDS}
    wrong = {line: code for line, code in json.loads(done.stdout).items() if code not in answers[line]}
    assert not wrong, done.stderr
    assert [line for line in log if not line.startswith("guarded")] == []
    # This one, the probes of inspect, parity and compare, the workers of profile, study and doctor.
    assert len(log) >= 8
    assert left_by_onnxruntime(tmp_path) == []


CALLS = {
    "a connection": "socket.create_connection(('192.0.2.1', 80), 1)",
    "a name": "socket.getaddrinfo('example.org', 80)",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
    "a page": "urllib.request.urlopen('https://example.org')",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("child", [False, True], ids=["here", "in a child"])
def test_the_guard_sees(call: str, child: bool, tmp_path: Path) -> None:
    """Also where its error is swallowed."""
    code = f"import socket, urllib.request\ntry:\n    {call}\nexcept OSError:\n    pass"
    if child:
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-P', '-c', {code!r}])"
    _, log = guarded(tmp_path, "-c", code)
    assert any(line.startswith("asked ") for line in log)


def test_the_guard_lets_this_machine_talk_to_itself(tmp_path: Path) -> None:
    code = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()): pass
with socket.socket(socket.AF_UNIX) as one:
    one.bind("s"); one.listen()
    socket.socket(socket.AF_UNIX).connect("/proc/self/cwd/s")
"""
    done, log = guarded(tmp_path, "-W", "ignore", "-c", code)
    assert done.returncode == 0, done.stderr
    assert log == [log[0]]


@pytest.mark.parametrize("ours", [True, False], ids=["with export", "without"])
def test_onnxruntime_does_not_call_home(ours: bool, made_bundle: Path, tmp_path: Path) -> None:
    """Without export's setting it leaves an identifier of the machine in the cache: so it would be seen."""
    if not ours and sys.platform != "linux":
        pytest.skip("onnxruntime's folder in the user's cache is known for Linux only")
    shutil.copy(made_bundle / "attention-fp32.onnx", tmp_path / "a.onnx")
    code = "import onnxruntime; onnxruntime.InferenceSession('a.onnx', providers=['CPUExecutionProvider'])"
    done, _ = guarded(tmp_path, "-c", ("from edgeattn import export; " if ours else "") + code)
    assert done.returncode == 0, done.stderr
    assert bool(left_by_onnxruntime(tmp_path)) is not ours
