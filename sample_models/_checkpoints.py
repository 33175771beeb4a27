"""MobileViTv2 checkpoints of CVNets, timm and transformers, by their keys: the source, the size, our names.

Each source is a list of (pattern, replacement) on whole keys; the first match is taken, and a key without a match
keeps its name, so that strict loading reports it as unexpected. Heads for dense tasks: ``_dense_checkpoints``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgeattn.errors import BadInputError

_CONV_BN = {"convolution": "0", "normalization": "1", "conv": "0", "norm": "1", "bn": "1"}
_RESIDUAL = {
    "expand_1x1": "expand", "conv_3x3": "depthwise", "reduce_1x1": "reduce",
    "exp_1x1": "expand", "red_1x1": "reduce",
    "conv1_1x1": "expand", "conv2_kxk": "depthwise", "conv3_1x1": "reduce",
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A recognised checkpoint: arguments for the sample model, its tensors under our names, preprocessing."""

    source: str
    arguments: dict[str, Any]
    state: dict[str, Tensor]
    preprocessing: dict[str, Any]


def _preprocessing(channels: str, interpolation: str, crop_rounding: str, size: int = 256) -> dict[str, Any]:
    """All three scale pixels to 0..1 and subtract nothing."""
    return {
        "crop_rounding": crop_rounding,
        "image_size": size, "resize_shortest_edge": round(size * 288 / 256), "interpolation": interpolation,
        "crop": "center", "channels": channels, "scale": 1 / 255, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0],
    }  # fmt: skip


