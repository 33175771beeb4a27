"""`edgeattn report`: records and bundles in, one file out; bad input is one sentence, and nothing is lost."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Answer
from reports import EMULATED, HOST, NOT_RUN, PHONE

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.bundle.records import Subject
from edgeattn.errors import ArtifactError
from edgeattn.report import gather as reporting
from edgeattn.report.compose import compose

Run = Callable[..., Answer]


@pytest.mark.parametrize("ending", ["html", "md", "csv", "json"])
def test_records_on_the_command_line(ending: str, edgeattn: Run, tmp_path: Path) -> None:
    records.save(tmp_path / "r.json", (HOST, EMULATED), (NOT_RUN,))
    out = tmp_path / f"report.{ending}"
    answer = edgeattn("report", tmp_path / "r.json", tmp_path / "r.json", "--out", out)
    assert (answer.code, answer.err) == (0, "")
    assert "Still the same model? Yes." in answer.out
    text = out.read_text()
    assert "mobilevitv2" in text
    assert json.loads(text)["title"] == "mobilevitv2" if ending == "json" else True
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["r.json", out.name])
    if ending == "csv":
        assert len(text.splitlines()) == 4, "given twice, counted once"


def test_bundles_on_the_command_line(edgeattn: Run, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    assert edgeattn("report", bundle, "--out", out).code == 0
    data = json.loads(out.read_text())
    assert data["verdict"][0]["answer"] == "Yes"
    assert "Error by depth" in [section["title"] for section in data["sections"]]
    assert "attention-fp32.onnx" in [entry["subject"] for entry in data["not_run"]]

    manifest = bundles.load(bundle).manifest
    onnx = next(artifact for artifact in manifest.artifacts if artifact.format == "onnx")
    subject = Subject(onnx.file.path, onnx.file.sha256, onnx.file.size_bytes, "onnx", "fp32", 0)
    (bundle / "records").mkdir()
    records.save(bundle / "records" / "host.json", (replace(HOST, subject=subject, parity=None),))
    records.save(bundle / "records.json", (replace(PHONE, subject=subject),))
    assert edgeattn("report", bundle, "--no-layers", "--out", out, "--json").document["report"] == str(out)
    data = json.loads(out.read_text())
    assert [result["origin"] for result in data["results"]] == ["phone", "host"]
    assert data["results"][1]["same_model"] is True, "of the bundle's own check"
    assert "attention-fp32.onnx" not in [entry["subject"] for entry in data["not_run"]]
    assert "Error by depth" not in [section["title"] for section in data["sections"]]


def test_a_bundle_that_is_another_model(bundle: Path) -> None:
    path = bundle / bundles.MANIFEST
    stored = json.loads(path.read_text())
    row = next(row for row in stored["parity"]["rows"] if row["hop"] == "conversion")
    row.update(passed=False, reason="error is 900 (max)", max_noise_units=900.0)
    path.write_text(json.dumps(stored))
    said = compose(reporting.gather([bundle], inside=False)).verdict[0]
    assert (said.answer, said.tone) == ("No", "bad")
    assert "error is 900" in said.detail
    stored["parity"]["rows"] = "none"
    path.write_text(json.dumps(stored))
    with pytest.raises(ArtifactError, match="no parity that can be read"):
        reporting.gather([bundle], inside=False)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no file of records"),
        ("", "is no file of records"),
        ('{"schema_version": 99, "records": []}', "has schema 99"),
        ('{"schema_version": 2, "records": []}', "nothing to report"),
        ('{"schema_version": 2, "records": [{}]}', "is damaged at"),
    ],
)
def test_bad_records_write_nothing(content: str, said: str, edgeattn: Run, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    (tmp_path / "report.html").write_text("the old one")
    answer = edgeattn("report", tmp_path / "r.json", "--out", tmp_path / "report.html")
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert (tmp_path / "report.html").read_text() == "the old one"


@pytest.mark.parametrize("change", [{"samples_ns": [-1]}, {"samples_ns": []}, {"samples_ns": ["x"]}, {"threads": 0}])
def test_bad_numbers(change: dict[str, Any], edgeattn: Run, tmp_path: Path) -> None:
    stored = json.loads(records.dump((HOST,)))
    stored["records"][0].update(change)
    (tmp_path / "r.json").write_text(json.dumps(stored))
    answer = edgeattn("report", tmp_path / "r.json", "--out", tmp_path / "report.md")
    assert answer.code == 2
    assert "is damaged at records.0" in answer.err


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("report.pdf", "must end with .csv, .html, .json or .md"),
        ("nosuch/report.html", "cannot be written"),
        ("folder.html", "cannot be written"),
    ],
)
def test_places_that_cannot_be_written(out: str, said: str, edgeattn: Run, tmp_path: Path) -> None:
    records.save(tmp_path / "r.json", (HOST,))
    (tmp_path / "folder.html").mkdir()
    answer = edgeattn("report", tmp_path / "r.json", "--out", tmp_path / out)
    assert answer.code == 2
    assert said in answer.err
    missing = edgeattn("report", tmp_path / "nosuch.json", "--out", tmp_path / "report.html")
    assert missing.code == 2
    assert "cannot be read" in missing.err
