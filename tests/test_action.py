"""The action for GitHub: its steps in bash, as a runner gives them to it. GitHub itself is not here."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ACTION: Any = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}
SMALL = "--arg embed_dim=16 --arg pixels=4 --arg patches=4 --format onnx"


def run(name: str, folder: Path, **inputs: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """A step in bash, with the variables of a runner; its outputs too."""
    variables = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": os.environ["HOME"], "OMP_NUM_THREADS": "1", "RUNNER_TEMP": str(folder),
        "GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "GITHUB_REPOSITORY": "owner/name", **inputs,
    }  # fmt: skip
    # As GitHub runs `shell: bash`.
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    output = folder / "output"
    lines = output.read_text().splitlines() if output.exists() else []
    return done, dict(line.split("=", 1) for line in lines)


def test_it_exports_checks_and_says_so(tmp_path: Path) -> None:
    done, outputs = run("Export and check", tmp_path, MODEL="attention", OPTIONS=SMALL, MAX_LAYOUT_OPS="0")
    assert done.returncode == 0, done.stderr
    assert (Path(outputs["bundle"]) / "attention-fp32.onnx").is_file()
    assert "attention-fp32.onnx" in (tmp_path / "summary").read_text()
    assert (tmp_path / "parity.xml").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"MODEL": "attention", "OPTIONS": f"{SMALL} --arg kind=multi_head", "MAX_LAYOUT_OPS": "0"}, 1),
        ({"MODEL": "nothing", "OPTIONS": "", "MAX_LAYOUT_OPS": ""}, 2),
        ({"MODEL": "$(touch hacked)", "OPTIONS": "", "MAX_LAYOUT_OPS": ""}, 2),
    ],
)
def test_it_fails(tmp_path: Path, inputs: dict[str, str], code: int) -> None:
    done, _ = run("Export and check", tmp_path, **inputs)
    assert done.returncode == code, done.stderr
    assert not (tmp_path / "hacked").exists()


def test_it_comments(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text('#!/bin/sh\necho "$@" > said\n')
    (tmp_path / "bin/gh").chmod(0o755)
    assert run("Comment on the pull request", tmp_path, NUMBER="7")[0].returncode == 0
    assert not (tmp_path / "said").exists(), "nothing was checked"
    (tmp_path / "parity.md").write_text("all the same")
    assert run("Comment on the pull request", tmp_path, NUMBER="7")[0].returncode == 0
    said = (tmp_path / "said").read_text()
    assert said.startswith("pr comment 7 --repo owner/name")
    assert said.strip().endswith("parity.md")


def test_nothing_of_a_pull_request_is_in_a_script() -> None:
    """GitHub puts expressions into the text of a script before it is run: none may be there."""
    for name, step in STEPS.items():
        assert "${{" not in step["run"], name
        used = set(re.findall(r"\$\{\{ inputs\.([\w-]+) \}\}", str(step.get("env", {}))))
        assert used <= ACTION["inputs"].keys()
    assert all(about["description"] for about in ACTION["inputs"].values())


def test_the_image_is_made_as_the_demo_is() -> None:
    """No Docker is here: its recipe is one of the Makefile's, and it copies the whole folder."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (recipe,) = (line for line in lines if line.startswith("RUN make"))
    target = recipe.split()[2]
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "COPY . ." in lines
    python = next(line for line in lines if line.startswith("FROM "))
    assert re.fullmatch(r"FROM python:3\.11-slim-\w+", python)