_PART = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_TRANSFORMERS = [
    (rf"mobilevitv2\.conv_stem\.(convolution|normalization)\.{_PART}", "stem.{0c}.{1}"),
    (r"mobilevitv2\.encoder\.layer\.0\.layer\.0\.(\w+)\.(\w+)\.(\w+)", "stages.0.{0r}.{1c}.{2}"),
    (r"mobilevitv2\.encoder\.layer\.1\.layer\.(\d)\.(\w+)\.(\w+)\.(\w+)", "stages.1.{0}.{1r}.{2c}.{3}"),
    (
        r"mobilevitv2\.encoder\.layer\.(\d)\.downsampling_layer\.(\w+)\.(\w+)\.(\w+)",
        "stages.{0}.0.{1r}.{2c}.{3}",
    ),
    (r"mobilevitv2\.encoder\.layer\.(\d)\.conv_kxk\.(\w+)\.(\w+)", "stages.{0}.1.local.0.{1c}.{2}"),
    (r"mobilevitv2\.encoder\.layer\.(\d)\.conv_1x1\.convolution\.(\w+)", "stages.{0}.1.local.1.{1}"),
    (
        r"mobilevitv2\.encoder\.layer\.(\d)\.transformer\.layer\.(\d)\.attention\.(\w+)\.convolution\.(\w+)",
        "stages.{0}.1.layers.{1}.attention.{2}.{3}",
    ),
    (
        r"mobilevitv2\.encoder\.layer\.(\d)\.transformer\.layer\.(\d)\.layernorm_before\.(\w+)",
        "stages.{0}.1.layers.{1}.norm_attention.{2}",
    ),
    (
        r"mobilevitv2\.encoder\.layer\.(\d)\.transformer\.layer\.(\d)\.layernorm_after\.(\w+)",
        "stages.{0}.1.layers.{1}.norm_feed_forward.{2}",
    ),
    (
        r"mobilevitv2\.encoder\.layer\.(\d)\.transformer\.layer\.(\d)\.ffn\.conv1\.convolution\.(\w+)",
        "stages.{0}.1.layers.{1}.expand.{2}",
    ),
    (
        r"mobilevitv2\.encoder\.layer\.(\d)\.transformer\.layer\.(\d)\.ffn\.conv2\.convolution\.(\w+)",
        "stages.{0}.1.layers.{1}.reduce.{2}",
    ),
    (r"mobilevitv2\.encoder\.layer\.(\d)\.layernorm\.(\w+)", "stages.{0}.1.norm.{1}"),
    (r"mobilevitv2\.encoder\.layer\.(\d)\.conv_projection\.(\w+)\.(\w+)", "stages.{0}.1.project.{1c}.{2}"),
]
_TIMM = [
    (r"stem\.(conv|bn)\.(\w+)", "stem.{0c}.{1}"),
    (r"stages\.0\.0\.(\w+)\.(conv|bn)\.(\w+)", "stages.0.{0r}.{1c}.{2}"),
    (r"stages\.(\d)\.(\d)\.(conv\d_\w+)\.(conv|bn)\.(\w+)", "stages.{0}.{1}.{2r}.{3c}.{4}"),
    (r"stages\.(\d)\.1\.conv_kxk\.(conv|bn)\.(\w+)", "stages.{0}.1.local.0.{1c}.{2}"),
    (r"stages\.(\d)\.1\.conv_1x1\.(\w+)", "stages.{0}.1.local.1.{1}"),
    (r"stages\.(\d)\.1\.transformer\.(\d)\.attn\.(\w+)\.(\w+)", "stages.{0}.1.layers.{1}.attention.{2}.{3}"),
    (r"stages\.(\d)\.1\.transformer\.(\d)\.norm1\.(\w+)", "stages.{0}.1.layers.{1}.norm_attention.{2}"),
    (r"stages\.(\d)\.1\.transformer\.(\d)\.norm2\.(\w+)", "stages.{0}.1.layers.{1}.norm_feed_forward.{2}"),
    (r"stages\.(\d)\.1\.transformer\.(\d)\.mlp\.fc1\.(\w+)", "stages.{0}.1.layers.{1}.expand.{2}"),
    (r"stages\.(\d)\.1\.transformer\.(\d)\.mlp\.fc2\.(\w+)", "stages.{0}.1.layers.{1}.reduce.{2}"),
    (r"stages\.(\d)\.1\.norm\.(\w+)", "stages.{0}.1.norm.{1}"),
    (r"stages\.(\d)\.1\.conv_proj\.(conv|bn)\.(\w+)", "stages.{0}.1.project.{1c}.{2}"),
    (r"head\.fc\.(\w+)", "classifier.{0}"),
]
CVNETS = [
    (r"conv_1\.block\.(conv|norm)\.(\w+)", "stem.{0c}.{1}"),
    (r"layer_1\.0\.block\.(\w+)\.block\.(conv|norm)\.(\w+)", "stages.0.{0r}.{1c}.{2}"),
    (r"layer_(\d)\.(\d)\.block\.(\w+)\.block\.(conv|norm)\.(\w+)", "stages.{0-}.{1}.{2r}.{3c}.{4}"),
    (r"layer_(\d)\.1\.local_rep\.0\.block\.(conv|norm)\.(\w+)", "stages.{0-}.1.local.0.{1c}.{2}"),
    (r"layer_(\d)\.1\.local_rep\.1\.block\.conv\.(\w+)", "stages.{0-}.1.local.1.{1}"),
    (
        r"layer_(\d)\.1\.global_rep\.(\d)\.pre_norm_attn\.1\.(\w+)\.block\.conv\.(\w+)",
        "stages.{0-}.1.layers.{1}.attention.{2}.{3}",
    ),
    (
        r"layer_(\d)\.1\.global_rep\.(\d)\.pre_norm_attn\.0\.(\w+)",
        "stages.{0-}.1.layers.{1}.norm_attention.{2}",
    ),
    (
        r"layer_(\d)\.1\.global_rep\.(\d)\.pre_norm_ffn\.0\.(\w+)",
        "stages.{0-}.1.layers.{1}.norm_feed_forward.{2}",
    ),
    (r"layer_(\d)\.1\.global_rep\.(\d)\.pre_norm_ffn\.1\.block\.conv\.(\w+)", "stages.{0-}.1.layers.{1}.expand.{2}"),
    (r"layer_(\d)\.1\.global_rep\.(\d)\.pre_norm_ffn\.3\.block\.conv\.(\w+)", "stages.{0-}.1.layers.{1}.reduce.{2}"),
    # The norm comes last: behind two, four and three layers.
    (r"layer_(3)\.1\.global_rep\.2\.(weight|bias)", "stages.{0-}.1.norm.{1}"),
    (r"layer_(4)\.1\.global_rep\.4\.(weight|bias)", "stages.{0-}.1.norm.{1}"),
    (r"layer_(5)\.1\.global_rep\.3\.(weight|bias)", "stages.{0-}.1.norm.{1}"),
    (r"layer_(\d)\.1\.conv_proj\.block\.(conv|norm)\.(\w+)", "stages.{0-}.1.project.{1c}.{2}"),
    (r"classifier\.1\.(\w+)", "classifier.{0}"),
]
# The last convolution before the classifier: [512 * width, ...].
_LAST = "stages.4.1.project.0.weight"
# Source -> (a key that only it has, its patterns, its preprocessing).
_SOURCES: dict[str, tuple[str, list[tuple[str, str]], dict[str, Any]]] = {
    # Published transformers checkpoints flip the channels (do_flip_channel_order).
    "transformers": (
        "mobilevitv2.conv_stem.convolution.weight", _TRANSFORMERS, _preprocessing("BGR", "bilinear", "down"),
    ),
    "timm": ("stages.0.0.conv1_1x1.conv.weight", _TIMM, _preprocessing("RGB", "bicubic", "half to even")),
    "cvnets": ("conv_1.block.conv.weight", CVNETS, _preprocessing("RGB", "bilinear", "half to even")),
}  # fmt: skip


