"""fp16 and int8: made by the ecosystems' own tools, calibrated, and judged by limits of their own."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.golden import golden_cases
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.bundle.tensors import from_edge, to_edge
from edgeattn.errors import BadInputError
from edgeattn.export import calibration, cases, pipeline, source
from edgeattn.export.quantize._bias import correct_biases, rounded
from edgeattn.formats import FORMATS, tflite
from edgeattn.lowering import lower
from edgeattn.parity.accuracy import Accuracy, score
from edgeattn.parity.check import check_artifact, verify
from edgeattn.parity.metrics import compare
from edgeattn.parity.recommend import recommend
from edgeattn.precision import PRECISIONS, SqnrLimits
from edgeattn.runtimes import onnxruntime
from edgeattn.sample_models import mobilevitv2

MADE = ("fp32", "fp16", "int8", "int8-dynamic")
LAYER = ["embed_dim=32", "pixels=4", "patches=16"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    """The layer in all formats and precisions; tests only read it."""
    out = tmp_path_factory.mktemp("precisions") / "b"
    result = pipeline.export(source.load("attention", LAYER), pipeline.Options(precisions=MADE), out)
    assert result.report.passed, [row for row in result.report.rows if not row.passed]
    return result.bundle


def artifact(made: bundles.Bundle, format_: str, precision: str) -> bundles.Artifact:
    return next(a for a in made.manifest.artifacts if (a.format, a.precision) == (format_, precision))


def test_every_format_in_every_precision(made: bundles.Bundle) -> None:
    found = {(a.format, a.precision) for a in made.manifest.artifacts}
    assert found == {(f, p) for f in FORMATS.names for p in MADE}
    for format_ in FORMATS.names:
        sizes = [artifact(made, format_, p).file.size_bytes for p in ("fp32", "fp16")]
        # ExecuTorch keeps the weights of XNNPACK's convolutions as fp32.
        assert sizes[1] < sizes[0] or format_ == "executorch"
    assert made.manifest.calibration is not None
    assert "photographs" in made.manifest.calibration.warning
    assert artifact(made, "onnx", "fp32").judged_on is None
    assert set(artifact(made, "onnx", "int8").judged_on or ()) == {"example", "photograph", "calibration"}
    assert "large" in artifact(made, "onnx", "fp16").beyond
    assert not artifact(made, "onnx", "int8").beyond
    assert "large" in artifact(made, "coreml", "int8").beyond  # what is not int8 there is fp16


def test_the_files_hold_what_they_say(made: bundles.Bundle) -> None:
    half = onnx.load(str(made.path(artifact(made, "onnx", "fp16").file)))
    matrices = [t for t in half.graph.initializer if t.dims and np.prod(t.dims) >= 32 * 32]
    assert matrices
    assert all(t.data_type == onnx.TensorProto.FLOAT16 for t in matrices)
    kinds = [node.op_type for node in onnx.load(str(made.path(artifact(made, "onnx", "int8").file))).graph.node]
    assert kinds.count("QuantizeLinear") >= 2
    graph = tflite.FORMAT.read(made.path(artifact(made, "tflite", "fp16").file))
    assert graph.details["metadata"]["reduced_precision_support"] == "fp16accfp16"
    assert (
        "reduced_precision_support" not in tflite.FORMAT.read(made.path(artifact(made, "tflite", "int8").file)).details
    )


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-dynamic"])
def test_a_broken_one_fails(made: bundles.Bundle, tmp_path: Path, precision: str) -> None:
    """Two output channels exchanged, in a weight of the lower precision's own type."""
    one = artifact(made, "onnx", precision)
    model = onnx.load(str(made.path(one.file)))
    weight = max(model.graph.initializer, key=lambda t: np.prod(t.dims))
    value = numpy_helper.to_array(weight).copy()
    value[[0, 1]] = value[[1, 0]]
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    broken = tmp_path / "broken.onnx"
    onnx.save(model, str(broken))
    for path, sound in ((made.path(one.file), True), (broken, False)):
        with onnxruntime.RUNTIME.open(path) as session:
            rows = check_artifact(one, "onnxruntime", session, golden_cases(made))
        assert all(row.passed for row in rows) == sound


