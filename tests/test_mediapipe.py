"""Our .tflite in an app's own library: MediaPipe's ImageClassifier reads picture, range and labels from the file."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from test_pictures import COLOURS, Colours, example

from benchmarks import mediapipe_reads
from edgeattn import deploy
from edgeattn.bundle import manifest
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.formats._tflite_metadata import About, buffer, with_labels
from edgeattn.interface import answers

# In RGB; another mean and deviation for each channel shows one that is not read. MediaPipe itself has one of each.
TOLD = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.3, 0.225))
UNIFORM = Preprocessing(mean=(0.4,), std=(0.3,))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "p.png"
    pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    Image.fromarray(pixels.numpy()).save(path)
    return path


@pytest.mark.parametrize("input_image", [True, False])
def test_mediapipe_gives_our_answer(tmp_path: Path, picture: Path, input_image: bool) -> None:
    bundle = deploy(
        Colours().eval(), example(), out=tmp_path / "b", name="c", input_image=input_image,
        preprocessing=TOLD if input_image else UNIFORM,
        labels=list(COLOURS), output="probabilities", formats="tflite", precisions=["fp32", "int8"],
    )  # fmt: skip
    assert bundle.passed
    loaded = manifest.load(tmp_path / "b")
    for artifact in loaded.manifest.artifacts:
        (ours,), _ = answers.answers(loaded, answers.chosen(loaded, artifact.file.path, ()), [picture])
        theirs = mediapipe_reads.classified(tmp_path / "b" / artifact.file.path, picture)
        assert [label for label, _ in theirs] == [best.label for best in ours.best]
        assert [score for _, score in theirs] == pytest.approx([best.score for best in ours.best], abs=1e-5)


def test_the_same_bytes_each_time() -> None:
    about = About(("image",), ("y",), 3, TOLD, tuple(COLOURS))
    assert buffer(about) == buffer(about)
    assert buffer(about)[4:8] == b"M001"
    assert with_labels(b"model", COLOURS) == with_labels(b"model", COLOURS)
