"""The camera's arithmetic, in the page's own modules: the part of a frame, its values as inputs, the answers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from phone_client import offered, serving
from phone_page import chromium, phone_page, playwright
from PIL import Image
from playwright.sync_api import Browser, Page

from edgeattn.bundle import pictures
from edgeattn.bundle.manifest import Tensor
from edgeattn.bundle.preprocessing import Preprocessing, document
from edgeattn.bundle.tensors import to_edge
from edgeattn.errors import BadInputError
from edgeattn.phone import camera
from edgeattn.phone.plan import Plan

# Fixtures of another file.
__all__ = ["chromium", "playwright"]

pytestmark = pytest.mark.usefixtures("phone_runtimes")


@pytest.fixture(scope="module")
def page(made_colours: dict[str, Path], chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page that the modules can be imported in."""
    out = tmp_path_factory.mktemp("camera") / "r.json"
    with serving(made_colours["values"], "--camera", "--out", out) as server:
        with phone_page(chromium, server.url) as opened:
            yield opened
        server.interrupt()


@pytest.fixture(scope="module")
def plan(made_colours: dict[str, Path]) -> Plan:
    return offered(made_colours["values"])


def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    """A function of a module of the camera's page."""
    return page.evaluate(
        """async ([module, name, values]) => {
            const found = await import(`${location.href}page/camera/${module}.js`);
            return found[name](...values);
        }""",
        [module, function, list(arguments)],
    )


def with_model(plan: Plan, told: Preprocessing, tensor: Tensor, channels: int, *, picture: bool = False) -> Plan:
    """The plan of another model: of one artifact that takes ``tensor``."""
    manifest, artifact = plan.bundle.manifest, plan.artifacts[0]
    taken = replace(manifest.inputs[0], shape=(1, channels, *_sizes(tensor)[1:]))
    changed = replace(manifest, preprocessing=document(told), inputs=(taken,), picture=tensor.name if picture else None)
    artifacts = (replace(artifact, inputs=(tensor,)),)
    return replace(plan, bundle=replace(plan.bundle, manifest=changed), artifacts=artifacts)


def _sizes(tensor: Tensor) -> tuple[int, int, int]:
    """Channels, height and width."""
    _, a, b, c = (int(size or 1) for size in tensor.shape)
    return (c, a, b) if tensor.layout == "channels_last" else (a, b, c)


IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
FIRST = Tensor("x", (1, 3, 6, 8), "float32", "channels_first")
LAST = Tensor("x", (1, 6, 8, 3), "float32", "channels_last")
STEPS = replace(LAST, dtype="int8", scale=0.021, zero_point=-3)
ONE = Tensor("x", (None, 1, 6, 8), "float32", "channels_first")
INPUTS = {
    "RGB": (IMAGENET, FIRST, False),
    "channels last": (IMAGENET, LAST, False),
    "BGR": (replace(IMAGENET, channels="BGR"), LAST, False),
    "grey, three times": (replace(IMAGENET, channels="grey"), FIRST, False),
    "one channel": (Preprocessing(mean=(0.5,), std=(0.25,)), ONE, False),
    "pixels to 1": (Preprocessing(largest_pixel=1.0, scale=1.0), FIRST, False),
    "int8": (IMAGENET, STEPS, False),
    "float16": (IMAGENET, replace(FIRST, dtype="float16"), False),
    "bytes": (replace(IMAGENET, channels="BGR"), replace(LAST, dtype="uint8"), True),
    "grey bytes": (Preprocessing(channels="grey"), Tensor("x", (1, 6, 8, 1), "uint8", "channels_last"), True),
}


@pytest.mark.parametrize("name", INPUTS)
def test_every_pixel_is_what_the_artifact_takes(name: str, page: Page, plan: Plan) -> None:
    """Bit for bit what Python makes of the same picture."""
    told, tensor, picture = INPUTS[name]
    channels, height, width = _sizes(tensor)
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 4), np.uint8)
    of_bytes = pictures.as_bytes(Image.fromarray(pixels[..., :3]), told, (1, channels, height, width))
    values = of_bytes if picture else pictures.normalised(of_bytes, told).astype(np.float32)
    expected = to_edge(values, tensor)
    assert str(expected.dtype) == tensor.dtype
    changed = with_model(plan, told, tensor, channels, picture=picture)
    (artifact,) = camera.document(changed)["artifacts"]
    given = artifact["input"]
    filled = page.evaluate(
        """async ([pixels, input]) => {
            const [{ fill }, { ARRAYS }] = await Promise.all(
                ["camera/frame", "arrays"].map((name) => import(`${location.href}page/${name}.js`)));
            const target = new ARRAYS[input.dtype](input.shape.reduce((a, b) => a * b));
            fill(target, pixels, input);
            return [...new Uint8Array(target.buffer)];
        }""",
        [pixels.ravel().tolist(), given],
    )
    assert bytes(filled) == expected.tobytes()


