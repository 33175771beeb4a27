"""What a command reads, or a bundle is made of, is never overwritten by what the command writes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer

from edgeattn.errors import BadInputError
from edgeattn.system import files

Command = Callable[..., Answer]


@pytest.fixture
def records_file(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> Path:
    out = tmp_path / "r.json"
    answer = edgeattn(
        "profile", made_bundle, "--runtime", "onnxruntime", "--runs", 2, "--warmup", 0, "--out", out, "--json"
    )
    assert answer.code == 0, answer.err
    return out


def test_a_report_does_not_replace_its_records(
    edgeattn: Command, records_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = records_file.read_bytes()
    link = tmp_path / "link.json"
    link.symlink_to(records_file)
    monkeypatch.chdir(tmp_path)
    for out in (records_file, link, Path("r.json"), Path("../") / tmp_path.name / "r.json"):
        answer = edgeattn("report", records_file, "--out", out)
        assert answer.code == 2
        assert answer.err == f"edgeattn: {out} would be overwritten, and it is a source; name another file\n"
    assert records_file.read_bytes() == before
    assert edgeattn("report", records_file, "--out", "another.json").code == 0


@pytest.mark.parametrize("kind", ["manifest.json", "*.onnx", "golden/*", "layers/*.json", "*.mlpackage/Manifest.json"])
@pytest.mark.parametrize("command", ["report", "junit", "markdown", "profile", "picture"])
def test_no_command_replaces_a_file_of_a_bundle(kind: str, command: str, edgeattn: Command, bundle: Path) -> None:
    file = next(iter(sorted(bundle.glob(kind))))
    before = file.read_bytes()
    arguments = {
        "report": ("report", bundle, "--out", file),
        "junit": ("parity", bundle, "--junit", file),
        "markdown": ("parity", bundle, "--markdown", file),
        "profile": ("profile", bundle, "--out", file),
        "picture": ("parity", bundle, "--layers", "--picture", file),
    }[command]
    answer = edgeattn(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert file.read_bytes() == before


def test_two_results_in_one_file(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "both"
    answer = edgeattn("parity", made_bundle, "--junit", out, "--markdown", out)
    assert answer.code == 2
    assert "another result goes there too" in answer.err
    assert not out.exists()


def test_new_files_in_a_bundle_and_others_manifests_are_fine(bundle: Path, tmp_path: Path) -> None:
    files.check(bundle / "records.json", bundle / "report.html", bundle / "golden" / "notes.txt")
    (tmp_path / "site").mkdir()
    page = tmp_path / "site/manifest.json"
    for content in ("{", "[]", json.dumps({"name": "a web app"}), "[" * 100_000):
        page.write_text(content)
        files.check(tmp_path / "site/report.html", page)
    with pytest.raises(BadInputError, match="a file of the bundle"):
        files.check(bundle / "manifest.json")
