"""What several tests need: the command run in this process, and one bundle that is made once."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sshd
from attached import adb_server, attach, base_root
from hypothesis import settings

from edgeattn.cli import main as cli
from edgeattn.phone import setup

sys.path.append(str(Path(__file__).parent.parent))
from benchmarks import real_timm

# Before a test imports transformers' vision models, or timm.
real_timm.declare_operators()
# And before a process that a test starts does.
SITE = str(Path(__file__).parent / "site")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (SITE, os.environ.get("PYTHONPATH"))))

# Fixtures of another file, for all tests.
__all__ = ["adb_server", "attach", "base_root"]

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
    from edgeattn.export import pipeline, source

    out = tmp_path_factory.mktemp("made") / "b"
    loaded = source.load("attention", ["embed_dim=32", "pixels=4", "patches=16"])
    result = pipeline.export(loaded, pipeline.Options(), out)
    assert result.report.passed
    return out


@pytest.fixture(scope="session")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with five axes, which the accelerator refuses, and operators that XNNPACK has no kernel for."""
    import litert_torch
    import torch
    from torch import Tensor, nn

    class Five(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = (x.reshape(4, 2, 4, 2, 8) * x.reshape(4, 2, 4, 2, 8).amax((0, 2), keepdim=True)).reshape(1, 8, 8, 8)
            return y.cumsum(1), y.argmax(1)

    path = tmp_path_factory.mktemp("five") / "five.tflite"
    x = torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    litert_torch.convert(Five().eval(), (x,)).export(str(path))
    return path


@pytest.fixture(scope="session")
def native_onnxruntime() -> list[str | Path]:
    """The native runner of onnxruntime, under emulation: by the loader in its folder, as on a phone."""
    from edgeattn.targets._runner import native
    from edgeattn.targets.emulated_arm import toolchain

    if absent := toolchain._missing_packages() or native.missing_packages():
        pytest.skip(absent)
    built = native.build()
    return [*toolchain.build().command("cortex-a76"), *built.command(str(built.folder), "onnxruntime")]


@pytest.fixture(scope="session")
def native_executorch() -> list[str | Path]:
    """The same of ExecuTorch."""
    from edgeattn.targets.emulated_arm import toolchain

    if absent := toolchain._missing_packages():
        pytest.skip(absent)
    return [*toolchain.build().runner("cortex-a76", "executorch")]


@pytest.fixture(scope="session")
def norm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer with its norm and residual in all formats, exported once; tests only read it."""
    from edgeattn.export import pipeline, source

    folder = tmp_path_factory.mktemp("normed")
    (folder / "model.py").write_text(NORMED)
    loaded = source.load(f"{folder / 'model.py'}:build")
    result = pipeline.export(loaded, pipeline.Options(), folder / "b")
    assert result.report.passed
    assert not result.refused
    return folder / "b"


@pytest.fixture(scope="session")
def made_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained sample in all formats; tests only read it."""
    from edgeattn.export import pipeline, source

    out = tmp_path_factory.mktemp("digits") / "b"
    assert pipeline.export(source.load("digits"), pipeline.Options(), out).report.passed
    return out


@pytest.fixture(scope="session")
def made_colours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that say what colour a picture has, by what they take and give; tests only read them."""
    import colours

    return colours.make(tmp_path_factory.mktemp("colours"))


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


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    if absent := sshd.missing():
        pytest.skip(absent)
    with sshd.start(tmp_path_factory.mktemp("board"), Path(sys.executable)) as board:
        yield board


@pytest.fixture
def board(served: sshd.Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[sshd.Sshd]:
    """The board as it was; whatever a test does to it, nothing of ours may be left on it."""
    monkeypatch.setenv("PATH", f"{served.client}{os.pathsep}{os.environ['PATH']}")
    sshd.login(served, key="user", known=True)
    served.use(Path(sys.executable))
    served.profile("")
    yield served
    assert served.left == []


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with no package at all."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin/python"


@pytest.fixture
def lean(bundle: Path) -> Path:
    """A copy with its first case alone, where each case is a start of its own."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["golden"] = dict([next(iter(manifest["golden"].items()))])
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle
