"""Files that take a picture: the same answer from the pixel on, in all formats."""

import csv
import gc
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Answer
from PIL import Image
from torch import nn

from edgeattn import deploy
from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.export import source
from edgeattn.formats import FORMATS
from edgeattn.interface import answers
from edgeattn.lowering import understand
from edgeattn.parity.check import verify
from edgeattn.parity.selftest import self_test
from edgeattn.system.output import quiet

Command = Callable[..., Answer]
COLOURS = {"blue": (30, 40, 210), "green": (20, 200, 60), "red": (220, 30, 40)}
TOLD = Preprocessing(channels="BGR", mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229))


class Colours(nn.Module):
    """Tells blue, green and red apart, in the order BGR: with another order, or another range, it is wrong."""

    def __init__(self, padding: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=padding)
        self.last = nn.Conv2d(8, 3, 1)
        with torch.no_grad():
            self.first.weight.mul_(0.3)
            self.last.weight.mul_(0.2)
            for i in range(3):
                self.first.weight[i, i] += 1.0
                self.last.weight[i, i] += 2.0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(image).relu()).mean((2, 3))  # type: ignore[no-any-return]


def example() -> torch.Tensor:
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    bundle = deploy(
        Colours().eval(), example(), out=folder / "b", name="colours", preprocessing=TOLD, input_image=True,
        labels=list(COLOURS), output="probabilities", precisions=["fp32", "int8"],
    )  # fmt: skip
    assert bundle.passed, str(bundle)
    return folder / "b"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, colour in COLOURS.items():
        Image.new("RGB", (50, 40), colour).save(folder / f"{name}.png")
    return folder


def test_the_bundle_says_it(made: Path) -> None:
    manifest = bundles.load(made).manifest
    assert (manifest.picture, manifest.labels, manifest.answer) == ("image", tuple(COLOURS), "probabilities")
    edges = {a.format: (a.inputs[0].dtype, a.inputs[0].shape, a.inputs[0].layout) for a in manifest.artifacts}
    last = ("uint8", (1, 16, 16, 3), "channels_last")
    assert edges == {
        "coreai": last, "onnx": last, "tflite": last, "coreml": ("float32", (1, 3, 16, 16), "channels_first"),
        "executorch": ("uint8", (1, 3, 16, 16), "channels_last_memory"),
    }  # fmt: skip


def test_every_file_gives_the_right_answer(edgeattn: Command, made: Path, pictures: Path) -> None:
    answer = edgeattn("run", made, pictures, "--compare", "--json")
    assert answer.code == 0, answer.err
    found = answer.document["answers"]
    assert len(found) == 3 * 10
    for each in found:
        assert each["picture"] == f"{each['best'][0]['label']}.png", each
        assert each["best"][0]["score"] > 0.9
        assert abs(sum(b["score"] for b in each["best"]) - 1) < 0.01


def test_the_mistakes_of_apps_are_noticed(made: Path, tmp_path: Path) -> None:
    bundle = bundles.load(made)
    trials = self_test(bundle).trials
    mistakes = {t.mutation for t in trials if "pixels" in t.mutation or "red" in t.mutation}
    assert len(mistakes) == 4
    for format_ in FORMATS.names:
        verdicts = {t.mutation: t.judgement.verdict for t in trials if t.format == format_ and t.mutation in mistakes}
        assert verdicts == dict.fromkeys(mistakes, "killed"), format_


