"""The examples of docs/extending.md are whole: put into their places they are found, and their commands run."""

import importlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_docs import PAGES, commands

FILES = dict(re.findall(r"(?s)```python\n# (edgeattn/\S+)\n(.*?)```", PAGES["extending.md"]))


@pytest.fixture
def extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The packages look into a second folder, which holds the examples."""
    modules = []
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        package = ".".join(Path(name).parent.parts)
        parent = importlib.import_module(package)
        monkeypatch.setattr(parent, "__path__", [*parent.__path__, str(path.parent)])
        modules.append(f"{package}.{path.stem}")
    yield
    for module in modules:
        sys.modules.pop(module, None)


@pytest.mark.usefixtures("extended")
def test_the_examples_work(
    edgeattn: Callable[..., Any], bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert sorted(FILES) == [
        "edgeattn/formats/pt2.py",
        "edgeattn/profile/studies/channels.py",
        "edgeattn/runtimes/torch_export.py",
        "edgeattn/targets/background.py",
    ]
    monkeypatch.chdir(bundle.parent)
    answers = {}
    for command in commands(PAGES["extending.md"]):
        answers[command] = edgeattn(*shlex.split(command)[1:], "--json")
        assert answers[command].code == 0, answers[command].err or answers[command].out
    found = {command.split()[1]: answer.document for command, answer in answers.items()}
    assert list(found["export"]["manifest"]["parity"]["runtimes"]) == ["torch_export"]
    assert found["inspect"]["format"] == "pt2"
    assert found["inspect"]["operators"]["conv2d"] == 3
    assert {record["device"]["details"]["priority"] for record in found["profile"]["records"]} == {"19"}
    assert [record["labels"]["channels"] for record in found["study"]["records"]] == ["16", "32"]
