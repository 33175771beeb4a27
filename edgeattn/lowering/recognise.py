"""Find the attention, and the block around it, by structure: in our form, timm's, transformers' and CVNets'.

Nothing of those packages is imported: a form is a set of attribute names, and the types and sizes of what they hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgeattn.attention import LinearSelfAttention
from edgeattn.lowering.patches import LayerParts


@dataclass(frozen=True)
class BlockParts:
    """A MobileViTv2 block: what runs before the patches, the layers, the last norm and the projection."""

    before: tuple[str, ...]
    layers: tuple[LayerParts, ...]
    norm: nn.GroupNorm
    project: nn.Conv2d
    after: tuple[nn.Module, ...]
    patch_size: tuple[int, int]
    resizes: bool


def attention(module: nn.Module) -> LinearSelfAttention | None:
    """``module`` as the reference, if it is separable self-attention in one of the known forms."""
    if isinstance(module, LinearSelfAttention):
        return module
    qkv, out = (_plain_conv(getattr(module, name, None)) for name in ("qkv_proj", "out_proj"))
    if qkv is None or out is None or (qkv.bias is None) != (out.bias is None):
        return None
    d = out.in_channels
    if qkv.in_channels != d or out.out_channels != d or qkv.out_channels != 1 + 2 * d:
        return None
    # The name of the class must match too: another layer could have the same three tensors.
    if "LinearSelfAttention" not in type(module).__name__:
        return None
    layer = LinearSelfAttention(d, bias=qkv.bias is not None).to(qkv.weight.dtype)
    layer.qkv_proj, layer.out_proj = qkv, out
    return layer.eval()


def block(module: nn.Module) -> BlockParts | None:
    """The parts of a MobileViTv2 block, or None if ``module`` is none, or has an unknown form."""
    for form in (_ours, _transformers, _timm, _cvnets):
        parts = form(module)
        if parts is not None:
            return parts
    return None


def _plain_conv(module: object) -> nn.Conv2d | None:
    """The 1x1 convolution that ``module`` is or wraps, if it does nothing more."""
    for inner in (module, getattr(module, "convolution", None), getattr(getattr(module, "block", None), "conv", None)):
        if isinstance(inner, nn.Conv2d) and inner.kernel_size == (1, 1) and inner.stride == (1, 1):
            rest = [m for m in _leaves(module) if m is not inner and not isinstance(m, nn.Identity)]
            return inner if not rest and inner.groups == 1 else None
    return None


def _leaves(module: object) -> Iterable[nn.Module]:
    assert isinstance(module, nn.Module)
    return (m for m in module.modules() if not list(m.children()))


def _activated_conv(module: object) -> tuple[nn.Conv2d, nn.Module] | None:
    """The convolution and the activation of a layer that consists of these two."""
    if not isinstance(module, nn.Module):
        return None
    leaves = [m for m in _leaves(module) if not isinstance(m, nn.Identity)]
    if len(leaves) == 2 and isinstance(leaves[0], nn.Conv2d) and not isinstance(leaves[1], nn.Conv2d):
        return leaves[0], leaves[1]
    return None


def _layer(
    norm_attention: object, attended: object, norm_feed_forward: object, expand: object, reduce: object
) -> LayerParts | None:
    """``expand`` is (convolution, activation)."""
    layer = attention(attended) if isinstance(attended, nn.Module) else None
    reduced = _plain_conv(reduce)
    if layer is None or reduced is None or not isinstance(expand, tuple):
        return None
    conv, activation = _plain_conv(expand[0]), expand[1]
    if (
        conv is None
        or not isinstance(activation, nn.Module)
        or not (_has_one_group(norm_attention) and _has_one_group(norm_feed_forward))
    ):
        return None
    assert isinstance(norm_attention, nn.GroupNorm)
    assert isinstance(norm_feed_forward, nn.GroupNorm)
    return LayerParts(
        norm_attention, layer.qkv_proj, layer.out_proj, norm_feed_forward, conv, activation, reduced
    )  # fmt: skip


def _has_one_group(norm: object) -> bool:
    """Whether this is a norm over the whole sample (CVNets and timm name a subclass of GroupNorm)."""
    return isinstance(norm, nn.GroupNorm) and norm.num_groups == 1


def _parts(
    before: tuple[str, ...],
    layers: list[LayerParts | None],
    norm: object,
    project: object,
    patch: tuple[int, int],
    *,
    resizes: bool,
) -> BlockParts | None:
    recognised = tuple(layer for layer in layers if layer is not None)
    if not recognised or len(recognised) != len(layers) or not isinstance(norm, nn.GroupNorm) or norm.num_groups != 1:
        return None
    if not isinstance(project, nn.Module):
        return None
    leaves = [m for m in _leaves(project) if not isinstance(m, nn.Identity)]
    conv = _plain_conv(leaves[0]) if leaves else None
    if conv is None:
        return None
    return BlockParts(before, recognised, norm, conv, tuple(leaves[1:]), patch, resizes)


def _has(module: Any, *names: str) -> bool:
    return all(hasattr(module, name) for name in names)


def _ours(module: Any) -> BlockParts | None:
    if not _has(module, "local", "layers", "norm", "project", "patch_size"):
        return None
    layers = [
        _layer(m.norm_attention, m.attention, m.norm_feed_forward, (m.expand, m.activation), m.reduce)
        if _has(m, "norm_attention", "attention", "norm_feed_forward", "expand", "activation", "reduce")
        else None
        for m in _items(module.layers)
    ]
    return _parts(("local",), layers, module.norm, module.project, _pair(module.patch_size), resizes=True)


def _transformers(module: Any) -> BlockParts | None:
    if not _has(module, "conv_kxk", "conv_1x1", "transformer", "layernorm", "conv_projection", "patch_height"):
        return None
    layers = [
        _layer(m.layernorm_before, m.attention, m.layernorm_after, _activated_conv(m.ffn.conv1), m.ffn.conv2)
        if _has(m, "layernorm_before", "attention", "layernorm_after", "ffn")
        else None
        for m in _items(getattr(module.transformer, "layer", None))
    ]
    down = ("downsampling_layer",) if getattr(module, "downsampling_layer", None) is not None else ()
    before = (*down, "conv_kxk", "conv_1x1")
    patch = _pair((module.patch_height, module.patch_width))
    return _parts(before, layers, module.layernorm, module.conv_projection, patch, resizes=False)


def _timm(module: Any) -> BlockParts | None:
    if not _has(module, "conv_kxk", "conv_1x1", "transformer", "norm", "conv_proj", "patch_size"):
        return None
    layers = [
        _layer(m.norm1, m.attn, m.norm2, (m.mlp.fc1, m.mlp.act), m.mlp.fc2)
        if _has(m, "norm1", "attn", "norm2", "mlp") and _has(m.mlp, "fc1", "act", "fc2")
        else None
        for m in _items(module.transformer)
    ]
    before = ("conv_kxk", "conv_1x1")
    return _parts(before, layers, module.norm, module.conv_proj, _pair(module.patch_size), resizes=True)


def _cvnets(module: Any) -> BlockParts | None:
    if not _has(module, "local_rep", "global_rep", "conv_proj", "patch_h", "patch_w"):
        return None
    *blocks, norm = _items(module.global_rep) or [None]
    layers: list[LayerParts | None] = []
    for m in blocks:
        attended, forward = (_items(getattr(m, name, None)) for name in ("pre_norm_attn", "pre_norm_ffn"))
        forward = [part for part in forward if not isinstance(part, nn.Dropout)]
        known = len(attended) >= 2 and len(forward) == 3
        layers.append(
            _layer(attended[0], attended[1], forward[0], _activated_conv(forward[1]), forward[2]) if known else None
        )
    patch = _pair((module.patch_h, module.patch_w))
    return _parts(("local_rep",), layers, norm, module.conv_proj, patch, resizes=True)


def _items(module: object) -> list[Any]:
    return list(module) if isinstance(module, nn.Sequential | nn.ModuleList) else []


def _pair(size: Any) -> tuple[int, int]:
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return int(height), int(width)
