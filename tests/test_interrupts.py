"""Ctrl-C in a real process, at a moment that is waited for: the exit code, what is left, and the same command again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nothing_fetched
import pytest
from conftest import Answer

from edgeattn.bundle import records

Command = Callable[..., Answer]
ROOT = Path(__file__).parent.parent
# The command, but at its step number STEP it waits to be interrupted. A shell may have started the tests with
# interrupts ignored, which the command would inherit.
SCRIPT = """
import signal, sys
from pathlib import Path
from edgeattn.system.progress import silent
signal.signal(signal.SIGINT, signal.default_int_handler)
said = 0
def progress(self, text, /, weight=1):
    global said
    said += 1
    if said == STEP:
        Path("reached").touch()
        signal.pause()
type(silent).__call__ = progress
PRELUDE
sys.argv = ["edgeattn", *sys.argv[1:]]
from edgeattn.cli.main import main
main()
"""
SMALL = ("attention", "--arg", "embed_dim=16", "--arg", "pixels=4", "--arg", "patches=4", "--format", "onnx")


class Here:
    """A folder with the bundle ``made``, in which commands are run."""

    def __init__(self, folder: Path, made: Path) -> None:
        self.folder = folder
        (folder / "made").symlink_to(made)
        (folder / "scratch").mkdir()
        self.env = os.environ | {
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "TMPDIR": str(folder / "scratch"),
        }

    def start(self, *arguments: object, step: int = 0, prelude: str = "") -> "subprocess.Popen[str]":
        code = SCRIPT.replace("STEP", str(step)).replace("PRELUDE", prelude)
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def interrupted(
        self, process: "subprocess.Popen[str]", when: Callable[[], bool], number: int = signal.SIGINT
    ) -> Answer:
        """Ctrl-C to all of the process's group as soon as ``when`` is true; any other signal to the command alone."""
        until = time.monotonic() + 120
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert self.running() == []
        # onnxruntime leaves .ses, by its import alone.
        assert {path.name for path in (self.folder / "scratch").iterdir()} <= {".ses"}
        return Answer(process.returncode, out, err)

    def ended(self, process: "subprocess.Popen[str]") -> Answer:
        out, err = process.communicate(timeout=120)
        return Answer(process.returncode, out, err)

    def running(self) -> list[str]:
        """What was started by a command of this folder, and goes on; whatever group it is in."""
        mark = f"TMPDIR={self.env['TMPDIR']}\0".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def left(self) -> set[str]:
        """What it wrote; the cache is shared with the vendors, who put their own there."""
        cached = {path.name for path in self.folder.glob("cache/edgeattn/*/*")}
        return cached | {path.name for path in self.folder.iterdir()} - {"made", "scratch", "reached", "cache"}


@pytest.fixture
def here(tmp_path: Path, made_bundle: Path) -> Here:
    if not Path("/proc/self/environ").exists():
        pytest.skip("what goes on is seen in /proc, on Linux")
    return Here(tmp_path, made_bundle)


@pytest.mark.parametrize(
    ("step", "left", "prelude", "command"),
    [
        (4, set(), "", ("export", *SMALL, "--out", "b")),  # the conversion
        (6, set(), "", ("export", *SMALL, "--out", "b")),  # parity
        (2, set(), "", ("parity", "made", "--junit", "j.xml")),
        (5, set(), "", ("parity", "made", "--layers", "--picture", "p.svg")),
        (7, set(), "", ("parity", "made", "--self-test")),
        (2, set(), "", ("compare", "made", "made")),
        (2, set(), "", ("report", "made", "--out", "r.md")),
        (2, {"lock"}, nothing_fetched.CODE, ("setup", "emulated-arm")),
    ],
)
def test_nothing_is_left(
    step: int,
    left: set[str],
    prelude: str,
    command: tuple[str, ...],
    here: Here,
    edgeattn: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(here.folder)
    process = here.start(*command, step=step, prelude=prelude)
    answer = here.interrupted(process, (here.folder / "reached").exists)
    assert (answer.code, answer.out) == (130, "")
    assert answer.err == "edgeattn: interrupted; nothing was written\n"
    assert here.left() == left
    again = here.ended(here.start(*command, prelude=prelude)) if prelude else edgeattn(*command)
    assert again.code == 0, again.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("step", "command"),
    [(4, ("export", *SMALL, "--out", "b")), (2, ("parity", "made")), (7, ("parity", "made", "--self-test"))],
)
def test_ended_from_outside_as_by_ctrl_c(step: int, command: tuple[str, ...], number: int, here: Here) -> None:
    """A CI that cancels, a terminal that is closed."""
    process = here.start(*command, step=step)
    answer = here.interrupted(process, (here.folder / "reached").exists, number)
    assert (answer.code, answer.out) == (130, "")
    assert answer.err == "edgeattn: interrupted; nothing was written\n"
    assert here.left() == set()