def test_the_smallest_that_loses_little_is_recommended(made: bundles.Bundle) -> None:
    path = made.manifest.artifacts[0].file.path
    smallest = {a.format: min(b.file.size_bytes for b in made.manifest.artifacts if b.format == a.format)
                for a in made.manifest.artifacts}  # fmt: skip
    report = verify(made)
    found = recommend(made, report, 0.5)
    assert {one.format: one.size_bytes for one in found} == smallest
    assert all(one.of_fp32 is not None and one.of_fp32 < 1 for one in found)
    # Without an answer right, what was recommended is out.
    worst = tuple(Accuracy(one.artifact, "any", True, "", 100, 90, 91, 99) for one in found)
    others = recommend(made, replace(report, accuracy=worst), 0.5)
    assert {one.artifact for one in others}.isdisjoint(one.artifact for one in found)
    assert recommend(made, replace(report, accuracy=worst), 1.0)[0].lost_points == 1.0
    failed = tuple(replace(row, passed=False) if row.candidate == path else row for row in report.rows)
    assert path not in {one.artifact for one in recommend(made, replace(report, rows=failed), 0.5)}


def test_limits_of_signal_to_noise() -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal(10_000)
    limits = {name: one.limits for name, one in PRECISIONS.items() if isinstance(one.limits, SqnrLimits)}
    assert limits.keys() == PRECISIONS.keys() - {"fp32"}
    for precision, limit in limits.items():
        for offset, passes in ((1.0, True), (-1.0, False)):
            noise = random.standard_normal(truth.size) * 10 ** (-(limit.on_data_db + offset) / 20)
            given = {"oracle": truth, "reference": truth.astype("f4"), "candidate": (truth + noise).astype("f4")}
            assert compare(**given, precision=precision).passed == passes
            assert compare(**given, precision=precision, judged=False).passed
    lost = truth + random.standard_normal(truth.size) * 10 ** (-30 / 20)
    given = {"oracle": truth, "reference": truth.astype("f4"), "candidate": lost.astype("f4")}
    assert not compare(**given, precision="fp16", judged=False).passed
    assert compare(**given, precision="int8").passed
    lost = np.full(3, np.nan, "f4")
    assert not compare(
        oracle=np.ones(3), reference=np.ones(3, "f4"), candidate=lost, precision="int8", judged=False
    ).passed


def test_accuracy_of_int8_may_lose_little() -> None:
    labels = np.zeros(1000, np.int64)
    reference = np.tile([1.0, 0.0], (1000, 1))

    def verdict(lost: int, precision: str) -> bool:
        candidate = reference.copy()
        candidate[:lost] = [0.0, 1.0]
        return score(reference=reference, candidate=candidate, labels=labels, precision=precision).passed

    assert verdict(5, "int8")
    assert not verdict(6, "int8")  # 99.4 % agree, but more than half a point of top-1 is gone
    assert verdict(1, "fp16")
    assert not verdict(2, "fp16")


def test_biases_take_up_what_rounding_weights_shifts() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 1, bias=False)).eval()
    given = [(torch.rand(1, 3, 8, 8),) for _ in range(4)]

    def off(model: nn.Module) -> float:
        """How far the mean of a channel is from the float module's, with the weights rounded."""
        model = copy.deepcopy(model)
        for part in model.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.data = rounded(part.weight)
        with torch.no_grad():
            errors = torch.cat([model(*x) - module(*x) for x in given])
        return float(errors.mean(dim=(0, 2, 3)).abs().max())

    assert off(correct_biases(module, given)) < off(module) / 5


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_the_lowering_has_no_constant_that_ruins_a_range(layout: Any) -> None:
    module, inputs = mobilevitv2.build(0.5, image_size=32)
    lowered = lower(module, layout=layout, inputs=tuple(inputs.values())).module
    assert all(float(buffer.abs().max()) <= 1 for buffer in lowered.buffers())


