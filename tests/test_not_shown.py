"""Same, different, not shown: what counts as shown, and what is said where nothing was."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import Answer
from onnx import numpy_helper
from torch import Tensor, nn

from edgeattn import Bundle, assert_parity, deploy
from edgeattn.bundle import manifest as bundles
from edgeattn.errors import BadInputError
from edgeattn.export import calibration, cases, ranges, source, whole
from edgeattn.lowering import understand
from edgeattn.parity import ci, shown
from edgeattn.parity.check import verify
from edgeattn.parity.recommend import recommend
from edgeattn.parity.verdicts import Row, stored, worst
from edgeattn.report.gather import gather
from edgeattn.report.verdict import verdict


class Conv(nn.Module):
    def __init__(self, times: float = 1.0, plus: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.times, self.plus = nn.Conv2d(3, 8, 3, padding=1), times, plus

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = (self.conv(image) + self.plus) - self.plus
        return y * self.times


def photo(seed: int = 1) -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def headline(path: Path) -> tuple[str, str]:
    statement = verdict(gather([path], inside=False), ())[0]
    return statement.answer, statement.detail


# --- what a runtime never ran


def test_an_example_beyond_fp16_fails(tmp_path: Path) -> None:
    """Every case is beyond 65,504, so nothing was run: that is no yes."""
    made = deploy(Conv(1e6), photo(), out=tmp_path / "b", formats="tflite", precisions="fp16", lowering=False)
    report = made.parity_at_export.report
    assert not made.passed
    assert [(row.case, row.passed) for row in report.rows if row.hop == "conversion"] == [("example", False)]
    assert "fp16 ends at 65504" in next(row.reason for row in report.rows if not row.passed)
    assert headline(tmp_path / "b")[0] == "No"


def test_without_a_runtime_nothing_is_shown(
    made_bundle: Path, edgeattn: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeattn.runtimes import litert

    monkeypatch.setattr(type(litert.RUNTIME), "unavailable", lambda _: "it is away")
    report = verify(bundles.load(made_bundle))
    assert [(e.candidate, e.here) for e in report.not_shown] == [("attention-fp32.tflite", False)]
    assert "it is away" in report.not_shown[0].reason
    assert (report.passed, report.passed_here, report.wrong) == (False, True, False)
    answer = edgeattn("parity", made_bundle)
    assert answer.code == 1
    assert "not shown" in answer.out.lower()
    with pytest.raises(AssertionError, match="not shown to be the same model"):
        assert_parity(made_bundle)
    assert b"not shown" in ci.junit(report, "b")
    assert "**not shown** to be the same model" in ci.markdown(report, "b")


def test_an_export_with_all_runtimes_is_a_yes(made_bundle: Path) -> None:
    """Core ML's own runtime is missing on Linux, and the interpreter of its programs has judged the file."""
    report, _ = stored(bundles.load(made_bundle))
    assert report.passed
    assert not report.not_shown
    assert headline(made_bundle)[0] == "Yes"


def test_an_example_of_another_shape_shows_nothing(bundle: Path) -> None:
    loaded = bundles.load(bundle)
    rows = [row for row in verify(loaded).rows if not row.case.startswith("example")]
    found = list(shown.not_shown(loaded, rows, []))
    assert {entry.candidate for entry in found} == {a.file.path for a in loaded.manifest.artifacts}
    assert all("the case example was not run" in entry.reason for entry in found)


# --- fp16 that was computed in fp32


@pytest.mark.parametrize(("machine", "said"), [("x86_64", True), ("aarch64", False), ("arm64", False)])
def test_fp16_is_shown_where_it_is_computed(
    machine: str, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    made = deploy(Conv(), photo(), out=tmp_path / "b", formats="tflite", precisions=("fp32", "fp16"))
    report = made.parity_at_export.report
    assert made.passed
    assert [entry.candidate for entry in report.finer] == (["Conv-fp16.tflite"] if said else [])
    best = recommend(made.data, report, 0.5)[0].artifact
    assert best == ("Conv-fp32.tflite" if said else "Conv-fp16.tflite")
    answer, detail = headline(tmp_path / "b")
    assert answer == ("Not shown" if said else "Yes")
    assert ("emulated-arm" in detail) is said
    assert ("emulated-arm" in str(made.parity_at_export).replace("\n", "")) is said


# --- the judge of int8


def folder(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Path:
    path.mkdir()
    np.savez(path / "a.npz", image=values)
    return path


def noise(low: float, high: float, n: int = 16) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).uniform(low, high, (n, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1e-3), (-300, -200)])
def test_a_set_of_another_range_is_refused(low: float, high: float, tmp_path: Path) -> None:
    given = source.from_module(Conv(), {"image": photo()})
    with pytest.raises(BadInputError) as refused:
        calibration.choose(given, folder(tmp_path / "set", noise(low, high)))
    assert f"to {high:g}," in str(refused.value)
    assert "the model's example is from -0.99" in str(refused.value)


