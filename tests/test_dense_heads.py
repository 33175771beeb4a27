"""DeepLabV3, PSPNet and SSDLite on MobileViTv2, in PyTorch."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.sample_models import MODELS, pspnet, ssdlite
from edgeattn.sample_models._segmentation import Segmenter
from edgeattn.sample_models.deeplabv3 import AtrousPyramid
from edgeattn.sample_models.mobilevitv2 import MobileViTv2
from edgeattn.sample_models.ssdlite import LEVELS, SSDLite

SEGMENTERS = ("deeplabv3", "pspnet")
NAMES = (*SEGMENTERS, "ssdlite")


def made(name: str, seed: int = 0, **arguments: Any) -> nn.Module:
    torch.manual_seed(seed)
    module: nn.Module = MODELS.get(name).build(**{"width": 0.5, "image_size": 64, **arguments})[0]
    return module


def run(module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        y = module(x)
    return (y,) if isinstance(y, Tensor) else y


# Millions of parameters in the model zoo of CVNets, for PASCAL VOC (21 classes), ADE20K (150) and COCO (81).
@pytest.mark.parametrize(
    ("name", "classes", "published"),
    [
        ("deeplabv3", 21, {0.5: 6.2, 1.0: 13.3, 1.25: 17.7, 1.5: 22.6}),
        ("deeplabv3", 150, {0.5: 6.3, 0.75: 9.6, 1.0: 13.4, 1.75: 28.1, 2.0: 34.0}),
        ("pspnet", 21, {0.5: 3.6, 0.75: 6.2, 1.0: 9.4, 1.25: 13.2, 1.5: 17.5}),
        ("pspnet", 150, {0.5: 3.6, 1.0: 9.4, 1.5: 17.6, 1.75: 22.5}),
        ("ssdlite", 81, {0.5: 2.0, 0.75: 3.6, 1.0: 5.6, 1.25: 8.2, 1.5: 11.3, 1.75: 14.9, 2.0: 19.1}),
    ],
)
def test_parameters_are_those_of_the_zoo(name: str, classes: int, published: dict[float, float]) -> None:
    heads = {
        "deeplabv3": lambda channels: AtrousPyramid(channels, 512, (6, 12, 18)),
        "pspnet": lambda channels: pspnet.PyramidPooling(channels, 512),
    }
    for width, millions in published.items():
        with torch.device("meta"):
            model = SSDLite(width, 320, classes) if name == "ssdlite" else Segmenter(heads[name], width, classes, 16)
        assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("shape", [(64, 64), (64, 96), (72, 50)])
def test_a_segmenter_has_logits_for_each_pixel(name: str, stride: int, shape: tuple[int, int]) -> None:
    module = made(name, num_classes=5, output_stride=stride)
    (logits,) = run(module, torch.randn(2, 3, *shape))
    assert logits.shape == (2, 5, *shape)


@pytest.mark.parametrize(("stride", "side", "dilations"), [(32, 2, (1, 1)), (16, 4, (1, 2)), (8, 8, (2, 4))])
def test_a_smaller_stride_is_made_up_for_by_dilation(stride: int, side: int, dilations: tuple[int, int]) -> None:
    model = MobileViTv2(0.5, features=True, output_stride=stride).eval()
    assert run(model, torch.randn(1, 3, 64, 64))[-1].shape[-2:] == (side, side)
    # The first block of a stage has the dilation before it, as in CVNets.
    found = [[part.dilation[0] for part in stage.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
             for stage in model.stages[3:]]  # fmt: skip
    assert found == [[1, dilations[0]], list(dilations)]
    assert model.state_dict().keys() == MobileViTv2(0.5, features=True).state_dict().keys()


def test_the_rates_of_the_holes_double_at_stride_8() -> None:
    for stride, rates in ((16, [1, 6, 12, 18]), (8, [1, 12, 24, 36])):
        branches = made("deeplabv3", output_stride=stride).get_submodule("head.branches")
        assert [branch[0].dilation[0] for branch in branches.children()] == rates


def test_the_mean_of_the_map_stands_in_every_place() -> None:
    pyramid = AtrousPyramid(8, 4, (6, 12, 18)).eval()
    x = torch.randn(1, 8, 5, 7)
    mean = F.interpolate(pyramid.pooled(x.mean((2, 3), keepdim=True)), size=(5, 7), mode="bilinear")
    expected = pyramid.project(torch.cat([*(branch(x) for branch in pyramid.branches), mean], dim=1))
    assert torch.allclose(pyramid(x), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (24, 30), (8, 8), (4, 4), (7, 13), (1, 1), (2, 5)])
@pytest.mark.parametrize("bins", pspnet.BINS)
def test_pooling_is_adaptive_pooling(shape: tuple[int, int], bins: int) -> None:
    x = torch.randn(2, 3, *shape, dtype=torch.float64)
    assert torch.allclose(pspnet.pool(x, bins), F.adaptive_avg_pool2d(x, bins), rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [64, 72, 100, 320])
def test_a_detector_has_a_box_and_probabilities_for_each_anchor(size: int) -> None:
    module = made("ssdlite", image_size=size, num_classes=7)
    boxes, scores = run(module, torch.randn(2, 3, size, size))
    count = sum(side**2 * level.anchors for side, level in zip(ssdlite.sides(size), LEVELS, strict=True))
    assert boxes.shape == (2, count, 4)
    assert scores.shape == (2, count, 7)
    assert torch.allclose(scores.sum(-1), torch.ones(2, count))
    assert bool((boxes[..., 2:] > boxes[..., :2]).all())


@pytest.mark.parametrize("size", [64, 72, 100, 320])
def test_anchors_are_for_the_maps_that_there_are(size: int) -> None:
    model = SSDLite(0.5, size, 7).eval()
    maps = list(run(model.backbone, torch.randn(1, 3, size, size))[-2:])
    for extra in (*model.extra.values(), model.pooled):
        maps.append(extra(maps[-1]))
    assert [x.shape[-1] for x in maps] == ssdlite.sides(size)


def test_anchors_of_coco() -> None:
    """By hand: the first place of the first level, and the level that is one value."""
    anchors = ssdlite.anchors(320)
    assert anchors.shape == (3232, 4)
    small, big, wide = 0.1, (0.1 * (0.1 + 0.95 / 6)) ** 0.5, 0.1 * 2**0.5
    first = torch.tensor([[small, small], [big, big], [wide, wide / 2], [wide / 2, wide]])
    assert torch.allclose(anchors[:4, 2:], first)
    assert torch.allclose(anchors[:6, :2], torch.full((6, 2), 0.5 / 20))
    assert torch.allclose(anchors[6, :2], torch.tensor([1.5 / 20, 0.5 / 20]))  # along the row
    last = 0.1 + 5 * 0.95 / 6
    assert torch.allclose(anchors[-4], torch.tensor([0.5, 0.5, last, last]))
    assert float(anchors.max()) == 1.0  # clipped


def test_a_box_that_does_not_differ_is_its_anchor() -> None:
    model = SSDLite(0.5, 64, 7).eval()
    for head in model.heads:
        nn.init.zeros_(head.predict.weight)
        nn.init.zeros_(head.predict.bias)
        head.predict.bias.data.view(-1, head.outputs)[:, :4] = torch.tensor([1.0, 0.0, 0.0, 2.0])
    boxes, _ = run(model, torch.randn(1, 3, 64, 64))
    x, y, width, height = ssdlite.anchors(64).unbind(1)
    centre, taller = x + 0.1 * width, height * torch.tensor(0.4).exp()
    expected = torch.stack([centre - width / 2, y - taller / 2, centre + width / 2, y + taller / 2], dim=1)
    assert torch.allclose(boxes[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_carry_a_signal(name: str) -> None:
    module = made(name, image_size=128)
    first, second = (run(module, torch.randn(1, 3, 128, 128))[-1] for _ in range(2))
    assert float(first.std()) > 0.01
    assert float((first - second).abs().max() / first.abs().max()) > 0.01
    answers = first.argmax(1 if name in SEGMENTERS else 2)
    assert len(answers.unique()) > 2
    exact = run(module.double(), torch.zeros(1, 3, 128, 128, dtype=torch.float64))[0]
    assert bool(exact.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_makes_the_same_weights(name: str) -> None:
    first, second, other = (made(name, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("argument", ["width", "image_size", "num_classes"])
def test_what_cannot_be_built_is_refused(name: str, argument: str) -> None:
    with pytest.raises(BadInputError, match=f"{argument} must be above 0, not 0"):
        made(name, **{argument: 0})


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("stride", [0, 4, 64])
def test_another_stride_is_refused(name: str, stride: int) -> None:
    with pytest.raises(BadInputError, match=f"output_stride must be 8, 16 or 32, not {stride}"):
        made(name, output_stride=stride)
