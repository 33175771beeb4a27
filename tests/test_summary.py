"""What a CI gets: JUnit, Markdown, an assertion; and how two bundles or artifacts differ."""

import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from conftest import SMALL, Answer
from test_export import replace_hash

from edgeattn.parity.ci import assert_parity
from edgeattn.parity.metrics import difference

Command = Callable[..., Answer]


def break_onnx(bundle: Path) -> None:
    """One weight scaled by 1.01, with the manifest's hash made right again."""
    path = bundle / "attention-fp32.onnx"
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(model, path)
    replace_hash(bundle, path.name)


def test_junit_and_markdown_of_a_sound_bundle(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    files = ("--junit", tmp_path / "j.xml", "--markdown", tmp_path / "m.md")
    assert edgeattn("parity", made_bundle, *files).code == 0
    suite = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert suite.get("failures") == "0"
    assert int(suite.get("tests", "0")) == len(suite) > 30
    assert [case.get("name") for case in suite if case.find("skipped") is not None] == ["coreml"]
    text = (tmp_path / "m.md").read_text()
    assert "is the same model" in text
    assert "| attention-fp32.tflite | litert |" in text
    assert "not run: attention-fp32.mlpackage in coreml" in text
    assert assert_parity(made_bundle).passed


def test_a_broken_artifact_is_in_all_of_them(edgeattn: Command, bundle: Path, tmp_path: Path) -> None:
    break_onnx(bundle)
    answer = edgeattn("parity", bundle, "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "m.md")
    assert answer.code == 1
    suite = ElementTree.parse(tmp_path / "j.xml").getroot()
    failed = [case for case in suite if case.find("failure") is not None]
    assert len(failed) == int(suite.get("failures", "0")) > 5
    assert {case.get("classname") for case in failed} == {"attention-fp32.onnx.onnxruntime"}
    text = (tmp_path / "m.md").read_text()
    assert "**not** the same model" in text
    assert "DIFFERENT: error is" in text
    with pytest.raises(AssertionError, match=r"attention-fp32\.onnx\.onnxruntime: example, y: error is"):
        assert_parity(bundle)


def test_a_summary_that_cannot_be_written(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    answer = edgeattn("parity", made_bundle, "--junit", tmp_path / "none" / "j.xml")
    assert answer.code == 2
    assert "name a file in a folder that exists" in answer.err


def test_compare_artifacts_of_two_formats_and_layouts(edgeattn: Command, made_bundle: Path) -> None:
    names = [made_bundle / f"attention-fp32.{suffix}" for suffix in ("onnx", "tflite", "mlpackage")]
    for other in names:
        [row] = edgeattn("compare", names[0], other, "--json").document["rows"]
        assert row["difference"]["relative"] < 1e-5
        assert row["difference"]["cosine"] > 0.999999


def test_compare_bundles(edgeattn: Command, bundle: Path, made_bundle: Path, tmp_path: Path) -> None:
    rows = edgeattn("compare", made_bundle, bundle, "--json").document["rows"]
    assert len(rows) == 5 * 13
    assert all(row["difference"]["max_abs"] == 0 for row in rows)
    break_onnx(bundle)
    rows = edgeattn("compare", made_bundle, bundle, "--json").document["rows"]
    different = {Path(row["b"]).suffix for row in rows if row["difference"]["relative"] > 1e-4}
    assert different == {".onnx"}
    assert "B against A" in edgeattn("compare", made_bundle, bundle).out


def test_what_cannot_be_compared(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    onnx_file = made_bundle / "attention-fp32.onnx"
    answer = edgeattn("compare", made_bundle, onnx_file)
    assert (answer.code, "not one of each" in answer.err) == (2, True)
    answer = edgeattn("compare", onnx_file, tmp_path / "none.onnx")
    assert (answer.code, "there is no file" in answer.err) == (2, True)
    other = ("--arg", "embed_dim=16", *SMALL[2:])
    assert edgeattn("export", "attention", *other, "--format", "onnx", "--out", tmp_path / "c").code == 0
    answer = edgeattn("compare", onnx_file, tmp_path / "c" / "attention-fp32.onnx")
    assert (answer.code, "and " + str(onnx_file) + " takes x as" in answer.err) == (2, True)
    shutil.rmtree(tmp_path / "c")


def test_difference() -> None:
    a = np.array([1.0, 2.0, -4.0])
    same = difference(reference=a, candidate=a)
    assert (same.max_abs, same.relative, same.cosine) == (0, 0, pytest.approx(1))
    off = difference(reference=a, candidate=a + np.array([0, 0, 1]))
    assert (off.max_abs, off.relative) == (1, 0.25)
    assert difference(reference=a, candidate=a * np.nan).max_abs == np.inf