def test_nohup_is_obeyed(here: Here) -> None:
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    process = here.start("parity", "made", step=2, prelude=ignored)
    while not (here.folder / "reached").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_the_precision_study_goes_on(here: Here) -> None:
    command = ("study", "precision", "--bundle", "made", "--format", "onnx", "--out", "p", "--json")
    answer = here.interrupted(here.start(*command, step=2), (here.folder / "reached").exists)
    assert answer.code == 130
    assert answer.err == "edgeattn: interrupted; the results so far are in p, and the same command resumes it\n"
    assert answer.document["exit_code"] == 130
    before = json.loads((here.folder / "p/onnx.json").read_text())["found"]
    assert len(before) == 1
    assert here.ended(here.start(*command)).code == 0
    after = json.loads((here.folder / "p/onnx.json").read_text())["found"]
    assert after[:1] == before
    assert len(after) > 1


def test_a_study_goes_on(here: Here) -> None:
    """Interrupted in its second group: the first is stored."""
    command = ("study", "layout", "--quick", "--out", "s", "--json")
    store = here.folder / "s/records.json"
    shorter = """
import dataclasses
from edgeattn.profile.studies import layout
groups = layout.STUDY.groups
layout.STUDY.groups = lambda quick: [dataclasses.replace(g, runs=2, warmup=0) for g in groups(quick)]
"""
    process = here.start(*command, step=2, prelude=shorter)
    answer = here.interrupted(process, (here.folder / "reached").exists)
    assert answer.code == 130
    assert answer.err == ""
    assert answer.document["stopped"]
    before = records.load(store).records
    assert {record.subject.format for record in before} == {"onnx"}
    assert here.ended(here.start(*command, prelude=shorter)).code == 0
    after = records.load(store).records
    assert after[: len(before)] == before
    assert {record.subject.format for record in after} == {"executorch", "onnx", "tflite"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["profile", "study"])
def test_in_a_measurement(command: str, number: int, here: Here) -> None:
    """The worker is in a process of its own: it ends too, and what is stored is whole or says itself that it is not."""
    profile = ("profile", "made", "--runtime", "onnxruntime", "--warmup", "0", "--json", "--out", "r.json", "--runs")
    study = ("study", "layout", "--quick", "--format", "onnx", "--out", "s", "--json")
    longer = """
import dataclasses
from edgeattn.profile.studies import layout
groups = layout.STUDY.groups
layout.STUDY.groups = lambda quick: [dataclasses.replace(g, runs=10**9, warmup=0) for g in groups(quick)]
"""
    given = (*profile, 10**9) if command == "profile" else study
    process = here.start(*given, prelude="" if command == "profile" else longer)
    scratch = here.folder / "scratch"
    answer = here.interrupted(process, lambda: any(f.stat().st_size > 100 for f in scratch.rglob("samples.txt")),
                              number)  # fmt: skip
    assert answer.code == 130, answer.err
    assert answer.err == ""
    if command == "profile":
        (record,) = records.load(here.folder / "r.json").records
        assert record.partial
        assert answer.document["interrupted"]
        assert here.ended(here.start(*profile, 3)).code == 0
        (record,) = records.load(here.folder / "r.json").records
        assert not record.partial
    else:
        assert not (here.folder / "s/records.json").exists()
