"""A bar with the time that is left, on a terminal; nothing of it elsewhere, and nothing behind it."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path

import nothing_fetched
import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from edgeattn.bundle import manifest as bundles
from edgeattn.cli import bar as _bar
from edgeattn.cli.bar import Bar
from edgeattn.parity import check, layers

ROOT = Path(__file__).parent.parent
SMALL = ("attention", "--arg", "embed_dim=16", "--arg", "pixels=4", "--arg", "patches=4")
COMMANDS: dict[str, tuple[str, ...]] = {
    "export": ("export", *SMALL, "--out", "b", "--precision", "fp32", "--json"),
    "parity": ("parity", "b", "--json"),
    "layers": ("parity", "b", "--layers", "--json"),
    "self-test": ("parity", "b", "--self-test", "--json"),
    "compare": ("compare", "b", "b", "--json"),
    "profile": ("profile", "b", "--runs", "3", "--warmup", "0", "--json"),
    "layout": ("study", "layout", "--quick", "--out", "layout", "--json"),
    "scaling": ("study", "scaling", "--quick", "--out", "scaling", "--json"),
    "precision": ("study", "precision", "--bundle", "b", "--format", "onnx", "--out", "precision", "--json"),
    "emulated-arm": ("setup", "emulated-arm", "--json"),
    "report": ("report", "b", "--out", "r.md", "--json"),
}
# Each command as it is, one after the other in one process, which imports the vendors once. Two are made short: studies
# run each form once, and nothing is fetched.
SCRIPT = (
    nothing_fetched.CODE
    + """
import dataclasses, json, sys
from edgeattn.profile.studies import STUDIES
for study in (STUDIES.get("layout"), STUDIES.get("scaling")):
    study.groups = lambda quick, groups=study.groups: [dataclasses.replace(g, runs=1, warmup=0) for g in groups(quick)]
from edgeattn.cli.main import main
for name, arguments in json.load(open("commands.json")).items():
    sys.argv = ["edgeattn", *arguments]
    sys.stderr.write(f"<<{name}>>"); sys.stderr.flush()
    try:
        main()
    except SystemExit as end:
        sys.stdout.write(f"\\n<<{name} {end.code}>>\\n"); sys.stdout.flush()
"""
)


def run(commands: Mapping[str, Sequence[str]], folder: Path, *, terminal: bool) -> tuple[str, str]:
    """The commands, in ``folder``; stdout, and what stderr got, which may be a terminal."""
    (folder / "commands.json").write_text(json.dumps(commands))
    env = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "120"}
    env |= {"TERM": "xterm-256color"}
    ours, theirs = pty.openpty() if terminal else os.pipe()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while block := os.read(ours, 65536):
                seen.append(block)
        except OSError:  # how a terminal says that the other side is gone
            pass

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=theirs, check=False)
    os.close(theirs)
    reader.join()
    os.close(ours)
    return done.stdout.decode(), b"".join(seen).decode()


@pytest.fixture(scope="module")
def on_a_terminal(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    out, err = run(COMMANDS, tmp_path_factory.mktemp("terminal"), terminal=True)
    documents = re.findall(r"(.*?)\n<<(\S+) (\d+)>>\n", out, re.DOTALL)
    said = dict(re.findall(r"<<(\S+)>>(.*?)(?=<<|$)", err, re.DOTALL))
    assert [name for _, name, _ in documents] == list(COMMANDS), err
    assert [name for _, name, code in documents if code != "0"] == []
    return {name: (document, said[name]) for document, name, _ in documents}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bar_on_a_terminal(command: str, on_a_terminal: dict[str, tuple[str, str]]) -> None:
    document, drawn = on_a_terminal[command]
    assert json.loads(document)  # and nothing else
    frames = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn))
    steps = [(int(done), int(all_)) for frame in frames for done, all_ in re.findall(r" (\d+)/(\d+) ", frame)]
    assert steps
    assert steps == sorted(steps, key=lambda step: step[0])
    done, all_ = steps[-1]
    assert done == all_ > 1  # as many steps were begun as were planned
    assert re.search(r"left \d+:\d\d:\d\d", frames[-2] + frames[-1])
    # It is erased, and the cursor is shown again.
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1
    assert drawn.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")


def test_nothing_elsewhere(tmp_path: Path) -> None:
    commands = {name: COMMANDS[name] for name in ("export", "parity", "profile")}
    out, err = run(commands, tmp_path, terminal=False)
    assert err == "".join(f"<<{name}>>" for name in commands)
    assert out.count(" 0>>") == len(commands)


def bar(clock: list[float]) -> tuple[Bar, RichProgress]:
    shown = RichProgress(console=Console(file=StringIO()), auto_refresh=False, get_time=lambda: clock[0])
    return Bar(shown), shown


def left(shown: RichProgress) -> str:
    return str(_bar._Remaining().render(shown.tasks[0]))


def test_the_time_that_is_left() -> None:
    clock = [0.0]
    progress, shown = bar(clock)
    progress.plan(3)
    progress.plan(1, 7)
    progress("a")
    assert left(shown) == "left -:--:--"
    clock[0] = 2
    progress("b")
    assert left(shown) == "left 0:00:18"  # 2 s for 1 of 10
    clock[0] = 5
    assert left(shown) == "left 0:00:15"  # it is counted down
    clock[0] = 500
    assert left(shown) == "left 0:00:00"  # longer than was thought
    progress("c")
    progress("d", 7)
    assert shown.tasks[0].fields["steps"] == "4/4"
    progress("one more")
    assert shown.tasks[0].fields["steps"] == "5/5"
    assert shown.tasks[0].completed == 10
    assert shown.tasks[0].total == 11


def test_steps_of_several_threads() -> None:
    """What is still running is not done."""
    progress, shown = bar([0.0])
    progress.plan(4)
    progress("here")
    there = threading.Thread(target=progress, args=("there",))
    there.start()
    there.join()
    assert shown.tasks[0].completed == 0
    progress("here again")
    assert shown.tasks[0].completed == 1
    assert shown.tasks[0].fields["steps"] == "3/4"


class Counting:
    """Compares what is planned with what is said."""

    def __init__(self) -> None:
        self.planned = self.said = 0.0

    def plan(self, steps: int, /, weight: float = 1) -> None:
        self.planned += steps * weight

    def __call__(self, text: str, /, weight: float = 1) -> None:
        self.said += weight


def test_the_steps_are_those_that_were_planned(made_bundle: Path) -> None:
    loaded = bundles.load(made_bundle)
    progress = Counting()
    layers.compare(loaded, progress)
    progress.plan(check.steps([artifact.format for artifact in loaded.manifest.artifacts]))
    check.verify(loaded, progress)
    assert progress.planned == progress.said > 0


def read_to_the_end(terminal: int) -> bytes:
    """What was written on the other side; one read may return a part, since the kernel hands it over in pieces."""
    read = b""
    # Linux answers EIO, not the end of the file, when the other side is closed.
    with os.fdopen(terminal, "rb", buffering=0) as file, suppress(OSError):
        while piece := file.read(65536):
            read += piece
    return read


def test_an_interrupt_shows_the_cursor_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setattr(os, "dup", lambda _: theirs)
    monkeypatch.setenv("TERM", "xterm")

    def interrupted() -> None:
        with _bar.shown() as progress:
            progress("running")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    drawn = read_to_the_end(ours).decode()
    assert drawn.index("\x1b[?25l") < drawn.index("running") < drawn.index("\x1b[?25h")
    assert drawn.endswith("\x1b[2K")