def source_of(state: Mapping[str, Tensor]) -> str | None:
    """Where a classification checkpoint is from, by a key that only this source has."""
    return next((source for source, (marker, _, _) in _SOURCES.items() if marker in state), None)


def recognise(state: Mapping[str, Tensor]) -> Checkpoint | None:
    """The checkpoint under our names, or None if it is of no known source (ours included).

    Raises:
        BadInputError: the source is known, but there is neither a classifier nor the layer before it, which give the
            width.
    """
    source = source_of(state)
    if source is None:
        return None
    _, patterns, preprocessing = _SOURCES[source]
    renamed = rename(state, patterns)
    head, last = renamed.get("classifier.weight"), renamed.get(_LAST)
    if head is not None and head.dim() == 2:
        arguments = {"width": head.shape[1] / 512, "num_classes": head.shape[0]}
    elif last is not None and last.dim() == 4:  # the backbone alone, which --partial takes
        arguments = {"width": last.shape[0] / 512}
    else:
        raise BadInputError(f"this {source} checkpoint has no classifier; give one of a classification model")
    return Checkpoint(source, arguments, renamed, preprocessing)


def rename(state: Mapping[str, Tensor], patterns: list[tuple[str, str]]) -> dict[str, Tensor]:
    """The tensors under our names.

    Raises:
        BadInputError: two keys are of the same parameter.
    """
    origins: dict[str, str] = {}
    for key in state:
        name = _rename(key, patterns)
        if name in origins:
            raise BadInputError(f"this checkpoint has {origins[name]} and {key}, which are the same parameter")
        origins[name] = key
    return {name: state[key] for name, key in origins.items()}


def _rename(key: str, patterns: list[tuple[str, str]]) -> str:
    for pattern, replacement in patterns:
        if match := re.fullmatch(pattern, key):
            return re.sub(r"\{(\d)([cr-]?)\}", lambda m: _renamed_part(match[int(m[1]) + 1], m[2]), replacement)
    return key


def _renamed_part(text: str, conversion: str) -> str:
    """A group of the match: unchanged, as our name of a (c)onvolution's or (r)esidual's part, or minus 1 (-)."""
    if conversion == "-":
        return str(int(text) - 1)
    return {"c": _CONV_BN, "r": _RESIDUAL}.get(conversion, {}).get(text, text)