@pytest.mark.parametrize("wrong", [{"channels": "RGB"}, {"mean": (0.5, 0.456, 0.485)}, {"std": (0.225, 0.224, 0.2)}])
def test_a_file_of_another_preprocessing_is_different(made: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    """The check fails on a candidate that was made with one mistake."""
    told = Preprocessing(**{"channels": "BGR", "mean": TOLD.mean, "std": TOLD.std, **wrong})
    other = deploy(
        Colours().eval(), example(), out=tmp_path / "o", name="colours", preprocessing=told, input_image=True,
        labels=list(COLOURS), output="probabilities", formats="onnx",
    )  # fmt: skip
    assert other.passed
    copy = Path(shutil.copytree(made, tmp_path / "b"))
    shutil.copy(tmp_path / "o/colours-fp32.onnx", copy)
    bundle = bundles.Bundle(copy, bundles.read_manifest(copy))
    failed = {row.candidate for row in verify(bundle).rows if not row.passed}
    assert failed == {"colours-fp32.onnx"}


def test_labels_in_each_formats_own_place(made: Path) -> None:
    for artifact in bundles.load(made).manifest.artifacts:
        found = FORMATS.get(artifact.format).read(made / artifact.file.path).details["metadata"]
        assert json.loads(found["edgeattn.labels"]) == list(COLOURS)
        assert json.loads(found["edgeattn.preprocessing"])["channels"] == "BGR"


def test_core_mls_own_type_for_images(made: Path) -> None:
    from edgeattn.formats.mil.package import read_spec
    from edgeattn.runtimes.coreml import _shape, as_taken

    description = read_spec(made / "colours-fp32.mlpackage").description
    image = description.input[0].type.imageType
    assert (image.width, image.height, image.colorSpace) == (16, 16, image.RGB)
    assert _shape(description.input[0].type) == (1, 3, 16, 16)
    values = np.arange(3 * 256, dtype=np.float32).reshape(1, 3, 16, 16) % 256
    taken = as_taken(description, {"image": values})["image"]
    assert np.array_equal(np.asarray(taken).transpose(2, 0, 1), values[0])


def test_the_best_five(tmp_path: Path, edgeattn: Command) -> None:
    """The classes of a seventh are left out; ties and rounding are the check's business."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(3, 7, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    bundle = deploy(
        module, example(), out=tmp_path / "b", name="seven", preprocessing=TOLD, input_image=True, output="top5",
        labels=[f"class {i}" for i in range(7)],
    )  # fmt: skip
    assert bundle.passed, str(bundle)
    assert [t.name for t in bundle.manifest.outputs] == ["y", "classes"]
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    answer = edgeattn("run", tmp_path / "b", tmp_path / "p.png", "--compare", "--json")
    found = [[b["label"] for b in each["best"]] for each in answer.document["answers"]]
    assert len(found) == 5
    assert all(each == found[0] for each in found)
    assert len(set(found[0])) == 5
    loaded = bundles.load(tmp_path / "b")
    pixels = next(iter(answers.as_input(loaded.manifest, tmp_path / "p.png").values()))
    with torch.no_grad():
        logits = module(torch.from_numpy((pixels[:, ::-1] / 255 - np.reshape(TOLD.mean, (3, 1, 1)))
                                         / np.reshape(TOLD.std, (3, 1, 1))).float())  # fmt: skip
    assert found[0] == [f"class {i}" for i in logits[0].topk(5).indices.tolist()]


def test_a_folder_gives_csv(edgeattn: Command, made: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    shutil.copytree(pictures, tmp_path / "p")
    (tmp_path / "p/broken.png").write_bytes(b"no picture")
    shutil.copy(pictures / "red.png", tmp_path / "p/=1+1.png")
    answer = edgeattn("run", made / "colours-int8.tflite", tmp_path / "p", "--out", tmp_path / "a.csv")
    assert answer.code == 0, answer.err
    assert "broken.png" in answer.out
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert {row["picture"]: row["label_1"] for row in rows} == {
        "'=1+1.png": "red", "blue.png": "blue", "green.png": "green", "red.png": "red",
    }  # fmt: skip
    assert edgeattn("run", made / "colours-int8.tflite", tmp_path / "p").out.count("colours-int8.tflite") == 4


def refused(made: Path, pictures: Path) -> Iterator[tuple[tuple[object, ...], int, str]]:
    red = pictures / "red.png"
    yield (made / "colours-fp32.onnx", pictures / "none.png"), 2, "there is no picture"
    yield (made / "colours-fp32.onnx", made / "manifest.json"), 2, "no picture, or a broken one"
    yield (made / "colours-fp32.onnx", made / "golden"), 2, "holds no picture"
    yield (made / "nothing.onnx", red), 2, "has no artifact nothing.onnx; it has colours-fp32.aimodel"
    yield (pictures / "a.onnx", red), 2, "is no bundle"
    yield (made / "colours-fp32.onnx", red, "--backend", "litert"), 2, "no such backend runs colours-fp32.onnx: litert"
    yield (made / "colours-fp32.mlpackage", red, "--backend", "coreml"), 3, "Core ML runs on macOS only"


def test_what_cannot_be_run(edgeattn: Command, made: Path, pictures: Path) -> None:
    for arguments, code, said in refused(made, pictures):
        answer = edgeattn("run", *arguments)
        assert (answer.code, answer.out, said in answer.err) == (code, "", True), answer.err


def test_a_model_that_takes_no_picture(edgeattn: Command, made_bundle: Path, pictures: Path) -> None:
    answer = edgeattn("run", made_bundle / "attention-fp32.onnx", pictures / "red.png")
    assert (answer.code, "no picture [1, 3, H, W]" in answer.err) == (2, True), answer.err


def test_core_mls_classifier_is_coremltools_own(made: Path, tmp_path: Path) -> None:
    """The operator and the description that it writes for the same model; its parts may have other names."""
    import coremltools as ct

    from edgeattn.formats.mil import classifier
    from edgeattn.formats.mil.package import main_function, read_spec

    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)).eval()
    with quiet():  # it leaves a folder to the collector, and warns of it
        program = torch.export.export(net, (torch.rand(1, 3, 16, 16),)).run_decompositions({})
        model = ct.convert(
            program, convert_to="mlprogram", inputs=[ct.ImageType(name="image", shape=(1, 3, 16, 16))],
            classifier_config=ct.ClassifierConfig(list(COLOURS)), minimum_deployment_target=ct.target.iOS16,
        )  # fmt: skip
        theirs, ours = model.get_spec(), read_spec(made / "colours-fp32.mlpackage")
        del model
        gc.collect()
    for field in ("input", "output", "predictedFeatureName", "predictedProbabilitiesName"):
        assert getattr(ours.description, field) == getattr(theirs.description, field), field
    operators = []
    for spec in (ours, theirs):
        _, block = main_function(spec)
        assert list(block.outputs) == [classifier.LABEL, classifier.PROBABILITIES]
        operators.append(block.operations[-1])
        operators[-1].inputs["probabilities"].arguments[0].name = "probabilities"
    assert operators[0] == operators[1]
    assert classifier.labels_of(ours) == tuple(COLOURS)
    plain = read_spec(made / "colours-fp32.mlpackage")
    assert classifier.take_off(plain)
    assert not classifier.take_off(plain)


def test_what_core_ml_gives_as_tensors(made: Path) -> None:
    """The dictionary by names as the probabilities in the classes' order, which is none of a dictionary."""
    from edgeattn.formats.mil.package import read_spec
    from edgeattn.runtimes.coreml import as_given

    spec = read_spec(made / "colours-int8.mlpackage")
    given = as_given(spec, {"classLabel": "red", "classLabel_probs": {"red": 0.7, "blue": 0.1, "green": 0.2}})
    assert list(given) == ["y"]
    assert np.allclose(given["y"], [[0.1, 0.2, 0.7]])


def test_labels_that_are_alike_make_no_classifier(tmp_path: Path) -> None:
    """ImageNet has two of some: a dictionary would lose one."""
    from edgeattn.formats.mil.classifier import labels_of
    from edgeattn.formats.mil.package import read_spec

    bundle = deploy(
        Colours().eval(), example(), out=tmp_path / "b", name="c", preprocessing=TOLD, input_image=True,
        labels=["crane", "crane", "red"], output="probabilities", formats="coreml",
    )  # fmt: skip
    assert bundle.passed
    assert labels_of(read_spec(tmp_path / "b/c-fp32.mlpackage")) == ()


def test_where_a_file_looks(made_digits: Path, tmp_path: Path, edgeattn: Command) -> None:
    """The scores out of the files are those of the model's own attention, for a picture that the export never saw."""
    from sklearn.datasets import load_digits

    from edgeattn.interface import looking
    from edgeattn.lowering.attentions import scores

    pixels = (load_digits().images[3] / 16 * 255).astype(np.uint8)
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR).save(tmp_path / "three.png")
    loaded, network = bundles.load(made_digits), source.load("digits")
    inputs = answers.as_input(loaded.manifest, tmp_path / "three.png")
    understood = understand(network.module, tuple(network.inputs.values()))
    found = scores(understood, [torch.from_numpy(inputs["image"])])
    expected = {layer.path: layer.weights.numpy() for layer in found if layer.weights is not None}
    for artifact in loaded.manifest.artifacts:
        if artifact.format == "coreai":  # its interpreter shows nothing inside
            continue
        seen = looking.attention(loaded, artifact, inputs, "three")
        assert seen.scores.keys() == expected.keys()
        for layer, one in expected.items():
            assert np.allclose(seen.scores[layer], one, atol=0.02 * one.max()), (artifact.file.path, layer)
    drawn = tmp_path / "look.svg"
    answer = edgeattn("run", made_digits / "digits-fp32.onnx", tmp_path / "three.png", "--picture", drawn)
    assert answer.code == 0, answer.err
    assert "three.png" in drawn.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--picture", "a.png"], "name it something.svg"),
        (["--picture", "a.svg", "--compare"], "one file's attention over one picture"),
        (["--picture", "a.svg"], "has no attention maps"),
    ],
)
def test_no_attention_to_draw(
    edgeattn: Command, made: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    answer = edgeattn("run", made / "colours-fp32.onnx", pictures / "red.png", *options)
    assert (answer.code, said in answer.err) == (2, True), answer.err
    assert not list(tmp_path.iterdir())