def test_what_fp16_cannot_hold_is_found_before_it_is_run() -> None:
    loaded = source.load("attention", LAYER)
    scaled = {scale: cases.Case("", {"x": loaded.inputs["x"] * scale}) for scale in (1.0, 1e3, 1e5)}
    # From a thousand on no part gives such a value, but the product of value and context is one.
    assert list(cases.beyond_fp16(loaded, {str(scale): case for scale, case in scaled.items()})) == [
        "1000.0",
        "100000.0",
    ]


@pytest.mark.parametrize(
    ("format_", "precision", "kind"),
    [("onnx", "fp16", "float16"), ("coreml", "fp16", "float16"), ("tflite", "int8", "int8")],
)
def test_edges_of_its_own_type(
    edgeattn: Callable[..., Any], tmp_path: Path, format_: str, precision: str, kind: str
) -> None:
    model = ("attention", *(part for pair in LAYER for part in ("--arg", pair)), "--format", format_)
    options = ("--precision", "fp32", "--precision", precision, "--edge-type", "own")
    answer = edgeattn("export", *model, *options, "--out", tmp_path / "b", "--json")
    assert answer.code == 0
    full, low = answer.document["manifest"]["artifacts"]
    for edge in ("inputs", "outputs"):
        assert [t["dtype"] for t in full[edge]] == ["float32"]
        assert [t["dtype"] for t in low[edge]] == [kind]
        assert [t["name"] for t in low[edge]] == [t["name"] for t in full[edge]]
        assert (low[edge][0]["scale"] is not None) == (kind == "int8")
    assert low["details"]["edges"] == kind
    assert edgeattn("parity", tmp_path / "b").code == 0
    if format_ != "coreml":
        assert edgeattn("profile", tmp_path / "b", "--runs", "1", "--warmup", "1").code == 0


def test_an_unknown_edge_type(edgeattn: Callable[..., Any], tmp_path: Path) -> None:
    refused = edgeattn("export", "attention", "--edge-type", "bf16", "--out", tmp_path / "b")
    assert (refused.code, "--edge-type must be float32 or own" in refused.err) == (2, True)


def test_steps_of_an_edge() -> None:
    tensor = bundles.Tensor("x", (1, 3), "int8", None, 0.5, -10)
    values = np.array([[-1000.0, 1.25, 2.0]], "f4")
    steps = to_edge(values, tensor)
    assert steps.dtype == np.int8
    assert steps.tolist() == [[-128, -8, -6]]
    assert from_edge(steps, tensor, values.dtype).tolist() == [[-59.0, 1.0, 2.0]]
    # What is of another type than it should be is not made right.
    assert from_edge(values.astype("f8"), tensor, values.dtype).dtype == np.float64


def picture(path: Path, mode: str = "RGB") -> None:
    Image.new(mode, (70, 50), 7 if mode in ("L", "I;16", "F") else None).save(path)


@pytest.fixture(scope="module")
def network() -> source.Source:
    return source.load("mobilevitv2", ["width=0.5", "image_size=32"])


