"""CVNets' checkpoints of DeepLabV3, PSPNet and SSDLite: by key lists from their source, and there and back."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_checkpoints import as_cvnets, as_timm
from test_dense_heads import NAMES, SEGMENTERS, made, run
from torch import Tensor

from edgeattn.errors import BadInputError
from edgeattn.export import source
from edgeattn.sample_models import MODELS
from edgeattn.sample_models._checkpoints import Checkpoint
from edgeattn.sample_models.mobilevitv2 import MobileViTv2

KEYS = Path(__file__).parent / "cvnets_keys"
_HEADS = {
    "deeplabv3": [
        (r"head\.branches\.(\d)\.", r"seg_head.aspp.aspp_layer.convs.\1."),
        (r"head\.pooled\.", "seg_head.aspp.aspp_layer.convs.4.aspp_pool.conv_1x1."),
        (r"head\.project\.", "seg_head.aspp.aspp_layer.project."),
        (r"classifier\.", "seg_head.classifier.block.conv."),
    ],
    "pspnet": [
        (r"head\.branches\.(\d)\.", r"seg_head.psp_layer.psp_branches.\1.1."),
        (r"head\.fuse\.", "seg_head.psp_layer.fusion.0."),
        (r"classifier\.", "seg_head.classifier.block.conv."),
    ],
    "ssdlite": [
        (r"extra\.(\d+)\.depthwise\.", r"extra_layers.os_\1.dw_conv."),
        (r"extra\.(\d+)\.pointwise\.", r"extra_layers.os_\1.pw_conv."),
        (r"pooled\.1\.", "extra_layers.os_-1.1.block.conv."),
        (r"heads\.(\d)\.project\.", r"ssd_heads.\1.proj_layer."),
        (r"heads\.(\d)\.depthwise\.", r"ssd_heads.\1.loc_cls_layer.dw_conv."),
        (r"heads\.5\.predict\.", "ssd_heads.5.loc_cls_layer.block.conv."),
        (r"heads\.(\d)\.predict\.", r"ssd_heads.\1.loc_cls_layer.pw_conv.block.conv."),
    ],
}
MISSING = {
    "deeplabv3": ("seg_head.aspp.aspp_layer.convs.2.block.conv.weight", "head.branches.2.0.weight"),
    "pspnet": ("seg_head.psp_layer.psp_branches.1.1.block.norm.bias", "head.branches.1.1.bias"),
    "ssdlite": ("ssd_heads.3.loc_cls_layer.pw_conv.block.conv.bias", "heads.3.predict.bias"),
}


def theirs(name: str) -> dict[str, Tensor]:
    """A checkpoint of width 1.0, without values, by the lists in cvnets_keys/."""
    state = {}
    for line in ((KEYS / "encoder.txt").read_text() + (KEYS / f"{name}.txt").read_text()).splitlines():
        if not line.startswith("#"):
            key, _, shape = line.partition(" ")
            state[key] = torch.empty(json.loads(shape), device="meta")
    return state


def renamed(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under CVNets' keys."""

    def key(ours: str) -> str:
        if ours.startswith("backbone."):
            return "encoder." + as_cvnets(ours.removeprefix("backbone."))
        for pattern, replacement in _HEADS[name]:
            if re.match(pattern, ours):
                found = re.sub(rf"^{pattern}", replacement, ours)
                return re.sub(r"\.([01])\.(\w+)$", lambda m: f".block.{('conv', 'norm')[int(m[1])]}.{m[2]}", found)
        raise AssertionError(ours)

    return {key(ours): value.clone() for ours, value in state.items()}


def recognised(name: str, state: dict[str, Tensor]) -> Checkpoint | None:
    recognise = MODELS.get(name).recognise
    assert recognise is not None
    return recognise(state)


def load(name: str, state: dict[str, Tensor], folder: Path, *more: str) -> source.Source:
    save_file(state, folder / "w.safetensors")
    return source.load(name, ["image_size=64", *more], weights=folder / "w.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_every_key_of_cvnets_has_its_place(name: str) -> None:
    state = theirs(name)
    found = recognised(name, state)
    assert found is not None
    classes = {"ssdlite": 81}.get(name, 21)
    stride = {} if name == "ssdlite" else {"output_stride": 16}
    assert (found.source, found.arguments) == ("cvnets", {"width": 1.0, "num_classes": classes, **stride})
    ours = made(name, width=1.0, num_classes=classes).state_dict()
    assert {key: value.shape for key, value in found.state.items()} == {k: v.shape for k, v in ours.items()}
    # What our model would be in CVNets is the list, but for the auxiliary head.
    back = {key: value.shape for key, value in renamed(name, ours).items()}
    assert back == {key: value.shape for key, value in state.items() if "aux_head" not in key}


@pytest.mark.parametrize(("width", "keys"), [(0.5, 352), (1.0, 358), (2.0, 358)])
def test_ssdlite_of_half_width_has_a_projection_less(width: float, keys: int) -> None:
    """Its last map has the 256 channels of that level already; CVNets then makes no projection."""
    assert len(made("ssdlite", width=width).state_dict()) == keys


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [0.5, 0.75])
def test_there_and_back(name: str, width: float, tmp_path: Path) -> None:
    module = made(name, seed=3, width=width, num_classes=11)
    loaded = load(name, renamed(name, module.state_dict()), tmp_path)
    assert loaded.arguments.items() >= {"width": width, "num_classes": 11, "image_size": 64}.items()
    x = torch.randn(1, 3, 64, 64)
    for expected, found in zip(run(module, x), run(loaded.module, x), strict=True):
        assert torch.equal(expected, found)
    assert loaded.preprocessing.source == "cvnets"
    assert loaded.preprocessing.channels == "RGB"
    assert loaded.preprocessing.image_size == (64, 64)  # the input decides


