"""A user's model that misbehaves: what is said is clear, and what all code shares is as it was."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SITE, Answer

from edgeattn.export.user_code import contained

Command = Callable[..., Answer]
ROOT = Path(__file__).parent.parent

MODELS = """
import os, random, sys, time
import numpy, torch
from torch import nn

class Meddler(nn.Module):
    def forward(self, x):
        meddle()
        return torch.relu(x)

def meddle():
    print("hello from the model")
    os.chdir("/")
    random.seed(1); numpy.random.seed(1); torch.manual_seed(1)

def meddles():
    meddle()
    torch.set_default_dtype(torch.float64)
    return Meddler(), torch.zeros(1, 2, 3, 4, dtype=torch.float32)

class Branches(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x - 1
def branches(): return Branches(), torch.randn(1, 2, 3, 4)

class Loops(nn.Module):
    def forward(self, x):
        for _ in range(int(x.abs().sum())): x = x + 1
        return x
def loops(): return Loops(), torch.randn(1, 2, 3, 4)

def leaves(): sys.exit("enough")
def memory(): return nn.Linear(10**7, 10**7), torch.zeros(1, 10**7)
def hangs():
    print("begins", flush=True)
    while True: time.sleep(0.05)
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "m.py").write_text(MODELS)
    return tmp_path


def shared() -> list[object]:
    """What all code of the process shares."""
    _, arrays, *_ = np.random.get_state()
    generators = [random.getstate(), arrays.tolist(), torch.get_rng_state().tolist()]
    return [*generators, Path.cwd(), torch.get_default_dtype(), torch.get_num_threads(), sys.stdout]


def test_what_code_changes_is_put_back(tmp_path: Path) -> None:
    def meddle() -> None:
        with contained():
            random.seed(1)
            np.random.seed(1)
            torch.manual_seed(1)
            torch.set_default_dtype(torch.float64)
            torch.set_num_threads(torch.get_num_threads() + 1)
            os.chdir(tmp_path)
            raise KeyError  # what fails is put back too

    before = shared()
    with pytest.raises(KeyError):
        meddle()
    assert shared() == before


def test_a_model_that_meddles(model: Path, edgeattn: Command) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state().tolist()
    answer = edgeattn("export", "m.py:meddles", "--format", "onnx", "--out", "b", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["bundle"] == "b"
    assert "hello from the model" in answer.err
    assert {p.name for p in model.iterdir()} == {"m.py", "b"}
    assert Path.cwd() == model
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_rng_state().tolist() == before


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("branches", "control flow"),
        ("loops", "control flow"),
        ("leaves", "leaves failed: SystemExit: enough"),
        ("memory", "memory failed: RuntimeError"),
    ],
)
def test_what_is_said(factory: str, said: str, model: Path, edgeattn: Command) -> None:
    answer = edgeattn("export", f"m.py:{factory}", "--format", "onnx", "--out", "b")
    assert answer.code == 2
    assert answer.err.startswith("edgeattn: ")
    assert answer.err.count("\n") == 1
    assert said in answer.err
    assert {p.name for p in model.iterdir()} == {"m.py"}


def test_one_that_hangs_can_be_interrupted(model: Path) -> None:
    command = ["edgeattn", "export", "m.py:hangs", "--format", "onnx", "--out", "b"]
    path = os.pathsep.join([SITE, str(ROOT)])
    # A shell may have started the tests with interrupts ignored, which the command would inherit.
    code = f"import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv = {command}"
    code += "; from edgeattn.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "begins\n"
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.wait(60)
    process.stderr.close()
    assert process.returncode == 130
    assert said == "edgeattn: interrupted; nothing was written\n"
    assert {p.name for p in model.iterdir()} == {"m.py"}


def test_files_of_a_users_own_are_never_taken_for_ours(tmp_path: Path) -> None:
    """``export.py`` is a common name. Their files and folders are theirs, and ours are ours, whoever comes first."""
    folder = tmp_path / "project"
    (folder / "sample_models").mkdir(parents=True)
    helper = "def layer():\n    from torch import nn\n    return nn.Conv2d(3, 4, 1)\n"
    (folder / "export.py").write_text(helper)
    (folder / "edgeattn_x.py").write_text("WIDTH = 4\n")
    for name in ("sample_models/__init__.py", "parity.py", "cli.py", "formats.py", "runtimes.py"):
        (folder / name).write_text("raise ImportError('this is not ours to import')\n")
    (folder / "mymodel.py").write_text(
        "import torch, export, edgeattn_x\n"
        "def build():\n"
        "    assert export.layer().out_channels == edgeattn_x.WIDTH\n"
        "    return export.layer(), torch.randn(1, 3, 8, 8)\n"
    )
    (folder / "test_parity.py").write_text(
        "from edgeattn import LinearSelfAttention, lower\nimport export\n"
        "assert export.layer and lower and LinearSelfAttention\n"
    )
    command = ["export", "mymodel.py:build", "--format", "onnx", "--out"]
    script = shutil.which("edgeattn", path=str(Path(sys.executable).parent))
    assert script, "the command is not installed beside this Python"
    # Their folder first on the path, as a notebook, pytest and `python -m` have it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), SITE, str(ROOT)])}
    for number, words in enumerate(([script], [sys.executable, "-m", "edgeattn"])):
        done = subprocess.run(
            [*words, *command, f"b{number}"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (folder / f"b{number}" / "build-fp32.onnx").is_file()
    done = subprocess.run(
        [sys.executable, "test_parity.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
