"""Bundles for snippets, what edgeattn's own session answers to a picture, and programs that are run on it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeattn import runtimes
from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import pictures, preprocessing
from edgeattn.bundle.tensors import Arrays, from_edge, to_edge
from edgeattn.snippets.write import Snippet, snippet

# Mean and standard deviation of each channel, BGR, and a height that is not the width: what is confused shows.
MODEL = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2), nn.ReLU(), nn.Conv2d(12, 8, (5, 7)), nn.ReLU())
        self.head = nn.Linear(8 * 5 * 5, 7)

    def forward(self, image):
        return self.head(self.body(image).flatten(1)) * 8

def make():
    x = (torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0)) - 0.45) / 0.25
    return Small(), x, {"preprocessing": {"channels": "BGR", "mean": [0.3, 0.45, 0.6], "std": [0.2, 0.25, 0.3]}}
"""
SIZE = (20, 24)
# All that a string of some language would trip over.
LABELS = ("T-shirt", 'says "hi"', "back\\slash\\", "$price ${x}", "é ü 靴", "\\(swift) `js`", "what??/ %s")


@dataclass(frozen=True)
class Told:
    """What a program printed: the best label and all scores, the largest first."""

    label: str
    scores: list[float]


def told(printed: str) -> Told:
    lines = [line.split("  ", 1) for line in printed.splitlines()]
    return Told(lines[0][1], [float(score) for score, _ in lines])


def picture(file: Path, size: tuple[int, int] = SIZE) -> Path:
    """A picture of smooth colours, each channel another."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * x / width, 255 * y / height, 60 + 40 * np.sin(x + y))
    Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(file)
    return file


def rgb(file: Path) -> bytes:
    """Its pixels, three bytes each."""
    return np.asarray(Image.open(file).convert("RGB")).tobytes()


def session_outputs(folder: Path, artifact: str, file: Path | None) -> tuple[npt.NDArray[np.generic], Arrays]:
    """What edgeattn's own session is fed for a picture, or zeros, and its outputs, in the file's own types."""
    bundle = bundles.load(folder)
    manifest = bundle.manifest
    chosen = next(a for a in manifest.artifacts if a.file.path == artifact)
    tensor = chosen.inputs[0]
    value: npt.NDArray[np.generic] = np.zeros((1, 3, *SIZE), np.float32)
    if file:
        how = preprocessing.read(manifest.preprocessing, "the test")
        value = pictures.as_bytes(pictures.read(file), how, (1, 3, *SIZE))
        if not manifest.picture:
            value = pictures.normalised(value, how).astype(np.float32)
    fed = to_edge(value, tensor)
    backend = next(b for b in runtimes.backends(chosen.format) if not b.missing)
    with backend.open(bundle.path(chosen.file)) as session:
        return fed, session.run({tensor.name: fed})


def expected(folder: Path, artifact: str, file: Path) -> Told:
    """The five best by edgeattn's own session, on the input that `pictures` makes."""
    manifest = bundles.load(folder).manifest
    outputs = next(a for a in manifest.artifacts if a.file.path == artifact).outputs
    _, found = session_outputs(folder, artifact, file)
    first = from_edge(found["y"], outputs[0], np.dtype(np.float32))[0]
    if "classes" in found:
        return Told(manifest.labels[int(found["classes"][0, 0])], first.tolist())
    scores = np.exp(first - first.max()) / np.exp(first - first.max()).sum()
    return Told(manifest.labels[int(scores.argmax())], sorted(scores.tolist(), reverse=True)[:5])


def written(folder: Path, language: str, artifact: str) -> Snippet:
    return snippet(bundles.load(folder), language, artifact)


def run_python(folder: Path, code: str, *words: str | Path) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def same(found: Told, wanted: Told, tolerance: float = 2e-4) -> bool:
    """Whether it is the same answer; the scores are printed with four digits."""
    return found.label == wanted.label and np.allclose(found.scores, wanted.scores, rtol=0, atol=tolerance)