def test_a_set_unlike_the_preprocessing_is_refused(tmp_path: Path) -> None:
    told = {"scale": 1 / 255, "mean": [0.0] * 3, "std": [1.0] * 3}
    given = source.from_module(Conv(), {"image": torch.rand(1, 3, 16, 16)}, preprocessing=told)
    with pytest.raises(BadInputError, match="preprocessing gives values from 0 to 1"):
        calibration.choose(given, folder(tmp_path / "set", noise(0, 255)))
    assert (
        "from 0 to 1 by the preprocessing" in calibration.choose(given, folder(tmp_path / "ok", noise(0, 1))).ranges[0]
    )


def test_constant_and_tiny_sets_are_said(tmp_path: Path) -> None:
    given = source.from_module(Conv(), {"image": photo()})
    constant = calibration.choose(given, folder(tmp_path / "constant", np.zeros((16, 3, 16, 16), np.float32)))
    assert "1 different ones of 16 inputs are few" in constant.warning
    assert "0 everywhere" in constant.warning
    tiny = calibration.choose(given, folder(tmp_path / "tiny", noise(-1, 1, 3)))
    assert tiny.warning == "3 inputs are few to calibrate on"
    assert not calibration.choose(given, folder(tmp_path / "good", noise(-1, 1))).warning


def test_the_example_is_always_judged(tmp_path: Path) -> None:
    """The set is of zeros: its own case is nothing, and the example is lost."""
    made = deploy(Conv(), photo(), out=tmp_path / "b", formats="tflite", precisions="int8",
                  calibrate=folder(tmp_path / "set", np.zeros((16, 3, 16, 16), np.float32)))  # fmt: skip
    assert "example" in (made.manifest.artifacts[0].judged_on or ())
    assert not made.passed
    assert any(row.case == "example" and not row.passed for row in made.parity_at_export.report.rows)
    good = deploy(Conv(), photo(), out=tmp_path / "good", formats="tflite", precisions="int8",
                  calibrate=folder(tmp_path / "all", noise(-1, 1)))  # fmt: skip
    assert good.passed
    assert any("in the calibration set" in note for note in good.notes)


def test_photographs_are_brought_to_the_range_of_the_example() -> None:
    pixels = source.from_module(Conv(), {"image": (photo() + 1) * 127.5})
    low, high = ranges.of_pixels(pixels, pixels.inputs["image"]) or (0, 0)
    assert low == pytest.approx(0, abs=1)
    assert high == pytest.approx(255, abs=1)
    assert ranges.of_pixels(source.from_module(Conv(), {"image": photo()}), photo()) is None


class Tokens(nn.Module):
    def __init__(self, rows: int = 1000) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(rows, 8), nn.Linear(8, 4)

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.head(self.table(ids))
        return y


def test_what_a_token_model_was_calibrated_on() -> None:
    given = source.from_module(Tokens(), {"ids": torch.arange(8)[None]})
    chosen = calibration.choose(given, None)
    assert len(chosen.inputs) == 1
    assert "photograph" not in chosen.warning
    assert "the model's example alone" in chosen.warning


def test_the_headline_of_int8_is_the_worst_judged_case(tmp_path: Path) -> None:
    made = deploy(Conv(), photo(), out=tmp_path / "b", formats="onnx", precisions="int8")
    _, detail = headline(tmp_path / "b")
    report = made.parity_at_export.report
    judged = min(row.sqnr_db or 0 for row in report.rows if row.by_sqnr and row.judged)
    assert judged > 25
    assert f"Signal to noise: {judged:.0f} dB or more." in detail
    assert "On inputs unlike the model's own:" in detail
    largest = max(row.max_noise_units or 0 for row in report.rows if not row.by_sqnr)
    assert f"Largest error: {largest:.2f}" in detail
    assert "other inputs, not judged" in str(made.parity_at_export)


def test_the_worst_row() -> None:
    row = Row("conversion", "a", "r", "example", "y", True, "", 0.0, 9.0, 9.0, 40.0, 1.0, by_sqnr=True)
    other = replace(row, case="large", judged=False, sqnr_db=0.0, max_noise_units=1e9)
    lower = replace(row, case="photograph", sqnr_db=30.0, max_noise_units=1.0)
    assert worst([other, row, lower]) is lower
    assert worst([lower, replace(other, passed=False)]).case == "large"


# --- ill-conditioned and unexercised outputs


def test_an_output_that_is_all_noise_is_not_shown(tmp_path: Path, edgeattn: Callable[..., Answer]) -> None:
    made = deploy(Conv(plus=1e6), photo(), out=tmp_path / "b", formats="onnx", lowering=False)
    report = made.parity_at_export.report
    assert not report.wrong
    assert not made.passed
    assert "noise floor within a hundred of its size" in report.not_shown[0].reason
    assert headline(tmp_path / "b")[0] == "Not shown"
    assert edgeattn("report", tmp_path / "b", "--out", tmp_path / "r.md").code == 0
    rows = (tmp_path / "r.md").read_text().splitlines()
    assert any(row.startswith("| Conv-fp32.onnx") and "(not shown, " in row for row in rows)
    assert edgeattn("parity", tmp_path / "b").code == 1
    assert deploy(Conv(plus=1.0), photo(), out=tmp_path / "c", formats="onnx", lowering=False).passed


