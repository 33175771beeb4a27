"""Kills, full disks, others at the same place, odd names: the short form of `benchmarks/faults.py`."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from edgeattn.bundle import destination
from edgeattn.bundle import manifest as bundles
from edgeattn.errors import BadInputError, ConversionError
from edgeattn.export import pipeline, source
from edgeattn.formats import FORMATS
from edgeattn.system import cache, files, scratch

ROOT = Path(__file__).parent.parent
# Everything of a bundle that needs no PyTorch, and no manifest until all else is there.
WRITE = """
import os, signal, sys
from pathlib import Path
from edgeattn.bundle import destination
from edgeattn.formats import FORMATS
point, seen = int(sys.argv[1]), 0
def hook(event, arguments):
    global seen
    if event.startswith(("os.", "shutil.", "tempfile.")) or event == "open" and (arguments[2] or 0) & os.O_WRONLY:
        seen += 1
        if seen == point:
            os.kill(os.getpid(), signal.SIGKILL)
source = Path("made")
content = {file.relative_to(source): file.read_bytes() for file in source.rglob("*") if file.is_file()}
order = sorted(content, key=lambda path: (path.name == "manifest.json", path))
sys.addaudithook(hook)
with destination.writing(Path("b"), force=True) as folder:
    for path in order:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content[path])
print(seen)
"""


def write(folder: Path, point: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", WRITE, str(point)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("older", [False, True])
def test_a_kill_leaves_no_half_bundle(older: bool, made_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "made").symlink_to(made_bundle)
    events = int(write(tmp_path, 0).stdout)
    found = set()
    for point in range(1, events + 1, 5):
        for left in [path for path in tmp_path.iterdir() if path.name != "made"]:
            subprocess.run(["rm", "-r", left], check=True)
        if older:
            write(tmp_path, 0)
        assert write(tmp_path, point).returncode == -signal.SIGKILL
        # Under its name stands a whole bundle or none; between two renames the older one stands beside, whole too.
        places = [tmp_path / "b", *tmp_path.glob(".b.old.*/bundle")]
        whole = [bundles.load(place) for place in places if (place / bundles.MANIFEST).exists()]
        assert whole or not older
        assert not (tmp_path / "b").exists() or (tmp_path / "b" / bundles.MANIFEST).exists()
        found.add(len(whole))
    assert found >= {int(older)}
    assert write(tmp_path, 0).returncode == 0


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "b/x")


@pytest.mark.parametrize("error", [FULL, SafetensorError("I/O error: No space left on device (os error 28)")])
def test_a_full_disk_is_a_sentence(error: Exception, tmp_path: Path) -> None:
    def full() -> None:
        with destination.writing(tmp_path / "new" / "b", force=False) as folder:
            (folder / "x").write_bytes(b"")
            raise error

    with pytest.raises(BadInputError, match="b cannot be written: No space left"):
        full()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_no_refusal_of_a_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle without that format would be written otherwise, and called complete."""

    def convert(job: Any, path: Path) -> Any:
        raise ConversionError("torch.onnx.export refuses the module: no space") from FULL

    monkeypatch.setattr(FORMATS.get("onnx"), "convert", convert)
    loaded = source.load("attention", ["embed_dim=8", "pixels=4", "patches=4"])
    with pytest.raises(BadInputError, match="b cannot be written: No space left"):
        pipeline.export(loaded, pipeline.Options(), tmp_path / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("force", [False, True])
def test_two_at_one_place(force: bool, tmp_path: Path) -> None:
    out = tmp_path / "b"
    with destination.writing(out, force=force) as first:
        (first / bundles.MANIFEST).write_text("1")
        if force:
            with destination.writing(out, force=force) as second:
                (second / bundles.MANIFEST).write_text("2")
    assert (out / bundles.MANIFEST).read_text() == "1"  # the last one
    if not force:
        (tmp_path / "b" / bundles.MANIFEST).rename(tmp_path / "kept")
        out.rmdir()
        with pytest.raises(BadInputError, match="by another process"), destination.writing(out, force=False) as first:  # noqa: PT012
            out.mkdir()
            (out / bundles.MANIFEST).write_text("2")
        assert (out / bundles.MANIFEST).read_text() == "2"
    assert {path.name for path in tmp_path.iterdir()} <= {"b", "kept"}


@pytest.mark.parametrize(
    "name", ["a b", "it's", 'q"', "новый-バンドル", "-dash", "x" * 255, "é" * 127, "a\nb", "[red]"]
)
def test_odd_names(name: str, tmp_path: Path) -> None:
    with destination.writing(tmp_path / name, force=False) as folder:
        (folder / bundles.MANIFEST).write_text("1")
    with destination.writing(tmp_path / name, force=True) as folder:
        (folder / bundles.MANIFEST).write_text("2")
    assert (tmp_path / name / bundles.MANIFEST).read_text() == "2"
    files.write(tmp_path / name / name, b"3")
    assert files.read(tmp_path / name / name) == b"3"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    for refuse in (
        lambda path: destination.check(path, force=False),
        files.check,
        lambda path: files.write(path, b""),
    ):
        with pytest.raises(BadInputError, match="cannot be written: File name too long"):
            refuse(tmp_path / ("x" * 256))


def test_what_a_killed_setup_left_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache.folder_of("x", Path(__file__))
    (folder.parent / ".building.killed").mkdir(parents=True)
    cache.once(folder, lambda scratch: (scratch / "made").touch())
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "lock"}
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.folder_of("x", Path(__file__)).is_relative_to(Path.home() / ".cache")


def test_a_folder_that_cannot_be_replaced_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "b"
    out.mkdir()
    (out / bundles.MANIFEST).write_text("1")
    destination.check(out, force=True)
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "ismount", lambda path: path == out)
        with pytest.raises(BadInputError, match="cannot be replaced: something is mounted there"):
            destination.check(out, force=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: path != out)
        with pytest.raises(BadInputError, match="you may not write to it"):
            destination.check(out, force=True)
    tmp_path.chmod(0o1777)
    os.chown(out, 12345, -1) if os.geteuid() == 0 else None
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 54321)
        with pytest.raises(BadInputError, match="it belongs to another user"):
            destination.check(out, force=True)
    (link := tmp_path / "link").symlink_to(out)
    destination.check(link, force=True)


def test_scratch_files_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that someone has laid where a name could be guessed is not followed, and no two names are alike."""
    made = []
    original = scratch.file
    monkeypatch.setattr(scratch, "file", lambda path: made.append(original(path)) or made[-1])
    (tmp_path / f".edgeattn.{os.getpid()}").symlink_to(tmp_path / "of another")
    for number in range(3):
        files.write(tmp_path / "r.json", str(number).encode())
    assert (tmp_path / "r.json").read_bytes() == b"2"
    assert len({name for _, name in made}) == 3
    assert not (tmp_path / "of another").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".edgeattn.{os.getpid()}", "r.json"]
    with pytest.raises(FileExistsError):
        os.open(tmp_path / f".edgeattn.{os.getpid()}", os.O_CREAT | os.O_EXCL)