@pytest.mark.parametrize("name", SEGMENTERS)
def test_ade20k_has_stride_8_unless_told(name: str, tmp_path: Path) -> None:
    state = renamed(name, made(name, num_classes=150).state_dict())
    assert load(name, state, tmp_path).arguments["output_stride"] == 8
    assert load(name, state, tmp_path, "output_stride=16").arguments["output_stride"] == 16


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_auxiliary_head_is_left_out_and_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = theirs(name)
    found = recognised(name, state)
    assert found is not None
    assert not any("aux" in key for key in found.state)
    assert capsys.readouterr() == (
        "",
        "edgeattn: 8 tensors of seg_head.aux_head are left out: only training uses them\n",
    )
    recognised(name, {key: value for key, value in state.items() if "aux_head" not in key})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_key_is_refused(name: str, tmp_path: Path) -> None:
    key, ours = MISSING[name]
    state = renamed(name, made(name).state_dict())
    del state[key]
    with pytest.raises(BadInputError, match=rf"not of this model: missing {re.escape(ours)};"):
        load(name, state, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_shape_is_refused(name: str, tmp_path: Path) -> None:
    key, ours = MISSING[name]
    state = renamed(name, made(name).state_dict())
    state[key] = state[key][:-1]
    with pytest.raises(BadInputError, match=rf"^{re.escape(ours)} in .* has shape .*, but the model needs"):
        load(name, state, tmp_path)


SPARE = (
    "seg_head.more.block.conv.weight",
    "ssd_heads.6.loc_cls_layer.pw_conv.block.conv.weight",
    "encoder.layer_3.1.global_rep.5.weight",
    "encoder.classifier.1.weight",
    "fpn.proj_layers.os_16.block.conv.weight",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spare", SPARE)
def test_a_spare_key_is_refused(name: str, spare: str, tmp_path: Path) -> None:
    state = {**renamed(name, made(name).state_dict()), spare: torch.zeros(1)}
    with pytest.raises(BadInputError, match="not of this model: extra") as error:
        load(name, state, tmp_path)
    assert "\n" not in str(error.value)


def test_two_keys_of_one_parameter_are_refused() -> None:
    state = theirs("ssdlite")
    key = "ssd_heads.0.loc_cls_layer.pw_conv.block.conv.bias"
    again = "ssd_heads.0.loc_cls_layer.block.conv.bias"
    with pytest.raises(BadInputError, match=f"{key} and {again}, which are the same parameter"):
        recognised("ssdlite", {**state, again: state[key]})


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("deeplabv3", "encoder.layer_5.1.conv_proj.block.conv.weight", "has no convolution encoder.layer_5"),
        ("pspnet", "seg_head.classifier.block.conv.weight", "has no convolution seg_head.classifier"),
        ("ssdlite", "ssd_heads.5.loc_cls_layer.block.conv.weight", "has no convolution ssd_heads.5"),
    ],
)
def test_without_what_gives_the_size_it_is_refused(name: str, key: str, message: str) -> None:
    state = theirs(name)
    del state[key]
    with pytest.raises(BadInputError, match=message):
        recognised(name, state)


@pytest.mark.parametrize("outputs", [16, 341])
def test_outputs_that_are_no_classes_are_refused(outputs: int) -> None:
    state = {**theirs("ssdlite"), "ssd_heads.5.loc_cls_layer.block.conv.weight": torch.empty(outputs, 64, 1, 1)}
    with pytest.raises(BadInputError, match=f"has {outputs} outputs: no number of classes"):
        recognised("ssdlite", state)


@pytest.mark.parametrize("name", [*NAMES, "mobilevitv2"])
@pytest.mark.parametrize("of", NAMES)
def test_a_checkpoint_of_another_model_names_it(name: str, of: str) -> None:
    if name != of:
        with pytest.raises(BadInputError, match=f"this cvnets checkpoint is of {of}, not of {name}: export {of}"):
            recognised(name, theirs(of))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("of", "rename"), [("timm", as_timm), ("cvnets", as_cvnets)])
def test_a_classifier_is_no_dense_head(name: str, of: str, rename: Callable[[str], str]) -> None:
    state = {rename(key): value for key, value in MobileViTv2(0.5, 7).state_dict().items()}
    with pytest.raises(BadInputError, match=f"this {of} checkpoint is of mobilevitv2, not of {name}"):
        recognised(name, state)


@pytest.mark.parametrize("name", NAMES)
def test_our_own_state_dict_is_no_foreign_one(name: str, tmp_path: Path) -> None:
    module = made(name, seed=4)
    state = module.state_dict()
    assert recognised(name, state) is None
    loaded = load(name, {key: value.clone() for key, value in state.items()}, tmp_path, "width=0.5")
    x = torch.randn(1, 3, 64, 64)
    assert all(map(torch.equal, run(module, x), run(loaded.module, x)))
