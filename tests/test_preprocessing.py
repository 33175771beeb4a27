"""How a picture becomes the input of a model: as timm, transformers and CVNets do it, to the byte."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeattn.bundle import pictures, preprocessing
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.errors import BadInputError
from edgeattn.sample_models import _checkpoints

SIZES = st.tuples(st.integers(20, 400), st.integers(20, 400))


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def ours(image: Image.Image, told: Preprocessing, side: int) -> np.ndarray[Any, Any]:
    return pictures.normalised(pictures.as_bytes(image, told, (1, 3, side, side)), told)[0]


@settings(max_examples=40, deadline=None)
@given(size=SIZES, interpolation=st.sampled_from(["bicubic", "bilinear"]))
def test_as_timm(size: tuple[int, int], interpolation: str) -> None:
    """Its own transform, with ImageNet's mean and deviation, and the share of the crop of MobileViTv2."""
    from timm.data import create_transform
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    transform = create_transform(64, is_training=False, interpolation=interpolation, crop_pct=0.888)
    told = preprocessing.read(
        {
            "resize_shortest_edge": int(64 / 0.888), "interpolation": interpolation,
            "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD,
        },
        "timm",
    )  # fmt: skip
    image = picture(size)
    assert np.allclose(ours(image, told, 64), transform(image).numpy(), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(size=SIZES)
def test_as_transformers(size: tuple[int, int]) -> None:
    """Its Pillow backend, as its MobileViT checkpoints configure it."""
    from transformers.models.mobilevit.image_processing_pil_mobilevit import MobileViTImageProcessorPil

    processor = MobileViTImageProcessorPil(
        size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}, resample=2, do_flip_channel_order=True
    )
    told = preprocessing.read(_checkpoints._preprocessing("BGR", "bilinear", "down", 64), "transformers")
    image = picture(size)
    theirs = processor(image, return_tensors="np")["pixel_values"][0]
    assert np.allclose(ours(image, told, 64), theirs, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(size=SIZES)
def test_as_cvnets(size: tuple[int, int]) -> None:
    """torchvision's functions, as its `Resize`, `CenterCrop` and `ToTensor` call them."""
    from torchvision.transforms import functional as F

    told = preprocessing.read(_checkpoints._preprocessing("RGB", "bilinear", "half to even", 64), "cvnets")
    image = picture(size)
    theirs = F.to_tensor(F.center_crop(F.resize(image, 72, F.InterpolationMode.BILINEAR), [64, 64]))
    assert np.allclose(ours(image, told, 64), theirs.numpy(), atol=1e-6)


def test_the_two_crops_differ() -> None:
    """Where the middle lies between two pixels; else the tests above would prove nothing of it."""
    image = picture((75, 72))
    one, other = (Preprocessing(resize_shortest_edge=72, crop_rounding=r) for r in ("half to even", "down"))
    assert not np.array_equal(ours(image, one, 64), ours(image, other, 64))


def test_both_sides_are_resized_without_a_crop() -> None:
    image, told = picture((40, 80)), Preprocessing(crop="none", interpolation="nearest")
    expected = np.asarray(image.resize((64, 64), Image.Resampling.NEAREST)).transpose(2, 0, 1) / 255
    assert np.allclose(ours(image, told, 64), expected)
    stretched = Preprocessing(keep_aspect_ratio=False, interpolation="nearest")
    assert np.array_equal(ours(image, stretched, 64), ours(image, told, 64))


def test_a_camera_that_was_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    picture((40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert pictures.read(tmp_path / "turned.jpg").size == (20, 40)


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from(["RGB", "BGR"]),
    mean=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    std=st.lists(st.floats(0.1, 1), min_size=3, max_size=3),
    largest=st.sampled_from([1.0, 16.0, 255.0]),
)
def test_bytes_and_back(channels: Any, mean: list[float], std: list[float], largest: float) -> None:
    told = Preprocessing(channels=channels, mean=tuple(mean), std=tuple(std), largest_pixel=largest, scale=1 / largest)
    values = np.random.default_rng(1).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    assert np.array_equal(pictures.to_bytes(pictures.normalised(values, told), told), values)


def test_grey_is_the_mean() -> None:
    image = Image.new("RGB", (8, 8), (10, 20, 60))
    assert (pictures.as_bytes(image, Preprocessing(channels="grey"), (1, 3, 8, 8)) == 30).all()
    assert pictures.as_bytes(image, Preprocessing(), (1, 1, 8, 8)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"maen": [0.5]}, "has no 'maen'; it takes image_size"),
        ({"mean": "0.5"}, "mean"),
        ({"mean": [0.5] * 4}, "mean"),
        ({"std": [0.0] * 3}, "std"),
        ({"scale": float("nan")}, "scale"),
        ({"channels": "bgr"}, "channels"),
        ({"image_size": 0}, "image_size"),
        ({"mean": torch.zeros(1, 3)}, "mean"),
        ({"crop": 0.9}, "crop"),
    ],
)
def test_what_is_no_preprocessing(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match="the preprocessing of it") as refused:
        preprocessing.read(values, "it")
    assert said in str(refused.value)


@pytest.mark.parametrize("content", ["[1]", "{", '"a"', '{"scale": 2, "more": 1}', "[" * 100_000])
def test_a_file_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(BadInputError, match=r"p\.json"):
        preprocessing.load(tmp_path / "p.json")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    told = Preprocessing(image_size=(64, 48), channels="BGR", mean=(0.1, 0.2, 0.3), source="timm")
    (tmp_path / "p.json").write_text(json.dumps(preprocessing.document(told)))
    assert preprocessing.load(tmp_path / "p.json") == told
    # As bundles of schema 5 and older have it.
    assert preprocessing.read({"channels": "grey, three times", "image_size": 64}, "it").channels == "grey"


def test_mean_for_another_number_of_channels() -> None:
    with pytest.raises(BadInputError, match="3 numbers as mean or std, and the model takes 1 channel"):
        Preprocessing(mean=(0.1, 0.2, 0.3)).affine(1)
