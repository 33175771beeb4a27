"""CVNets' checkpoints of MobileViTv2 with a head for a dense task: DeepLabV3, PSPNet, SSDLite; read by their keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgeattn.errors import BadInputError
from edgeattn.sample_models import _checkpoints
from edgeattn.sample_models._checkpoints import Checkpoint
from edgeattn.system.notes import note

# Its channels are 512 times the width.
_LAST_OF_ENCODER = "encoder.layer_5.1.conv_proj.block.conv.weight"
# A second classifier, on an earlier map, that only training has.
_AUXILIARY = "seg_head.aux_head."
_ENCODER = [
    (rf"encoder\.{pattern}", f"backbone.{name}")
    for pattern, name in _checkpoints.CVNETS
    if not name.startswith("classifier")
]
_DEEPLABV3 = [
    (r"seg_head\.aspp\.aspp_layer\.convs\.([0-3])\.block\.(conv|norm)\.(\w+)", "head.branches.{0}.{1c}.{2}"),
    (r"seg_head\.aspp\.aspp_layer\.convs\.4\.aspp_pool\.conv_1x1\.block\.(conv|norm)\.(\w+)", "head.pooled.{0c}.{1}"),
    (r"seg_head\.aspp\.aspp_layer\.project\.block\.(conv|norm)\.(\w+)", "head.project.{0c}.{1}"),
    (r"seg_head\.classifier\.block\.conv\.(\w+)", "classifier.{0}"),
]
_PSPNET = [
    (r"seg_head\.psp_layer\.psp_branches\.(\d)\.1\.block\.(conv|norm)\.(\w+)", "head.branches.{0}.{1c}.{2}"),
    (r"seg_head\.psp_layer\.fusion\.0\.block\.(conv|norm)\.(\w+)", "head.fuse.{0c}.{1}"),
    (r"seg_head\.classifier\.block\.conv\.(\w+)", "classifier.{0}"),
]
_SSDLITE = [
    (r"extra_layers\.os_(\d+)\.dw_conv\.block\.(conv|norm)\.(\w+)", "extra.{0}.depthwise.{1c}.{2}"),
    (r"extra_layers\.os_(\d+)\.pw_conv\.block\.(conv|norm)\.(\w+)", "extra.{0}.pointwise.{1c}.{2}"),
    (r"extra_layers\.os_-1\.1\.block\.conv\.(\w+)", "pooled.1.{0}"),
    (r"ssd_heads\.(\d)\.proj_layer\.block\.(conv|norm)\.(\w+)", "heads.{0}.project.{1c}.{2}"),
    (r"ssd_heads\.(\d)\.loc_cls_layer\.dw_conv\.block\.(conv|norm)\.(\w+)", "heads.{0}.depthwise.{1c}.{2}"),
    (r"ssd_heads\.(\d)\.loc_cls_layer\.pw_conv\.block\.conv\.(\w+)", "heads.{0}.predict.{1}"),
    (r"ssd_heads\.(\d)\.loc_cls_layer\.block\.conv\.(\w+)", "heads.{0}.predict.{1}"),
]


@dataclass(frozen=True)
class _Dense:
    """One head of CVNets.

    Attributes:
        prefix: what keys of this head alone begin with.
        patterns: from its keys to ours.
        classifier: the key of a weight whose length gives the classes.
        classes: the classes, by that length; not whole if it is no such weight.
        image_size: side of the images that it was trained on.
    """

    prefix: str
    patterns: list[tuple[str, str]]
    classifier: str
    classes: Callable[[int], float]
    image_size: int


_HEADS = {
    "deeplabv3": _Dense("seg_head.aspp.", _DEEPLABV3, "seg_head.classifier.block.conv.weight", float, 512),
    "pspnet": _Dense("seg_head.psp_layer.", _PSPNET, "seg_head.classifier.block.conv.weight", float, 512),
    # Four boxes on the last map; each has four coordinates.
    "ssdlite": _Dense("ssd_heads.", _SSDLITE, "ssd_heads.5.loc_cls_layer.block.conv.weight", lambda n: n / 4 - 4, 320),
}


def model_of(state: Mapping[str, Tensor]) -> str | None:
    """The sample model that a checkpoint of CVNets with a head is of, or None."""
    return next((name for name, head in _HEADS.items() if any(key.startswith(head.prefix) for key in state)), None)


def recogniser(model: str) -> Callable[[Mapping[str, Tensor]], Checkpoint | None]:
    """What reads a checkpoint for ``model``: gives None if it is of no known source (ours included).

    Raises, when called:
        BadInputError: it is of another model, or does not give width and classes.
    """

    def recognise(state: Mapping[str, Tensor]) -> Checkpoint | None:
        source = _checkpoints.source_of(state)
        found = model_of(state) or ("mobilevitv2" if source else None)
        if found is None:
            return None
        if found != model:
            raise BadInputError(f"this {source or 'cvnets'} checkpoint is of {found}, not of {model}: export {found}")
        return _read(state, model) if model in _HEADS else _checkpoints.recognise(state)

    return recognise


def _read(state: Mapping[str, Tensor], model: str) -> Checkpoint:
    head = _HEADS[model]
    kept = {key: value for key, value in state.items() if not key.startswith(_AUXILIARY)}
    if len(kept) < len(state):
        note(f"{len(state) - len(kept)} tensors of {_AUXILIARY.rstrip('.')} are left out: only training uses them")
    outputs = _length(state, head.classifier)
    classes = head.classes(outputs)
    if classes < 1 or classes % 1:
        raise BadInputError(f"{head.classifier} of this cvnets checkpoint has {outputs} outputs: no number of classes")
    arguments: dict[str, Any] = {"width": _length(state, _LAST_OF_ENCODER) / 512, "num_classes": int(classes)}
    if model != "ssdlite":
        # No tensor tells. CVNets' settings have 8 for ADE20K, which has 150 classes, and 16 for PASCAL VOC.
        arguments["output_stride"] = 8 if classes == 150 else 16
    return Checkpoint(
        "cvnets", arguments, _checkpoints.rename(kept, _ENCODER + head.patterns), _preprocessing(head.image_size)
    )


def _length(state: Mapping[str, Tensor], key: str) -> int:
    if key not in state or state[key].dim() != 4:
        raise BadInputError(f"this cvnets checkpoint has no convolution {key}, which gives width or classes")
    return state[key].shape[0]


def _preprocessing(image_size: int) -> dict[str, Any]:
    """Pixels from 0 to 1, nothing subtracted; both sides resized, whatever the aspect ratio."""
    return {
        "image_size": image_size, "interpolation": "bicubic", "crop": "none", "keep_aspect_ratio": False,
        "channels": "RGB", "scale": 1 / 255, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0],
    }  # fmt: skip
