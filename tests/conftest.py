"""What several tests need: the command run in this process, and one bundle that is made once."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from export import cli
from export.phone import setup

# The same random cases on every machine: a failure in CI is the failure that one gets at home.
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")

NORMED = """
import torch
from torch import nn
from edgeattn import LinearSelfAttention

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attention = nn.GroupNorm(1, 8), LinearSelfAttention(8)

    def forward(self, x):
        return x + self.attention(self.norm(x))

def build():
    return Normed(), torch.randn(1, 8, 4, 9) / 4
"""

SMALL = ("--arg", "embed_dim=32", "--arg", "pixels=4", "--arg", "patches=16")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def edgeattn(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Run the command line; stdout and stderr are taken at their file descriptors."""

    def run(*arguments: object) -> Answer:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["edgeattn", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        return Answer(int(stop.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def made_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer in all formats, exported once; tests only read it."""
    from export import pipeline, source

    out = tmp_path_factory.mktemp("made") / "b"
    loaded = source.load("attention", ["embed_dim=32", "pixels=4", "patches=16"])
    result = pipeline.export(loaded, pipeline.Options(), out)
    assert result.report.passed
    return out


@pytest.fixture(scope="session")
def norm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer with its norm and residual in all formats, exported once; tests only read it."""
    from export import pipeline, source

    folder = tmp_path_factory.mktemp("normed")
    (folder / "model.py").write_text(NORMED)
    loaded = source.load(f"{folder / 'model.py'}:build")
    result = pipeline.export(loaded, pipeline.Options(), folder / "b")
    assert result.report.passed
    assert not result.refused
    return folder / "b"


@pytest.fixture
def bundle(made_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(made_bundle, tmp_path / "b"))


@pytest.fixture(scope="session")
def phone_runtimes() -> Path:
    """What `edgeattn setup phone` makes, in the user's cache; where npm is missing, the skip says so."""
    if not shutil.which("npm"):
        pytest.skip("install it: apt-get install -y npm")
    return setup.build()
