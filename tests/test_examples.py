"""What stands in examples/ runs: the network, every command of the workflow, every cell of the notebook."""

import json
import re
import runpy
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_docs import check_options
from test_fashion import needs_all

EXAMPLES = Path(__file__).parent.parent / "examples"


def workflow_commands(text: str) -> list[str]:
    (job,) = yaml.safe_load(text)["jobs"].values()
    lines = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
    return [line for line in lines if line.startswith("edgeattn ")]


def test_the_workflow_and_the_network_in_it(
    edgeattn: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (EXAMPLES / "ci.yml").read_text()
    document = yaml.safe_load(text)
    # YAML takes the key `on` for true.
    assert "pull_request" in document[True]
    shutil.copy(EXAMPLES / "segmentation.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = []
    for command in workflow_commands(text):
        small = command.replace("$GITHUB_STEP_SUMMARY", "summary.md").replace("--runs 100", "--runs 20 --warmup 3")
        words = shlex.split(small)[1:]
        if words[0] == "compare":
            # The baseline of somebody who has just made it; what the clock says of two copies is known.
            shutil.copy("new.json", "baseline.json")
        answer = edgeattn(*words)
        assert answer.code == 0, f"{small}: {answer.err or answer.out}"
        ran.append(words[0])
    assert ran == ["export", "parity", "inspect", "inspect", "inspect", "profile", "compare", "report"]
    assert "<testsuite" in Path("parity.xml").read_text()
    manifest = json.loads(Path("seg/manifest.json").read_text())
    assert any("LinearSelfAttention" in change["before"] for change in manifest["lowering"]["channels_first"])
    # A limit that is too low ends the workflow: channels-first edges cost a transpose each.
    options = ("--format", "tflite", "--edge-layout", "channels_first", "--out", "edges")
    assert edgeattn("export", "segmentation.py:build", *options).code == 0
    assert edgeattn("inspect", "edges/build-fp32.tflite", "--max-layout-ops", 1).code == 1


def test_the_network_says_how_it_is_exported() -> None:
    text = (EXAMPLES / "segmentation.py").read_text()
    found = re.findall(r"(?m)^    (edgeattn .*)$", text)
    assert len(found) == 3
    for command in found:
        check_options(command)


@needs_all
def test_fine_tuning_runs_and_its_table_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--steps", "2", "--held-out", "40", "--out", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["finetune_int8.py", *arguments])
    with warnings.catch_warnings():
        runpy.run_path(str(EXAMPLES / "finetune_int8.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        f"| {name}-{precision}.{suffix}"
        for name in ("as-trained", "tuned")
        for suffix in ("tflite", "onnx", "pte")
        for precision in ("fp32", "int8")
    ]
    shares = [float(line.split(" | ")[2].strip(" |%")) for line in lines[2:]]
    assert min(shares) >= 97
    assert {path.name for path in tmp_path.iterdir()} == {"as-trained", "tuned"}


def test_the_cells_of_the_notebook_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text())
    assert notebook["nbformat"] == 4
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "outputs are not committed"
            exec(compile("".join(cell["source"]), "tour.ipynb", "exec"), names)
    said = capsys.readouterr().out
    assert "times the noise floor" in said
    assert "onnxruntime: p50 between" in said