def test_a_folder_of_images(network: source.Source, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "grey.png", "L")
    picture(tmp_path / "deep.tiff", "F")
    (tmp_path / "cut.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("not looked at")
    found = calibration.choose(network, tmp_path)
    assert len(found.inputs) == 2
    assert found.inputs[0]["image"].shape == (1, 3, 32, 32)
    assert set(found.skipped) == {"cut.jpg", "deep.tiff"}
    assert "mode F" in found.skipped["deep.tiff"]
    assert "broken" in found.skipped["cut.jpg"]
    assert "few" in found.warning
    assert found.sha256 == calibration.choose(network, tmp_path).sha256
    picture(tmp_path / "b.png")
    assert found.sha256 != calibration.choose(network, tmp_path).sha256


def test_preprocessing_is_the_models_own(network: source.Source, tmp_path: Path) -> None:
    Image.new("RGB", (64, 32), (255, 0, 51)).save(tmp_path / "a.png")
    told = Preprocessing(std=(1.0, 0.5, 1.0), channels="BGR")
    image = calibration.choose(replace(network, preprocessing=told), tmp_path).inputs[0]["image"]
    assert torch.allclose(image[0, :, 0, 0], torch.tensor([0.2, 0.0, 1.0]))
    unknown = calibration.choose(network, tmp_path).inputs[0]["image"]
    assert torch.allclose(unknown[0, :, 0, 0], torch.tensor([1.0, -1.0, -0.6]))


def test_arrays(tmp_path: Path) -> None:
    loaded = source.load("attention", LAYER)
    np.savez(tmp_path / "many.npz", x=np.zeros((3, 32, 4, 16)))
    np.savez(tmp_path / "wrong.npz", x=np.zeros((1, 31, 4, 16)))
    np.savez(tmp_path / "other.npz", y=np.zeros((1, 32, 4, 16)))
    found = calibration.choose(loaded, tmp_path)
    assert len(found.inputs) == 3
    assert found.inputs[0]["x"].dtype == torch.float32
    assert set(found.skipped) == {"wrong.npz", "other.npz"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "takes a folder"),
        ({}, "neither images"),
        ({"a.png": b"x"}, "a.png: it is no picture, or a broken one"),
        ({"a.npz": b"x"}, "a.npz: it cannot be read"),
    ],
)
def test_a_folder_that_is_of_no_use(
    edgeattn: Callable[..., Any], tmp_path: Path, content: dict[str, bytes] | None, said: str
) -> None:
    folder = tmp_path / "set"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    options = ("--arg", "width=0.5", "--arg", "image_size=32", "--precision", "int8", "--format", "onnx")
    answer = edgeattn("export", "mobilevitv2", *options, "--calibrate", folder, "--out", tmp_path / "b")
    assert answer.code == 2
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "b").exists()


