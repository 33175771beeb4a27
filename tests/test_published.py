"""Published figures have a source each, stand apart from measured ones, and change none of them."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Answer
from reports import HOST, PHONE

from edgeattn.bundle import records
from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.published import ai_hub
from edgeattn.published.figures import Published, figures
from edgeattn.report.gather import gather

Run = Callable[..., Answer]
TITLES = ["Published, not measured here", "Published by Qualcomm, not measured here"]
# Made up, with the keys and the nesting of qai-hub-models 0.65.0: no time in it is Qualcomm's.
PERF = """
precisions:
  float:
    components:
      Mobile-VIT:
        performance_metrics:
          A phone:
            onnx:
              estimated_peak_memory_range_mb:
                max: 5
                min: 1
              inference_time_milliseconds: 123.5
              job_id: j1
              job_status: Passed
              layer_counts:
                npu: 277
                total: 277
              primary_compute_unit: NPU
              tool_versions:
                onnx_runtime: 1.30.0
            qnn_dlc:
              inference_time_milliseconds: 234.5
              job_id: j2
              job_status: Passed
              primary_compute_unit: NPU
            tflite:
              job_id: j3
              job_status: Failed
  w8a16:
    components:
      Mobile-VIT:
        performance_metrics:
          A board:
            tflite:
              inference_time_milliseconds: 7
              job_status: Passed
              primary_compute_unit: CPU
supported_devices:
- A phone
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the name, with one model's file; its path."""
    about = tmp_path / "site/qai_hub_models-0.65.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.4\nName: qai_hub_models\nVersion: 0.65.0\n")
    perf = tmp_path / "site/qai_hub_models/models/mobile_vit/perf.yaml"
    perf.parent.mkdir(parents=True)
    perf.write_text(PERF)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return perf


def test_each_has_a_source_and_a_date() -> None:
    found = figures()
    assert len(found) >= 10
    for each in found:
        assert each.model.startswith("MobileViT")
        assert each.date
        assert each.device.startswith("iPhone")
    assert len(set(found)) == len(found)
    [small] = [each for each in found if each.model.startswith("MobileViTv2-0.5")]
    assert (small.milliseconds, small.device, small.runtime) == (1.6, "iPhone 12", "Core ML")


@pytest.mark.parametrize(
    "wrong", [{"milliseconds": 0}, {"milliseconds": float("nan")}, {"source": ""}, {"url": "a page somewhere"}]
)
def test_what_is_no_published_figure(wrong: dict[str, object]) -> None:
    one = Published("m", "r", "", "d", 1.0, "s", "", "https://example.org")
    with pytest.raises(BadInputError):
        replace(one, **wrong)


def test_qualcomms_are_read_where_they_are_installed(installed: Path) -> None:
    found = ai_hub.figures()
    assert [(e.model, e.runtime, e.precision, e.device, e.milliseconds) for e in found] == [
        ("MobileViT", "onnx, NPU", "float", "A phone", 123.5),
        ("MobileViT", "tflite, CPU", "w8a16", "A board", 7.0),
    ], "neither a failed job nor a format that edgeattn does not make"
    assert {(e.source, e.date) for e in found} == {("qai-hub-models 0.65.0", "")}
    assert "qai_hub_models" not in sys.modules, "it is read and not imported"


@pytest.mark.parametrize(
    "content",
    ["precisions: [", "", "precisions: 3", PERF.replace("123.5", "soon"), PERF.replace("123.5", "-1"), "a: \x00"],
)
def test_a_damaged_file_is_one_sentence(content: str, installed: Path, tmp_path: Path, edgeattn: Run) -> None:
    installed.write_text(content)
    with pytest.raises(ArtifactError, match="install qai-hub-models again"):
        ai_hub.figures()
    records.save(tmp_path / "r.json", (HOST,))
    answer = edgeattn("report", tmp_path / "r.json", "--published", "--out", tmp_path / "r.md")
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "r.md").exists()


def test_without_the_package() -> None:
    with pytest.raises(MissingError, match="pip install --no-deps qai-hub-models"):
        ai_hub.figures()


def test_they_stand_apart_and_change_nothing(installed: Path, tmp_path: Path, edgeattn: Run) -> None:
    records.save(tmp_path / "records.json", (HOST, PHONE))
    found = {}
    for name, more in (("without", ()), ("with", ("--published",))):
        for form in ("json", "csv", "html", "md"):
            out = tmp_path / f"{name}.{form}"
            assert edgeattn("report", tmp_path / "records.json", *more, "--out", out).code == 0
            found[f"{name}.{form}"] = out.read_text()
    plain, published = (json.loads(found[f"{name}.json"]) for name in ("without", "with"))
    assert [section["title"] for section in published["sections"] if "ublished" in section["title"]] == TITLES
    published["sections"] = [section for section in published["sections"] if section["title"] not in TITLES]
    assert published == plain, "all that is measured stays as it was"
    assert list(csv.DictReader(found["with.csv"].splitlines())) == list(
        csv.DictReader(found["without.csv"].splitlines())
    )
    for form in ("html", "md"):
        assert "123.5" in found[f"with.{form}"]
        assert "Table 2" in found[f"with.{form}"]
        assert "arxiv.org/abs/2206.02680" in found[f"with.{form}"]
        assert "Published" not in found[f"without.{form}"]


def test_published_figures_alone_are_no_report(tmp_path: Path) -> None:
    records.save(tmp_path / "r.json", ())
    with pytest.raises(ArtifactError, match="nothing to report"):
        gather([tmp_path / "r.json"], published=True)
