"""Every `edgeattn` command of the README and of docs/ is run as it stands there, or listed here with the reason.

A command is a line of a code block that begins with `edgeattn`; it ends at two spaces or a `#`, what follows is prose.
Each page has a folder of its own in which its commands run in their order, on models that are made small.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from edgeattn.cli import main as cli

ROOT = Path(__file__).parent.parent
PAGES = {page.name: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}

# What is not run here: a pattern in the command, and why.
NOT_RUN = {
    "edgeattn setup": "it downloads; tests/test_emulated_arm.py sets up",
    "edgeattn phone": "it waits for a phone; tests/test_phone_*.py open the page in browsers",
    "--target emulated-arm": "it needs the set-up; tests/test_emulated_arm.py runs these",
    "--target android": "hardware; tests/test_android.py runs these against a phone on loopback",
    "--target ssh": "hardware; tests/test_ssh.py runs these against a board on loopback",
    "--target iphone": "hardware; tests/test_mac.py runs it with stand-ins for what only Apple has",
    '--target "iphone': "hardware, as above",
    "--target mac": "hardware; tests/test_mac.py runs it with stand-ins",
    "--weights apple/": "it asks a hub; tests/test_checkpoints.py puts a stand-in there",
    "--weights model.safetensors": "it needs a checkpoint; tests/test_checkpoints.py makes some and exports one",
    "edgeattn export model.pt2": "it needs a program; tests/test_programs.py saves one and exports it",
    "edgeattn run ": "it needs a picture; tests/test_pictures.py runs it",
    "--preprocessing told.json": "as above",
    "edgeattn export digits": "a minute, for its 360 held-out digits; tests/test_digits.py exports it",
    "edgeattn export fashion": "minutes, for its held-out pictures; tests/test_fashion.py exports it",
    "edgeattn export scenes": "minutes, as above; tests/test_scenes.py exports it",
    "export mobilevitv2 .*--precision": "minutes, and exit 1: int8 misses its limit there, as the page says",
    "--self-test": "a hundred damaged copies; tests/test_selftest.py runs it",
    "edgeattn study": "minutes; tests/test_studies.py runs it in its quick form",
    "edgeattn doctor$": "tests/test_doctor.py runs it, and it is the same on every page",
    "--shape x=": "it needs files with free axes; tests/test_compare_files.py makes some",
    "-completion": "it writes to the shell's start-up files",
}
# Pages whose commands need more than a folder.
ELSEWHERE = {"extending.md": "tests/test_extending.py puts its examples into their places and runs them"}
# The same commands on smaller models and with fewer runs.
SMALLER = (
    (r"embed_dim=\d+", "embed_dim=16"),
    (r"patches=\d+", "patches=16"),
    (r"--arg width=[\d.]+ ", ""),
    (r"export mobilevitv2", "export mobilevitv2 --arg width=0.5 --arg image_size=64"),
    (r"export mine.py:make", "export mine.py:make --arg width=0.5 --arg size=64"),
    (r"--runs 200", "--runs 20"),
    (r"--for 30m", "--for 1s"),
    (r"--arg image_size=64 --image-size 192", "--image-size 64"),
)
# Two measurements on a busy machine: a regression that is certain is an answer too.
ANSWERS = {"edgeattn compare old.json new.json": (0, 1)}

COMMANDS: Any = typer.main.get_command(cli.app)


def blocks(text: str) -> Iterator[str]:
    """The lines of all code blocks: fenced, or indented behind an empty line."""
    fenced, before, indented = False, "", False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced:
            yield line.strip()
        else:
            indented = line.startswith("    ") and (indented or not before.strip())
            if indented:
                yield line.strip()
        before = line


def commands(text: str) -> list[str]:
    found = (line.removeprefix("- run: ") for line in blocks(text))
    return [re.split(r"\s{2,}|\s#", line)[0] for line in found if line.startswith("edgeattn ")]


def reason(command: str) -> str | None:
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), None)


def smaller(command: str) -> str:
    for pattern, replacement in SMALLER:
        command = re.sub(pattern, replacement, command)
    return command


@pytest.fixture(scope="module")
def start(made_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a page may take for there: the bundle b, records of it, and the module that a page shows."""
    from edgeattn import targets
    from edgeattn.bundle import manifest, records
    from edgeattn.profile import run as profile

    folder = tmp_path_factory.mktemp("start")
    shutil.copytree(made_bundle, folder / "b")
    with targets.connect("host", {}) as connection:
        options = profile.Options("host", runs=20, warmup=3, operators=False)
        found = profile.profile(manifest.load(folder / "b"), connection, options)
    for name in ("old", "new", "records", "phone"):
        records.save(folder / f"{name}.json", found.records, found.not_run)
    (folder / "mine.py").write_text(shown(PAGES["your-model.md"], "def make(width"))
    return folder