def test_images_for_what_takes_none(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(BadInputError, match=r"calibrate it on \.npz files"):
        calibration.choose(source.load("attention", LAYER), tmp_path)


def test_weights_behind_the_flatbuffer_are_taken_into_it(made: bundles.Bundle, tmp_path: Path) -> None:
    path = shutil.copy(made.path(artifact(made, "tflite", "int8").file), tmp_path / "a.tflite")
    before = tflite.FORMAT.read(path)
    path.write_bytes(tflite.finished(path.read_bytes(), {"said": "so"}))
    after = tflite.FORMAT.read(path)
    assert after.details["metadata"]["said"] == "so"
    assert after.parameters == before.parameters


def test_a_sweep_goes_on_where_it_stopped(
    edgeattn: Callable[..., Any], made: bundles.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = edgeattn("study", "precision", "--bundle", made.folder, "--format", "onnx", "--out", tmp_path, "--json")
    assert first.code == 0
    found = first.document["found"]["onnx"]
    assert len(found) == 2
    assert all(25 < one["sqnr_db"] < 60 for one in found)
    assert found[0]["sqnr_db"] <= found[1]["sqnr_db"]
    assert (tmp_path / "onnx.svg").read_text().startswith("<?xml")

    make = "edgeattn.export.quantize.onnx.OnnxQuantizer.make"
    monkeypatch.setattr(make, lambda self, job: pytest.fail("measured again"))
    again = edgeattn("study", "precision", "--bundle", made.folder, "--format", "onnx", "--out", tmp_path, "--json")
    assert again.document["found"] == first.document["found"]

    written = (tmp_path / "onnx.json").read_text()
    (tmp_path / "onnx.json").write_text(written.replace('"artifact": "', '"artifact": "0'))
    other = edgeattn("study", "precision", "--bundle", made.folder, "--format", "onnx", "--out", tmp_path)
    assert (other.code, "another artifact" in other.err) == (2, True)


def test_a_sweep_needs_a_bundle(edgeattn: Callable[..., Any], tmp_path: Path) -> None:
    assert "--bundle" in edgeattn("study", "precision", "--out", tmp_path / "s").err


def test_a_sweep_of_core_ml(edgeattn: Callable[..., Any], made: bundles.Bundle, tmp_path: Path) -> None:
    answer = edgeattn("study", "precision", "--bundle", made.folder, "--format", "coreml", "--out", tmp_path, "--json")
    assert answer.code == 0
    found = answer.document["found"]["coreml"]
    assert {one["kind"] for one in found} == {"conv"}
    assert all(25 < one["sqnr_db"] < 60 for one in found)


@pytest.mark.parametrize(("precision", "bits"), [("palette6", 6), ("palette4", 4)])
def test_palettes_of_core_ml_and_core_ai(
    edgeattn: Callable[..., Any], tmp_path: Path, precision: str, bits: int
) -> None:
    model = ("attention", "--arg", "embed_dim=96", "--arg", "pixels=4", "--arg", "patches=16")
    out = tmp_path / "b"
    answer = edgeattn("export", *model, "--precision", precision, "--out", out, "--json")
    assert answer.code == 0
    made = answer.document["manifest"]["artifacts"]
    assert [(each["format"], each["precision"]) for each in made] == [("coreai", precision), ("coreml", precision)]
    assert {each["details"]["weights"] for each in made} == {f"{bits} bit palettes"}
    assert answer.document["manifest"]["calibration"] is None
    refused = edgeattn("export", *model, "--precision", precision, "--format", "onnx", "--out", tmp_path / "c")
    assert (refused.code, "onnx cannot be exported in" in refused.err) == (2, True)
    assert not (tmp_path / "c").exists()


def test_random_weights_do_not_survive_sixteen_values(edgeattn: Callable[..., Any], tmp_path: Path) -> None:
    """Those of a whole network; trained ones do (docs/precisions.md)."""
    model = ("mobilevitv2", "--arg", "width=0.25", "--arg", "image_size=64", "--format", "coreml")
    answer = edgeattn("export", *model, "--precision", "palette4", "--out", tmp_path / "b", "--json")
    assert answer.code == 1
    assert "dB, not 20" in answer.out


def test_an_operator_is_kept_by_name(edgeattn: Callable[..., Any], made: bundles.Bundle, tmp_path: Path) -> None:
    from edgeattn.export.quantize import onnx as quantiser

    model = ("attention", *(part for pair in LAYER for part in ("--arg", pair)), "--format", "onnx")
    _, output = quantiser.QUANTIZER.candidates(made.path(artifact(made, "onnx", "fp32").file))[0]
    answer = edgeattn("export", *model, "--precision", "int8", "--keep", output, "--out", tmp_path / "b", "--json")
    assert answer.code == 0
    details = answer.document["manifest"]["artifacts"][0]["details"]
    assert details["kept_by_name"] == [output]
    assert details["static_ops"] == artifact(made, "onnx", "int8").details.static_ops - 1
    refused = edgeattn("export", *model, "--precision", "int8", "--keep", "nothing", "--out", tmp_path / "c")
    assert (refused.code, "study precision" in refused.err) == (2, True)
    assert not (tmp_path / "c").exists()


def test_the_trained_digits_keep_their_answers_in_int8(edgeattn: Callable[..., Any], tmp_path: Path) -> None:
    """Their preprocessing, of pixels from 0 to 16, and their calibration set are of one range."""
    out = tmp_path / "b"
    answer = edgeattn("export", "digits", "--format", "onnx", "--precision", "int8", "--out", out)
    assert answer.code == 0
    assert "image is from 0 to 1 in the calibration set, from 0 to 1 in the example, from 0 to 1 by" in answer.out
    (row,) = edgeattn("parity", out, "--json").document["accuracy"]
    assert row["passed"]
