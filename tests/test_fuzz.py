"""Damaged files for every reader, a short run of `benchmarks/fuzz`; and files that once did harm."""

import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from edgeattn.errors import ArtifactError
from edgeattn.inspection import inspect as inspection

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from fuzz import pool, readers, seeds  # benchmarks is no package of the project

HERE = Path(__file__).parent
NUMBERS = {"onnx": 60, "tflite": 60, "mlpackage": 40, "manifest": 60, "golden": 30, "layers": 60, "records": 150}
NUMBERS |= {"worker": 300, "native": 300, "report": 25, "judged": 80, "compared": 60, "users": 12}


@pytest.fixture(scope="module")
def folder(norm_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("seeds")
    shutil.copytree(norm_bundle, found / "bundle")
    shutil.copyfile(HERE / "golden" / "records-1.json", found / "records.json")
    seeds.of_bundle(found)
    shutil.copytree(HERE / "golden" / "native", found / "native")
    return found


def test_damaged_files(folder: Path) -> None:
    """A value or one sentence for each; what ended a process has to be met where that is a process of its own."""
    inputs = [(name, number) for name, count in NUMBERS.items() for number in range(1, count + 1)]
    found = {(name, number): said for name, number, said in pool.outcomes(folder, inputs, list(NUMBERS))}
    odd = {place: said for place, said in found.items() if said not in ("value", "refused")}
    assert not {place: said for place, said in odd.items() if "CRASH" not in said or not readers.met(folder, *place)}
    assert len(found) == len(inputs)
    for name in NUMBERS:
        said = [found[place] for place in found if place[0] == name]
        assert said.count("refused") > len(said) / 10, f"{name} is hardly damaged"
        assert said.count("value") > len(said) / 50, f"{name} is damaged too much to be read at all"


@pytest.mark.parametrize("path", sorted((HERE / "fuzz_corpus").iterdir()), ids=lambda path: path.name)
def test_what_once_did_harm(path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        inspection.inspect_apart(path)
    assert "\n" not in str(caught.value)


def test_the_run_would_tell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that raises what it likes, one that writes files, and one that dies are found out."""
    from fuzz import worker

    def writes(path: Path) -> None:
        Path("left").write_text("")

    def raises(path: Path) -> None:
        raise KeyError("x")

    for read, said in ((writes, "FAULT wrote ['left']"), (raises, "FAULT KeyError")):
        reader = readers.Reader(readers.READERS["records"].make, read)
        assert worker.outcome(reader, folder, 1).startswith(said)
    with tempfile.TemporaryDirectory() as scratch:
        made = [readers.READERS["onnx"].make(folder, Path(scratch), random.Random(7)).read_bytes() for _ in range(2)]
    assert made[0] == made[1]
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, "-c", code))
    assert next(iter(pool.outcomes(folder, [("records", 1)], ["records"])))[2] == "CRASH SIGSEGV"
