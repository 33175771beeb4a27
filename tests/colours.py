"""Models whose answer to a picture is plain: its mean colour, or the colour of each pixel; and a camera that films one.

Their input is BGR, with a mean and a standard deviation of its own for each channel: with the channels in another
order, or without one of the two, every share is another.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import edgeattn
from edgeattn.bundle.preprocessing import Preprocessing

LABELS = ("red", "green", "blue")
PREPROCESSING = Preprocessing(
    image_size=(32, 32), resize_shortest_edge=40, channels="BGR", mean=(0.2, 0.5, 0.7), std=(0.2, 0.3, 0.4)
)
# What is filmed: red where the model looks, and blue beside it.
INSIDE, BESIDE = (200, 110, 30), (30, 30, 220)


class Colours(nn.Module):
    """Logits for red, green and blue, twice each share of light: of the picture, or of each pixel."""

    def __init__(self, *, of_pixels: bool = False) -> None:
        super().__init__()
        self.of_pixels = of_pixels
        self.mix = nn.Conv2d(3, 3, 1)
        with torch.no_grad():  # the normalisation undone, and BGR turned to RGB
            self.mix.weight.copy_(2 * torch.diag(torch.tensor(PREPROCESSING.std)).flip(0)[..., None, None])
            self.mix.bias.copy_(2 * torch.tensor(PREPROCESSING.mean).flip(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.mix(x if self.of_pixels else nn.functional.adaptive_avg_pool2d(x, 1))
        return y if self.of_pixels else y.flatten(1)


def make(folder: Path) -> dict[str, Path]:
    """By what they take and give: values to logits, bytes to the best five, values to logits of pixels."""
    kinds = {
        "values": {"formats": ["onnx", "tflite"]},
        "bytes": {"formats": ["onnx", "tflite"], "input_image": True, "output": "top5"},
        "pixels": {"formats": ["tflite"]},
    }
    for kind, options in kinds.items():
        module = Colours(of_pixels=kind == "pixels").eval()
        made = edgeattn.deploy(
            module,
            torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32),
            out=folder / kind,
            name="colours",
            preprocessing=PREPROCESSING,
            labels=LABELS,
            **options,
        )
        assert made.passed, made.report
    return {kind: folder / kind for kind in kinds}


def scene() -> Image.Image:
    """Of 192 x 96 pixels; the model's part is 77 of them wide."""
    pixels = np.full((96, 192, 3), BESIDE, np.uint8)
    pixels[:, 48:144] = INSIDE
    return Image.fromarray(pixels)


def film(file: Path) -> Path:
    """The scene as a video that Chromium takes for what a camera sees: a .y4m, in the colours of BT.601."""
    rgb = np.asarray(scene(), np.float64) / 255
    matrix = [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
    y, *chroma = np.rint(np.moveaxis(rgb @ np.transpose(matrix) + [16, 128, 128], -1, 0)).astype(np.uint8)
    planes = [y, *(plane[::2, ::2] for plane in chroma)]
    frame = b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)
    file.write_bytes(b"YUV4MPEG2 W192 H96 F30:1 Ip A1:1 C420\n" + 5 * frame)
    return file
