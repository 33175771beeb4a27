"""A board over ssh that lies, floods, hangs or dies: one sentence, what came before is kept, memory is bounded."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer

from edgeattn.bundle import records
from edgeattn.targets.ssh import connection

Command = Callable[..., Answer]
FAKE = Path(__file__).parent / "hostile_ssh"
TARGET = "ssh://pi@127.0.0.1"
INVALID = "sent an invalid message"
UNREADABLE = "gave no readable result"
# What ends the session before anything has been measured: nothing is written.
REFUSED = {
    "hello_flood": "sent a line of more than 1,048,576 bytes",
    "hello_lines": "sent more than 1,048,576 bytes before it was ready",
    "stderr_flood": "cannot be reached: EEE",
    "line_endless": "sent a line of more than 1,048,576 bytes",
    "size_huge": "bytes that were not asked for",
    "size_negative": INVALID,
    "size_minus_one": INVALID,
    "size_infinite": INVALID,
    "size_list": INVALID,
    "deep": INVALID,
    "array": INVALID,
    "no_text": INVALID,
    "large": "sent a line of more than 1,048,576 bytes",
    "error_escapes": "cannot facts: \ufffd]0;pwned\ufffd\ufffd[2J\ufffdboom",
    "error_object": INVALID,
    "error_long": "cannot facts: long long",
    "facts_missing": INVALID,
    "facts_types": INVALID,
    "facts_cores": INVALID,
    "facts_huge_core": INVALID,
    "facts_path": INVALID,
    "state_missing": INVALID,
    "state_type": INVALID,
    "probe_lacks": "has no runtime",
    "at_negative": INVALID,
    "at_infinite": INVALID,
    "file_list": INVALID,
    "hole": "has nothing before it",
    "result_types": UNREADABLE,
    "result_unsettled": UNREADABLE,
    "result_unsettled_time": UNREADABLE,
    "result_error": "\ufffd]0;pwned\ufffd\ufffd[2J\ufffdboom",
    "result_error_list": UNREADABLE,
    "result_nan": UNREADABLE,
    "result_row": UNREADABLE,
    "result_row_nan": UNREADABLE,
    "result_beyond_float": UNREADABLE,
    "result_negative": UNREADABLE,
    "samples_negative": "which is no time in ns",
    "samples_big": "which is no time in ns",
    "samples_arabic": "which is no time in ns",
    "shape_huge": UNREADABLE,
    "shape_code": UNREADABLE,
}
# What comes after samples: they are kept, and the record says what happened.
KEPT = {
    "late_line": "sent a line of more than 1,048,576 bytes, and was cut off, after 2 of 3 runs",
    "late_file": "bytes, and was cut off, after 2 of 3 runs",
    "samples_many": "sent more samples than it may, after 3 of 3 runs",
    "samples_some_more": "sent more samples than it may, after 3 of 3 runs",
}
# What is odd, and hurts nobody: the measurement is whole.
HARMLESS = [
    *("honest", "facts_escapes", "state_escapes", "probe_escapes", "result_escapes", "result_outputs", "paths"),
    *("result_dies", "code_odd", "code_text", "code_infinite", "code_large", "code_missing", "error_flood"),
]


@pytest.fixture
def profile(edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`edgeattn profile` of one artifact on a board that tells the lie of this name."""
    monkeypatch.setenv("PATH", f"{FAKE}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def run(evil: str) -> Answer:
        monkeypatch.setenv("EVIL", evil)
        return edgeattn("profile", made_bundle, "--target", TARGET, "--runs", 3, "--out", tmp_path / "r.json")

    return run


def is_safe(answer: Answer) -> bool:
    text = answer.out + answer.err
    return "Traceback" not in text and not any(c in text for c in "\x1b\x07\u202e") and len(answer.err) < 2000


@pytest.mark.parametrize("evil", REFUSED)
def test_a_lie_is_one_sentence(evil: str, profile: Command, tmp_path: Path) -> None:
    answer = profile(evil)
    assert is_safe(answer), answer.err[-2000:]
    assert answer.code in (1, 2, 3)
    assert REFUSED[evil] in answer.err
    assert answer.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("evil", KEPT)
def test_what_came_before_is_kept(evil: str, profile: Command, tmp_path: Path) -> None:
    answer = profile(evil)
    assert is_safe(answer), answer.err[-2000:]
    assert answer.code == 1
    for record in records.load(tmp_path / "r.json").records:
        assert record.partial
        assert KEPT[evil] in record.untrusted[0]
        assert set(record.samples_ns) == {1000}


@pytest.mark.parametrize("evil", HARMLESS)
def test_what_hurts_nobody(evil: str, profile: Command, tmp_path: Path) -> None:
    answer = profile(evil)
    assert is_safe(answer), answer.err[-2000:]
    found = records.load(tmp_path / "r.json").records
    assert {record.samples_ns for record in found} == {(1000, 1000, 1000)}
    assert not any(record.partial for record in found)
    assert not set("\x1b\x07\u202e") & set((tmp_path / "r.json").read_text())
    assert {file.name for file in tmp_path.iterdir()} == {"r.json"}


@pytest.mark.parametrize(
    ("evil", "bound", "said"),
    [
        ("silence", "ANSWER_S", "did not answer the request to facts within 1 s, and was cut off"),
        ("put_silence", "ANSWER_S", "within 1 s, and was cut off"),
        ("late_silence", "SILENCE_S", "did not answer the request to run within 1 s, and was cut off, after 2 of 3"),
        ("late_silence", "LONGEST_S", "did not answer the request to run within 1 s, and was cut off, after 2 of 3"),
    ],
)
def test_a_board_that_says_nothing(
    evil: str, bound: str, said: str, profile: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connection, bound, 1.0)
    answer = profile(evil)
    assert is_safe(answer), answer.err[-2000:]
    assert answer.code == 1
    told = [record.untrusted[0] for record in records.load(tmp_path / "r.json").records] if "late" in evil else []
    assert said in " ".join([answer.err, *told])


PEAK = """
import resource, sys
from edgeattn.cli import main
from edgeattn.targets.ssh import connection
base = []
real = connection.session
def session(*arguments):
    base.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return real(*arguments)
from edgeattn.targets import ssh
ssh.session = session
try:
    main.main()
finally:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base[0]) // 1024)
"""


@pytest.mark.parametrize("evil", ["honest", "hello_flood", "line_endless", "late_line", "late_file", "samples_many"])
def test_memory_is_bounded(evil: str, made_bundle: Path, tmp_path: Path) -> None:
    """Each flood is of 300 MB."""
    command = [sys.executable, "-c", PEAK, "profile", made_bundle, "--target", TARGET, "--runs", "3", "--out", "r.json"]
    path = f"{FAKE}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PATH": path, "EVIL": evil}, capture_output=True, text=True
    )
    assert int(ended.stdout.splitlines()[-1]) < 200, ended.stderr
