"""The wheel, outside the checkout: whole, typed, and useful with its extras and without them.

The wheel's environments are new ones. PyTorch and the converters are too big to install again for a test: they are seen
from the environment of the tests, by a .pth file or by links, and edgeattn itself comes out of the wheel alone.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    ignored = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "*.egg-info")
    # A copy: setuptools writes into the tree that it builds.
    tree = shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", tree]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


def environment(folder: Path, wheel: Path) -> Path:
    """A new virtual environment with the wheel and nothing else; its folder of packages."""
    venv.create(folder)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    return next(folder.glob("lib/python*/site-packages"))


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, and every package of the tests' own environment behind it."""
    folder = tmp_path_factory.mktemp("full")
    packages = environment(folder, wheel)
    # What a .pth file adds comes after the wheel, and the .pth files in there (an editable edgeattn) are not followed.
    (packages / "heavy.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with what it depends on, and no extra."""
    folder = tmp_path_factory.mktemp("bare")
    packages = environment(folder, wheel)
    for distribution in dependencies("edgeattn", set()):
        for name in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            if name != "__pycache__" and not (packages / name).exists():
                (packages / name).symlink_to(distribution.locate_file(name))
    return folder


def dependencies(name: str, seen: set[str]) -> Iterator[metadata.Distribution]:
    """What a package needs without extras, and what that needs."""
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if needed and requirement.name not in seen:
            seen.add(requirement.name)
            yield metadata.distribution(requirement.name)
            yield from dependencies(requirement.name, seen)


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run in the folder of an environment, with nothing of the tests' own environment in the way."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def edgeattn(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, folder / "bin" / "edgeattn", *arguments)


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    walked = os.walk(ROOT / "edgeattn", followlinks=True)
    tree = {Path(folder, name).relative_to(ROOT).as_posix() for folder, _, names in walked for name in names}
    tree = {name for name in tree if "__pycache__" not in name}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == tree, "packages and data files are listed in pyproject.toml"
    assert {
        "edgeattn/sample_models/digits/weights.safetensors",
        "edgeattn/sample_models/fashion/pictures.npz",
        "edgeattn/targets/_runner/arm64/runner.c",
    } <= packed
    assert "edgeattn/py.typed" in packed
    # One import name: a user's own export.py stands in nobody's way.
    assert {name.partition("/")[0] for name in packed} == {"edgeattn"}


def test_the_sdist_is_the_whole_tree(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    wanted = (
        "Makefile",
        "requirements.txt",
        "requirements-demo.txt",
        "requirements-torch.txt",
        "packages.txt",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        ".ci/run",
    )
    assert {*wanted, "tests/test_packaging.py", "tests/conftest.py", "benchmarks/demo.py", "docs/bundle.md"} <= packed


def test_the_metadata_is_complete(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
    found = metadata.PathDistribution(zipfile.Path(archive, name.removesuffix("METADATA"))).metadata
    assert all(found[key] for key in ("Version", "Summary", "Keywords", "License-Expression", "Requires-Python"))
    assert "Typing :: Typed" in found.get_all("Classifier")
    assert found.get_all("Project-URL")
    assert found["Description-Content-Type"] == "text/markdown"
    assert {"onnx", "tflite", "coreml", "all"} <= set(found.get_all("Provides-Extra"))


def test_the_wheel_exports_the_digits_and_they_are_the_same_model(full: Path) -> None:
    version = edgeattn(full, "--version")
    assert version.stdout.splitlines()[0] == f"edgeattn {metadata.version('edgeattn')}"
    assert f"torch {metadata.version('torch')}" in version.stdout.splitlines()
    exported = edgeattn(full, "export", "digits", "--format", "onnx", "--out", "d", "--json")
    assert exported.returncode == 0, exported.stderr
    checked = edgeattn(full, "parity", "d", "--json")
    assert checked.returncode == 0, checked.stderr
    document = json.loads(checked.stdout)
    assert document["passed"]
    assert document["accuracy"][0]["correct"] == 360
    where = run(full, full / "bin" / "python", "-c", "from edgeattn import export; print(export.__file__)")
    assert where.stdout.startswith(str(full))


WITHOUT_EXTRAS = {
    "export attention": "onnx",
    "export attention --format onnx": "onnx",
    "export attention --format tflite": "tflite",
    "export digits --format onnx": "onnx",
    "inspect b/attention-fp32.onnx": "onnx",
    "inspect b/attention-fp32.tflite": "tflite",
    "inspect b/attention-fp32.mlpackage": "coreml",
    "parity b": "coreai",
    "parity b --layers": "coreai",
    "parity b --self-test": "coreai",
    "parity b --picture p.svg": "report",
    "compare b b": "coreai",
    "profile b": "executorch",
}
# All in one process, as PyTorch takes seconds to import: the command's own main, again and again.
RUN_ALL = """
import contextlib, io, json, sys
from edgeattn.cli import main as cli
def run(line):
    sys.argv, said = ["edgeattn", *line.split()], io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code, said.getvalue()
print(json.dumps({line: run(line) for line in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def answers(bare: Path, made_bundle: Path) -> dict[str, tuple[int, str]]:
    """Exit code and text of every command in the bare environment."""
    (bare / "b").symlink_to(made_bundle)
    before = sorted(bare.iterdir())
    lines = [*WITHOUT_EXTRAS, "--version", "models", "doctor --json"]
    done = run(bare, bare / "bin" / "python", "-c", RUN_ALL, *lines)
    assert done.returncode == 0, done.stderr
    assert sorted(bare.iterdir()) == before
    return {line: (code, said) for line, (code, said) in json.loads(done.stdout).items()}


@pytest.mark.parametrize(("line", "extra"), WITHOUT_EXTRAS.items())
def test_without_extras_a_command_names_the_extra(line: str, extra: str, answers: dict[str, tuple[int, str]]) -> None:
    code, said = answers[line]
    assert code == 3, said
    assert said.startswith("edgeattn: ")
    assert said.count("\n") == 1
    assert f"pip install 'edgeattn[{extra}]'" in said


def test_without_extras_the_rest_works(answers: dict[str, tuple[int, str]]) -> None:
    assert {answers[line][0] for line in ("--version", "models", "doctor --json")} == {0}
    assert "onnx" not in answers["--version"][1]
    assert "pip install 'edgeattn[onnx]'" in json.loads(answers["doctor --json"][1])["formats"]["onnx"]