def edited(bundle: Path, change: Callable[[np.ndarray[tuple[int, ...], np.dtype[np.float32]]], None]) -> Bundle:
    """The bundle with its largest ONNX weight changed, and the hash in the manifest with it."""
    path = next(bundle.glob("*.onnx"))
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda t: np.prod(t.dims))
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    manifest = json.loads((bundle / "manifest.json").read_text())
    described = bundles.describe(bundle, path)
    manifest["artifacts"][0]["file"] |= {"sha256": described.sha256, "size_bytes": described.size_bytes}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.open(bundle)


def test_every_row_of_an_embedding_is_looked_at(tmp_path: Path) -> None:
    made = deploy(Tokens(), {"ids": torch.arange(8)[None]}, out=tmp_path / "b", formats="onnx")
    assert made.passed
    assert sum(name.startswith("rows_") for name in made.manifest.golden) == 125

    def one_row(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        values[777] *= 1.01

    failed = [row for row in edited(tmp_path / "b", one_row).parity().report.rows if not row.passed]
    assert {row.case for row in failed} == {"rows_098"}


def test_a_large_embedding_is_looked_at_up_to_a_bound() -> None:
    table = whole.Range(0, 19_999, rows=True)
    rows = whole.looked_at(table, 16)
    assert len(rows) == whole.MOST_ROWS
    assert (rows[0], rows[-1]) == (0, 19_999)
    assert len(whole.looked_at(table, 1)) == whole.MOST_CASES
    given = source.from_module(Tokens(20_000), {"ids": torch.arange(16)[None]})
    assert whole.left_out(given) == "1,024 of the 20,000 rows that ids chooses from are looked at"


class Masked(nn.Module):
    def forward(self, x: Tensor, mask: Tensor, kept: Tensor, steps: Tensor) -> Tensor:
        return (x * mask).masked_fill(kept, 0.0) + steps


def test_integers_and_booleans_have_a_battery() -> None:
    inputs = {
        "x": torch.randn(1, 6),
        "mask": torch.ones(1, 6, dtype=torch.int64),
        "kept": torch.tensor([[True, False] * 3]),
        "steps": torch.tensor([[3, 9, 4, 4, 4, 4]], dtype=torch.int32),
    }
    made = source.from_module(Masked(), inputs)
    known = whole.ranges(made)
    assert known == {"mask": whole.Range(0, 1), "kept": whole.Range(0, 1), "steps": whole.Range(0, 9)}
    found, _ = cases.inputs(made, understand(made.module, tuple(made.inputs.values())), [], dynamic_batch=False)
    assert not found["lowest_2"].inputs["kept"].any()
    assert found["highest_2"].inputs["kept"].all()
    assert found["highest_3"].inputs["steps"].tolist() == [[9] * 6]
    drawn = found["random"].inputs
    assert drawn["mask"].dtype == torch.int64
    assert 0 <= int(drawn["steps"].min()) <= int(drawn["steps"].max()) <= 9
    assert torch.equal(drawn["x"], inputs["x"])
    again, _ = cases.inputs(made, understand(made.module, tuple(made.inputs.values())), [], dynamic_batch=False)
    assert torch.equal(again["random"].inputs["steps"], drawn["steps"])


class WrongForNegatives(nn.Module):
    """Right for every value that the example has: where a file drops this ReLU, only a negative input shows it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + 100.0) * 1.0


def test_all_negative_and_all_positive_values_are_tried() -> None:
    made = source.from_module(WrongForNegatives(), {"x": torch.rand(1, 3, 4, 4)})
    found, _ = cases.inputs(made, understand(made.module, tuple(made.inputs.values())), [], dynamic_batch=False)
    assert float(found["negative"].inputs["x"].max()) < -50
    assert float(found["positive"].inputs["x"].min()) > 50
    assert not made.module(found["negative"].inputs["x"]).all()


@pytest.mark.parametrize(("own", "expected"), [(1, {2, 3, 5}), (2, {1, 3, 5}), (4, {1, 2, 3, 5})])
def test_a_dynamic_batch_is_tried_with_several_sizes(own: int, expected: set[int]) -> None:
    made = source.from_module(Conv(), {"image": photo().expand(own, -1, -1, -1).contiguous()})
    found, _ = cases.inputs(made, understand(made.module, tuple(made.inputs.values())), [], dynamic_batch=True)
    batches = {name: case.inputs["image"] for name, case in found.items() if name.startswith("batch_of")}
    assert {len(x) for x in batches.values()} == expected
    assert all(len({x.numpy().tobytes() for x in batch}) == len(batch) for batch in batches.values())


def test_an_input_without_a_batch_is_said() -> None:
    class Scaled(nn.Module):
        def forward(self, image: Tensor, scale: Tensor) -> Tensor:
            return image * scale

    made = source.from_module(Scaled(), {"image": photo(), "scale": torch.tensor([0.5])})
    with pytest.raises(BadInputError, match="does not take a batch of 2"):
        cases.inputs(made, understand(made.module, tuple(made.inputs.values())), [], dynamic_batch=True)