@pytest.fixture(scope="module")
def exported() -> dict[str, Path]:
    """Bundles by the command that made them: what several pages export is exported once."""
    return {}


def shown(text: str, what: str) -> str:
    """The indented code block that has ``what`` in it, as a file."""
    return next(
        re.sub(r"(?m)^    ", "", block) for block in re.findall(r"(?m)(?:^ {4}.*\n|^\n)+", text) if what in block
    )


@pytest.mark.parametrize("page", [name for name in PAGES if commands(PAGES[name]) and name not in ELSEWHERE])
def test_its_commands_run(
    page: str,
    start: Path,
    exported: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edgeattn: Callable[..., Any],
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(start, folder)
    monkeypatch.chdir(folder)
    for command in dict.fromkeys(commands(PAGES[page])):
        if reason(command):
            continue
        small = smaller(command)
        words = shlex.split(small.replace("$GITHUB_STEP_SUMMARY", "summary.md"))[1:]
        what, _, out = small.partition(" --out ")
        if words[0] == "export":
            shutil.rmtree(out, ignore_errors=True)
            if what in exported:
                shutil.copytree(exported[what], out)
                continue
        answer = edgeattn(*words)
        allowed = next((codes for beginning, codes in ANSWERS.items() if command.startswith(beginning)), (0,))
        assert answer.code in allowed, f"{page}: {small}: {answer.err or answer.out}"
        if words[0] == "export":
            exported[what] = folder / out


def check_options(command: str) -> None:
    """That it names a command, and options which that has."""
    words = command.split()[1:]
    if words[0].islower() and not words[0].startswith("--"):
        assert words[0] in COMMANDS.commands, command
        known = {option for p in COMMANDS.commands[words[0]].params for option in (*p.opts, *p.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}, command


def test_what_is_only_mentioned_has_its_options_too() -> None:
    """Commands in running text, `edgeattn parity BUNDLE --layers`, and those that are not run."""
    for text in PAGES.values():
        for command in (*commands(text), *re.findall(r"`(edgeattn [^`]+)`", text)):
            check_options(command)
    with pytest.raises(AssertionError, match="--nothing"):
        check_options("edgeattn parity b --nothing")


@pytest.mark.parametrize("name", COMMANDS.commands)
def test_every_command_shows_an_example(name: str) -> None:
    _, _, examples = COMMANDS.commands[name].help.partition("Example")
    found = re.findall(r"edgeattn \w[^,\n]*", examples)
    assert found
    for example in found:
        assert f"edgeattn {name}" in example
        check_options(example)


def test_the_shell_completes() -> None:
    """As the script that `edgeattn --install-completion` installs asks for it."""
    asked = {"_EDGEATTN_COMPLETE": "complete_bash", "COMP_WORDS": "edgeattn doctor --q", "COMP_CWORD": "2"}
    code = "import sys; from edgeattn.cli import main as cli; sys.argv = ['edgeattn']; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["--quick"], done.stderr


def test_commands_are_found_where_they_stand() -> None:
    text = """
Text of edgeattn models here
    edgeattn not, it goes on with the line above

    edgeattn models            what it is about
    edgeattn doctor # and why

```
edgeattn parity b --layers
$ other
```

    steps:
      - run: edgeattn inspect x
"""
    assert commands(text) == ["edgeattn models", "edgeattn doctor", "edgeattn parity b --layers", "edgeattn inspect x"]