def test_an_artifact_that_takes_other_values_is_left_out(plan: Plan) -> None:
    """A uint8 input that is no picture's holds no normalised values; where no other file is left, that is said."""
    steps = Tensor("x", (1, 3, 6, 8), "uint8", "channels_first")
    changed = with_model(plan, IMAGENET, steps, 3)
    with pytest.raises(BadInputError, match="no file that a browser runs takes the values"):
        camera.document(changed)
    both = replace(changed, artifacts=(*changed.artifacts, replace(plan.artifacts[0], inputs=(FIRST,))))
    assert [bool(artifact) for artifact in camera.document(both)["artifacts"]] == [False, True]


FITS = [
    (frame, size, edge, changes)
    for frame in ((640, 480), (480, 640), (257, 255), (100, 300))
    for size in ((32, 32), (48, 64))
    for edge in (None, 35, 20, 90)
    for changes in ({}, {"crop_rounding": "down"}, {"crop": "none"}, {"keep_aspect_ratio": False})
]


def misplaced(page: Page, plan: Plan, **damage: object) -> list[Any]:
    """Where the page takes another part of a frame than Pillow: it resizes and crops pictures of their own coordinates,
    and what is then in the middle says where it was. ``damage`` goes over what the page is told."""
    wrong = []
    for (across, down), (height, width), edge, changes in FITS:
        told = Preprocessing(resize_shortest_edge=edge, **changes)
        tensor = Tensor("x", (1, 3, height, width), "float32", "channels_first")
        fit = camera.document(with_model(plan, told, tensor, 3))["fit"]
        part = call(page, "frame", "part", {"width": across, "height": down}, {**fit, **damage})
        grid = np.meshgrid(np.arange(across) + 0.5, np.arange(down) + 0.5)
        pictured = (Image.fromarray(coordinate.astype(np.float32)) for coordinate in grid)
        x, y = (np.asarray(pictures.fitted(picture, told, (height, width))) for picture in pictured)
        for i, j in ((width // 3, height // 3), (2 * width // 3, 2 * height // 3)):
            here = [
                part["left"] + (i + 0.5) / width * part["width"],
                part["top"] + (j + 0.5) / height * part["height"],
            ]
            if not np.allclose([x[j, i], y[j, i]], here, atol=0.1):
                wrong.append(((across, down), (height, width), told, here))
    return wrong


def test_the_part_of_a_frame_is_pillows(page: Page, plan: Plan) -> None:
    assert misplaced(page, plan) == []


@pytest.mark.parametrize("damage", [{"halves_to_even": False}, {"edge": None}, {"stretch": False}])
def test_another_part_is_found_out(damage: dict[str, object], page: Page, plan: Plan) -> None:
    assert misplaced(page, plan, **damage)


def test_answers(page: Page) -> None:
    logits = np.random.default_rng(3).normal(0, 5, 11)
    shares = np.exp(logits) / np.exp(logits).sum()
    found = call(page, "answer", "best", call(page, "answer", "softmax", logits.tolist()))
    order = np.argsort(-shares)[:5]
    assert [one["index"] for one in found] == order.tolist()
    np.testing.assert_allclose([one["share"] for one in found], shares[order], rtol=1e-12)


@pytest.mark.parametrize("last", [False, True])
def test_the_class_of_each_pixel(last: bool, page: Page) -> None:
    logits = np.random.default_rng(4).normal(size=(1, 5, 3, 4))
    given = logits.transpose(0, 2, 3, 1) if last else logits
    found = call(page, "answer", "classesOf", given.ravel().tolist(), {"shape": given.shape, "last": last})
    assert (found["width"], found["height"]) == (4, 3)
    assert found["map"] == logits.argmax(1).ravel().tolist()


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        (np.float32([1.5, -2]), None),
        (np.float16([0.5, -1.25]), None),
        (np.int64([4, 2**40]), None),
        (np.int8([-128, 0, 127]), (0.5, -3)),
    ],
)
def test_numbers_of_an_output(values: npt.NDArray[Any], steps: tuple[float, int] | None, page: Page) -> None:
    scale, zero = steps or (None, None)
    found = page.evaluate(
        """async ([bytes, described]) => {
            const { numbers } = await import(`${location.href}page/camera/answer.js`);
            return numbers(new Uint8Array(bytes), described);
        }""",
        [list(values.tobytes()), {"dtype": str(values.dtype), "scale": scale, "zero_point": zero}],
    )
    assert found == (values.tolist() if scale is None else ((values - float(zero or 0)) * scale).tolist())
