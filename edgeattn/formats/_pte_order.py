"""Operators beside the delegates compute on maps that lie channels-first: most portable kernels of ATen refuse others.

A delegate takes and gives a map as it was captured, channels-last in memory. It is copied where such an operator reads
or gives it, once; between two such operators it is not.
"""

from collections.abc import Callable
from typing import Any

FIRST, LAST = [0, 1, 2, 3], [0, 2, 3, 1]

# These kernels compute in the order of what they are given.
_ANY_ORDER = ("upsample_nearest2d",)


def arrange(graph_module: Any) -> None:
    """Put the copies into a graph of the edge dialect, after its partitioning."""
    import torch
    from executorch.exir.dialects._ops import ops

    graph, copy = graph_module.graph, ops.edge.dim_order_ops._to_dim_order_copy.default
    copies: dict[tuple[Any, bool], Any] = {}

    def copied(node: Any, is_last: bool) -> Any:
        """The value of a node in one order, behind it."""
        if (node, is_last) not in copies:
            with graph.inserting_after(_last_definition(node)):
                new = graph.call_function(copy, (node,), {"dim_order": LAST if is_last else FIRST})
            new.meta = {key: value for key, value in node.meta.items() if key in ("nn_module_stack", "stack_trace")}
            order = torch.channels_last if is_last else torch.contiguous_format
            new.meta["val"] = node.meta["val"].contiguous(memory_format=order)
            copies[node, is_last] = new
        return copies[node, is_last]

    for node in list(graph.nodes):
        if node.op != "call_function" or not _is_kernel(node):
            continue
        node.args = _mapped(node.args, lambda x: copied(x, False) if _lies_last(x) else x)
        if not _lies_last(node):
            continue
        # Its users, but for other kernels, which are still to come, get it as it was captured.
        node.meta["val"] = node.meta["val"].contiguous()
        others = [user for user in node.users if not _is_kernel(user)]
        if others:
            back = copied(node, True)
            for user in others:
                user.replace_input_with(node, back)
    graph.lint()
    graph_module.recompile()


def _is_kernel(node: Any) -> bool:
    """Whether it is an operator of ATen's that wants its maps channels-first: no delegate's call, nor one of its
    results, nor a copy of ours."""
    name = str(node.target)
    if any(f".{kernel}." in name for kernel in _ANY_ORDER):
        return False
    return node.op == "call_function" and hasattr(node.target, "_op") and "dim_order" not in name


def _lies_last(node: Any) -> bool:
    import torch

    value = getattr(node, "meta", {}).get("val")
    if not isinstance(value, torch.Tensor) or value.dim() != 4:
        return False
    return value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()


def _last_definition(node: Any) -> Any:
    """The node, or the last placeholder for one: nothing may stand between these."""
    while node.op == "placeholder" and node.next.op == "placeholder":
        node = node.next
    return node


def _mapped(arguments: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(arguments, list | tuple):
        return type(arguments)(_mapped(x, change) for x in arguments)
    return change(arguments)
