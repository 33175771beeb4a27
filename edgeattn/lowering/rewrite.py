"""Find the layers that have a deployable form, and replace them by it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from edgeattn.bundle.change import Change
from edgeattn.errors import LoweringError
from edgeattn.layout import Layout
from edgeattn.lowering import recognise
from edgeattn.lowering.attention import ChannelsFirstAttention, ChannelsLastAttention
from edgeattn.lowering.batchnorm import fold_batchnorms
from edgeattn.lowering.compose import compose
from edgeattn.lowering.edges import ChannelsFirstEdges, ChannelsLastEdges
from edgeattn.lowering.observe import observe
from edgeattn.lowering.patches import PatchFreeBlock, PatchFreeLayers, fold_affine


@dataclass(frozen=True)
class Lowering:
    """A lowered module, the changes, and the layout that its inputs and outputs now have."""

    module: nn.Module
    changes: tuple[Change, ...]
    edge_layout: Layout

    def with_edges(self, layout: Layout) -> nn.Module:
        """The module with inputs and outputs in ``layout``; if that is not its own, transposes are added."""
        if layout == self.edge_layout:
            return self.module
        wrap = ChannelsFirstEdges if layout == "channels_first" else ChannelsLastEdges
        return wrap(self.module).eval()


_ATTENTION = "key folded onto the context vector (2/3 of the multiply-adds), query bias dropped, no expand or split"
_BLOCK = "patches without unfolding: a softmax over two axes; GroupNorm's affine part in the convolutions"


def lower(module: nn.Module, *, layout: Layout, inputs: Sequence[Tensor] = ()) -> Lowering:
    """Rewrite ``module`` to its deployable form, exactly.

    Separable self-attention is found in our form, timm's, transformers' and CVNets' (:mod:`recognise`). With example
    inputs, whole MobileViTv2 blocks, BatchNorms and pairs of convolutions with nothing between them are rewritten too;
    the constants of a block then hold for that image size.

    Args:
        module: any module in evaluation mode; it is left untouched.
        layout: ``channels_first`` for ONNX and Core ML; ``channels_last`` for TFLite. If ``module`` is itself the
            attention, its edges become channels-last as well: [B, P, N, C]; inside a network the network keeps its
            edges, with a transpose on either side of what is channels-last.
        inputs: positional example inputs; without them only the attention is rewritten.

    Returns:
        A new module and its changes; a module with nothing to lower is returned as an equal copy, without changes.

    Raises:
        LoweringError: the module is in training mode (dropout on the scores forbids key folding), or the
            layout is unknown.
    """
    if layout not in ("channels_first", "channels_last"):
        raise LoweringError(f"layout must be channels_first or channels_last, not {layout!r}")
    if any(part.training for part in module.modules()):
        raise LoweringError("the module is in training mode; call module.eval() before it is lowered")

    layer = recognise.attention(module)
    if layer is not None:
        form = ChannelsFirstAttention if layout == "channels_first" else ChannelsLastAttention
        lowered = form(layer).eval()
        return Lowering(lowered, (Change("", _name(module), _name(lowered), _ATTENTION),), layout)

    result = _Root(copy.deepcopy(module))
    changes: list[Change] = []
    if inputs:
        observation = observe(module, inputs)
        changes += fold_batchnorms(result.root, observation)
        changes += _blocks(result, layout, observation.sizes)
    changes += _attentions(result, layout)
    while inputs and (composed := compose(result.root, observe(result.root, inputs))):
        changes += composed
    return Lowering(result.root.eval(), tuple(changes), "channels_first")


class _Root(nn.Module):
    """Holds the module, so that the root can be replaced like any other part."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root

    def parts(self) -> list[tuple[nn.Module, str, str, nn.Module]]:
        """(parent, name in it, path, part) of every module; a shared one once for each path."""
        parts = []
        for parent_path, parent in list(self.named_modules()):
            for name, child in list(parent.named_children()):
                path = f"{parent_path}.{name}" if parent_path else name
                parts.append((parent, name, path.removeprefix("root").removeprefix("."), child))
        return parts


def _blocks(result: _Root, layout: Layout, sizes: dict[str, tuple[int, int]]) -> list[Change]:
    changes = []
    for parent, name, path, part in result.parts():
        parts = recognise.block(part)
        if parts is None:
            continue
        size = sizes.get(f"{path}.{parts.before[-1]}" if path else parts.before[-1])
        if size is None or size[0] % parts.patch_size[0] or size[1] % parts.patch_size[1]:
            continue  # called with several sizes, or with a size that the block itself refuses
        last = layout == "channels_last"
        layers: nn.Module = PatchFreeLayers(parts.layers, parts.norm.eps, size, parts.patch_size, channels_last=last)
        if last:
            layers = ChannelsFirstEdges(layers)
        block = PatchFreeBlock(
            nn.Sequential(*(getattr(part, before) for before in parts.before)),
            layers,
            nn.Sequential(fold_affine(parts.project, parts.norm), *parts.after),
            parts.patch_size if parts.resizes else None,
        ).eval()
        setattr(parent, name, block)
        changes.append(Change(path, _name(part), f"{_name(block)}, {layout}", _BLOCK))
    return changes


def _attentions(result: _Root, layout: Layout) -> list[Change]:
    forms: dict[nn.Module, nn.Module] = {}  # one module used twice is lowered once
    changes = []
    for parent, name, path, part in result.parts():
        layer = recognise.attention(part)
        if layer is None:
            continue
        if part not in forms:
            forms[part] = (
                ChannelsFirstAttention(layer)
                if layout == "channels_first"
                else ChannelsFirstEdges(ChannelsLastAttention(layer))
            ).eval()
        setattr(parent, name, forms[part])
        changes.append(Change(path, _name(part), _name(forms[part]), _ATTENTION))
    return changes


def _name(module: nn.Module) -> str:
    return type(module).__name__
