"""Does an app's own library take a .tflite of ours as it is? MediaPipe's ImageClassifier on a picture, beside ours.

    python -m benchmarks.mediapipe_reads b/fashion-fp32.tflite photo.png

It has an environment of its own (benchmarks/peers/mediapipe.txt), half a gigabyte, in edgeattn's cache. The picture is
given to it in the model's own size, so that it resizes nothing; range and labels it reads from the file's metadata.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.peers import environments
from edgeattn.bundle import manifest, pictures
from edgeattn.interface import answers

_CHILD = """
import json, sys
import numpy as np, mediapipe as mp
from PIL import Image
from mediapipe.tasks.python import BaseOptions, vision
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]), max_results=5)
with vision.ImageClassifier.create_from_options(options) as classifier:
    image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.asarray(Image.open(sys.argv[2]).convert("RGB")))
    found = classifier.classify(image).classifications[0].categories
    print(json.dumps([[c.category_name, c.score] for c in found]))
"""


def classified(model: Path, picture: Path) -> list[tuple[str, float]]:
    """MediaPipe's best five of a picture: labels and scores.

    Raises:
        ConversionError: its environment cannot be installed.
        CalledProcessError: it refuses the model.
    """
    python = environments.programs("mediapipe") / "python"
    done = subprocess.run([python, "-c", _CHILD, model, picture], check=True, capture_output=True, text=True)
    return [(label, score) for label, score in json.loads(done.stdout.splitlines()[-1])]


def in_its_size(model: Path, picture: Path, out: Path) -> None:
    """Write the picture as the model's preprocessing makes one of it, in its size."""
    shape, told = pictures.taken(manifest.load(model.parent).manifest)
    pixels = pictures.as_bytes(pictures.read(picture), told, shape)
    image = pixels[0].transpose(1, 2, 0)
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(out)


def main() -> None:
    """Print the best of both, side by side."""
    model, picture = (Path(argument) for argument in sys.argv[1:3])
    bundle = manifest.load(model.parent)
    (ours,), _ = answers.answers(bundle, answers.chosen(bundle, model.name, ()), [picture])
    with tempfile.TemporaryDirectory() as folder:
        in_its_size(model, picture, Path(folder, "picture.png"))
        theirs = classified(model, Path(folder, "picture.png"))
    print(f"{'edgeattn':<30}{'MediaPipe ' + environments.pinned('mediapipe')}")
    for best, (label, score) in zip(ours.best, theirs, strict=False):
        print(f"{best.label:<20}{best.score:>8.4f}  {label:<20}{score:>8.4f}")


if __name__ == "__main__":
    main()
