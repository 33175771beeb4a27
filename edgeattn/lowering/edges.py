"""The layout of a module's inputs and outputs, if it is not the layout inside."""

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeattn.layout import Layout
from edgeattn.lowering.writing.physical import TO_FIRST, TO_LAST

# The numbers of some inputs; None is all inputs and outputs.
Which = Collection[int] | None


class ChannelsLastEdges(nn.Module):
    """Channels-last outside, channels-first inside: one transpose for each tensor of rank 4, or for ``which``."""

    def __init__(self, inner: nn.Module, which: Which) -> None:
        super().__init__()
        self.inner, self.which = inner, which

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs of the module inside."""
        which = self.which
        given = (to_channels_first(x) if which is None or i in which else x for i, x in enumerate(inputs))
        results = tuple(flat(self.inner(*given)))
        if which is None:
            results = tuple(map(to_channels_last, results))
        return results[0] if len(results) == 1 else results


def flat(result: Any) -> list[Any]:
    """The tensors in what a module returned, in order, without what is None."""
    if isinstance(result, Tensor):
        return [result]
    values = result.values() if isinstance(result, Mapping) else result
    return [tensor for value in values if value is not None for tensor in flat(value)]


def to_channels_last(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H, W, C]; other ranks have no layout and stay."""
    return x.permute(*TO_LAST) if x.dim() == 4 else x


def in_layout(x: Tensor, layout: Layout) -> Tensor:
    """A channels-first tensor as an edge of this layout: its shape, and how it lies in memory."""
    if layout == "channels_last":
        return to_channels_last(x).contiguous()
    is_last = layout == "channels_last_memory" and x.dim() == 4
    return x.contiguous(memory_format=torch.channels_last) if is_last else x


def to_channels_first(x: Tensor) -> Tensor:
    """[B, H, W, C] -> [B, C, H, W]; other ranks have no layout and stay."""
    return x.permute(*TO_FIRST) if x.dim() == 4 else x


def with_last_edges(module: nn.Module, which: Which = None) -> nn.Module:
    """``module`` with channels-last inputs and outputs, or the inputs of these numbers alone. In a graph, transposes
    that cancel are left out."""
    if not isinstance(module, fx.GraphModule) or any(n.op == "call_method" for n in module.graph.nodes):
        return ChannelsLastEdges(module, which).eval()
    result = copy.deepcopy(module)
    graph = result.graph
    permute = torch.ops.aten.permute.default
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    for i, node in enumerate(placeholders):
        if node.meta["val"].dim() == 4 and (which is None or i in which):
            with graph.inserting_after(node):
                first = graph.call_function(permute, (node, TO_FIRST))
            node.replace_all_uses_with(first, delete_user_cb=lambda user, first=first: user is not first)
            for user in list(first.users):
                if _permutes(user, TO_LAST):
                    user.replace_all_uses_with(node)
    if which is not None:
        graph.eliminate_dead_code()
        result.recompile()
        return result
    (output,) = (n for n in graph.nodes if n.op == "output")
    given: Any = output.args[0]
    single = isinstance(given, fx.Node)
    results = [given] if single else list(given)
    try:
        ranks = [v.dim() for v in _shapes(module)]
    except RuntimeError:  # it asks for a value that is computed
        return ChannelsLastEdges(module, None).eval()
    with graph.inserting_before(output):
        for i, node in enumerate(results):
            if ranks[i] == 4:
                results[i] = (
                    node.args[0] if _permutes(node, TO_FIRST) else graph.call_function(permute, (node, TO_LAST))
                )
    output.args = (results[0] if single else tuple(results),)
    graph.eliminate_dead_code()
    result.recompile()
    return result


def _permutes(node: fx.Node, order: list[int]) -> bool:
    args: tuple[Any, ...] = node.args
    return node.target is torch.ops.aten.permute.default and list(args[1]) == order


def _shapes(module: fx.GraphModule) -> list[Tensor]:
    """The outputs of a graph on inputs of its shapes, without computing them."""
    inputs = [n.meta["val"] for n in module.graph.nodes if n.op == "placeholder"]
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        fakes = [torch.empty(tuple(x.shape), dtype=module_dtype(module, x.dtype)) for x in inputs]
        values = module(*fakes)
    return [values] if isinstance(values, Tensor) else list(values)


def module_dtype(module: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """The floating type of a module's tensors; ``dtype`` itself if that is no floating type."""
    if not dtype.is_floating_point:
        return dtype
    types = [t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    return max(types, key=lambda t: t.itemsize, default=dtype)  # a part in half precision is inside
