"""Names, kinds of files and meanings that a bundle must not have: refused in a sentence, before anything is opened."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Answer
from hypothesis import given
from hypothesis import strategies as st
from test_hostile import refused, signed

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.golden import GoldenCase
from edgeattn.errors import ArtifactError, BadInputError
from edgeattn.system import files, foreign
from edgeattn.targets import Job
from edgeattn.targets._runner import job_folder, worker

Command = Callable[..., Answer]
# A line of a job; a carriage return; what Python, but not C, takes for the end of a line; an escape; bidi; nothing.
NAMES = ["x\nartifact /etc/passwd", "x\ry", "x\x85runs 1", "x\u2028runs 1", "x\x1b[2J", "x\u202ey", "x\0", ""]
INTO: dict[str, Callable[[dict, str], object]] = {
    "model": lambda m, name: m.update(model=name),
    "input": lambda m, name: m["inputs"][0].update(name=name),
    "output": lambda m, name: m["outputs"][0].update(name=name),
    "input of an artifact": lambda m, name: m["artifacts"][0]["inputs"][0].update(name=name),
    "output of an artifact": lambda m, name: m["artifacts"][0]["outputs"][0].update(name=name),
    "format": lambda m, name: m["artifacts"][0].update(format=name),
    "case": lambda m, name: m["golden"].update({name: m["golden"]["example"]}),
    "file": lambda m, name: m["artifacts"][0]["file"].update(path=name),
}


def change(bundle: Path, edit: Callable[[dict], object]) -> None:
    document = json.loads((bundle / "manifest.json").read_bytes())
    edit(document)
    (bundle / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", INTO)
def test_names_with_control_characters(where: str, name: str, edgeattn: Command, bundle: Path) -> None:
    change(bundle, lambda manifest: INTO[where](manifest, name))
    for command in (("parity", bundle), ("profile", bundle, "--runs", 1)):
        answer = edgeattn(*command)
        refused(answer, "edgeattn: ")
        assert answer.err.strip().isprintable()


@given(st.text(max_size=20))
def test_a_job_holds_the_names_that_were_given(name: str) -> None:
    """Or none: a name never becomes a line of the job."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as scratch:
        artifact = Path(scratch) / "a.onnx"
        artifact.touch()
        folder = Path(scratch) / "0"
        folder.mkdir()
        job = Job(artifact, {name: np.zeros(1)}, runs=7)
        if not foreign.plain_name(name):
            with pytest.raises(BadInputError, match="has an input of the name"):
                job_folder.write(folder, job)
            return
        job_folder.write(folder, job)
        seen = worker.read_job(str(folder))
        assert list(seen["inputs"]) == [name]
        assert (seen["runs"], seen["artifact"]) == (7, str(folder / "artifact.onnx"))


def test_no_manifest_is_written_with_such_a_name(made_bundle: Path) -> None:
    from dataclasses import replace

    manifest = bundles.load(made_bundle).manifest
    assert bundles.dump(manifest) == (made_bundle / "manifest.json").read_bytes()
    with pytest.raises(BadInputError, match="no bundle can be written: model: "):
        bundles.dump(replace(manifest, model="a\nb"))


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("kind", ["pipe", "zero"])
@pytest.mark.parametrize("where", ["golden", "artifacts", "package"])
def test_what_would_be_read_without_end(where: str, kind: str, edgeattn: Command, bundle: Path, tmp_path: Path) -> None:
    """With the hash of nothing, which a pipe had when it was taken for an empty folder."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    package = next(a["file"] for a in manifest["artifacts"] if a["format"] == "coreml")
    onnx = next(a["file"] for a in manifest["artifacts"] if a["format"] == "onnx")
    entry = {"golden": manifest["golden"]["example"], "artifacts": onnx, "package": package}
    place = bundle / entry[where]["path"] / ("more" if where == "package" else "")
    if where != "package":
        place.unlink()
    os.mkfifo(place) if kind == "pipe" else place.symlink_to("/dev/zero")
    entry[where]["sha256"] = EMPTY
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    for command in ("parity", "profile"):
        assert edgeattn(command, bundle).code == 2


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".mlpackage"])
def test_files_given_by_name(suffix: str, edgeattn: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        refused(edgeattn("inspect", tmp_path / f"{name}{suffix}"), "is no file")
        refused(edgeattn("report", tmp_path / f"{name}{suffix}"), "")


def test_a_pipe_beside_an_output(tmp_path: Path) -> None:
    """Whether it is a bundle's folder is looked up there."""
    os.mkfifo(tmp_path / "manifest.json")
    files.check(tmp_path / "out.json")


def test_sizes_are_looked_at_before_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(bundles.MOST_BYTES + 1)  # no blocks of the disk
    with pytest.raises(ArtifactError, match="are not read"):
        bundles.describe(tmp_path, tmp_path / "big")
    with pytest.raises(ArtifactError, match="are not read"):
        GoldenCase.read(tmp_path / "big")
    assert files.start(tmp_path / "big", 10) == bytes(10)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda m: m.update(golden={}), "it names no golden case"),
        (lambda m: m["artifacts"][0].update(precision="fp3"), "'fp3' is none of fp32, fp16"),
        (lambda m: m["artifacts"][0].update(format="exe"), "exe"),
        (lambda m: m["artifacts"][0]["inputs"][0].update(dtype="float8"), "'float8' is none of bool"),
        (lambda m: m["artifacts"][0]["inputs"][0].update(layout="diagonal"), "'diagonal' is none of channels_first"),
        (lambda m: m["artifacts"][0]["inputs"][0].update(shape=[10**400]), "damaged at artifacts.0.inputs.0.shape"),
        (lambda m: m["artifacts"][0]["inputs"][0].update(shape=[-1]), "damaged at artifacts.0.inputs.0.shape"),
        (lambda m: m["artifacts"][0]["inputs"][0].update(shape=[1] * 33), "damaged at artifacts.0.inputs.0.shape"),
        (lambda m: m["artifacts"][0]["inputs"][0].update(zero_point=10**400), "zero_point"),
        (lambda m: m["artifacts"][0]["file"].update(size_bytes=10**400), "size_bytes"),
        (lambda m: m["artifacts"][0]["file"].update(size_bytes=-1), "size_bytes"),
    ],
)
def test_meanings_that_cannot_be(edit: Callable[[dict], object], said: str, edgeattn: Command, bundle: Path) -> None:
    change(bundle, edit)
    refused(edgeattn("parity", bundle), said)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "BF16", "I4", "C64"])
def test_tensors_of_other_types(kind: str, edgeattn: Command, bundle: Path) -> None:
    size = {"BF16": 2, "C64": 8}.get(kind, 1)
    header = json.dumps({"input/x": {"dtype": kind, "shape": [4], "data_offsets": [0, 4 * size]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(4 * size)
    (bundle / "golden/example.safetensors").write_bytes(content)
    signed(bundle)
    refused(edgeattn("parity", bundle), "golden/example.safetensors")
