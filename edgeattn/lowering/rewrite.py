"""Find the layers that have a deployable form, and put that form in their place."""

import copy
from dataclasses import dataclass
from typing import Literal

from torch import nn

from edgeattn.attention import LinearSelfAttention
from edgeattn.errors import LoweringError
from edgeattn.lowering.attention import ChannelsFirstAttention, ChannelsLastAttention
from edgeattn.lowering.edges import ChannelsFirstEdges, ChannelsLastEdges

Layout = Literal["channels_first", "channels_last"]


@dataclass(frozen=True)
class Change:
    """One rewrite: the path of the module in its parent (empty for the root), what it was, what it became."""

    path: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True)
class Lowering:
    """A lowered module, what was changed in it, and the layout that its inputs and outputs now have."""

    module: nn.Module
    changes: tuple[Change, ...]
    edge_layout: Layout

    @property
    def changed(self) -> bool:
        return bool(self.changes)

    def with_edges(self, layout: Layout) -> nn.Module:
        """The module with inputs and outputs in ``layout``; where that is not its own, transposes are added."""
        if layout == self.edge_layout:
            return self.module
        wrap = ChannelsFirstEdges if layout == "channels_first" else ChannelsLastEdges
        return wrap(self.module).eval()


_REASON = "key folded onto the context vector (2/3 of the multiply-adds), query bias dropped, no expand or split"


def lower(module: nn.Module, *, layout: Layout) -> Lowering:
    """Rewrite every :class:`LinearSelfAttention` in ``module`` to its deployable form, exactly.

    Args:
        module: any module in evaluation mode; it is left untouched.
        layout: ``channels_first`` for ONNX and Core ML; ``channels_last`` for TFLite. If ``module`` is itself
            the layer, its edges become channels-last as well: [B, P, N, C]; inside a network it keeps the
            network's edges, with a transpose on either side.

    Returns:
        A new module and its changes; a module with nothing to lower comes back as an equal copy, no changes.

    Raises:
        LoweringError: the module is in training mode (dropout on the scores forbids key folding), or the
            layout is unknown.
    """
    if layout not in ("channels_first", "channels_last"):
        raise LoweringError(f"layout must be channels_first or channels_last, not {layout!r}")
    if any(part.training for part in module.modules()):
        raise LoweringError("the module is in training mode; call module.eval() before it is lowered")

    if isinstance(module, LinearSelfAttention):
        form = ChannelsFirstAttention if layout == "channels_first" else ChannelsLastAttention
        lowered = form(module).eval()
        return Lowering(lowered, (Change("", _name(module), _name(lowered), _REASON),), layout)

    # The memo hands shared layers on as shared: one module used twice is lowered once.
    result = copy.deepcopy(module)
    forms: dict[nn.Module, nn.Module] = {}
    changes = []
    for parent_path, parent in list(result.named_modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, LinearSelfAttention):
                continue
            if child not in forms:
                forms[child] = (
                    ChannelsFirstAttention(child)
                    if layout == "channels_first"
                    else ChannelsFirstEdges(ChannelsLastAttention(child))
                ).eval()
            setattr(parent, name, forms[child])
            path = f"{parent_path}.{name}" if parent_path else name
            changes.append(Change(path, _name(child), _name(forms[child]), _REASON))
    return Lowering(result, tuple(changes), "channels_first")


def _name(module: nn.Module) -> str:
    return type(module).__name__
