"""What a lowered module is held to: it computes the same in float64, and its graph moves no data."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeattn import lower
from edgeattn.formats.graph import is_one_hot
from edgeattn.layout import Layout
from edgeattn.lowering import Lowering, understand

PERMUTES = {"permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "t", "numpy_T", "mT", "adjoint"}
MOVES = {
    *("im2col", "col2im", "unfold", "gather", "index", "index_select", "take", "take_along_dim"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "flip", "roll", "scatter", "index_put"),
}
# A converter to channels-last files gives these the layout of its choice; so a transpose beside one costs nothing.
FREE_SIDES = {
    *("conv2d", "convolution", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "batch_norm"),
    *("upsample_bilinear2d", "upsample_nearest2d", "placeholder", "output"),
}
ELEMENTWISE = {
    *("add", "sub", "rsub", "mul", "div", "neg", "relu", "relu6", "silu", "gelu", "sigmoid", "tanh", "exp", "sqrt"),
    *("rsqrt", "square", "pow", "clamp", "clamp_min", "maximum", "minimum", "where", "hardswish", "hardtanh"),
    *("hardsigmoid", "leaky_relu", "dropout", "clone", "contiguous", "to", "_to_copy", "alias", "detach", "softplus"),
}
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def lowered_error(module: nn.Module, inputs: Sequence[Tensor], layout: Layout) -> tuple[Lowering, float]:
    """``module`` lowered, and the largest difference of its outputs over the largest output."""
    lowering = lower(module, layout=layout, inputs=tuple(inputs))
    oracle = understand(module, tuple(inputs)).oracle  # float64 inside too, where the module rounds to float32
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = module(*inputs) if oracle is None else oracle(*inputs)[0]
        found = lowering.module(*inputs)
    if found.shape != expected.shape or not found.isfinite().all():
        return lowering, float("inf")
    return lowering, float((found - expected).abs().max() / expected.abs().max())


def moving_ops(lowering: Lowering, inputs: Sequence[Tensor], layout: Layout) -> list[str]:
    """The ops of the lowered module's graph that only move data, as an artifact in ``layout`` would have them."""
    return list(_moving(lowering.module, list(inputs), layout))


def _moving(module: nn.Module, inputs: Sequence[Tensor], layout: Layout) -> Iterator[str]:
    with torch.no_grad():
        exported = torch.export.export(module, tuple(inputs), strict=False).module()
        assert isinstance(exported, fx.GraphModule)
        values = fx.Interpreter(exported, garbage_collect_values=False)
        values.run(*inputs)
    live: set[fx.Node] = set()  # depends on an input; the rest are constants
    for node in exported.graph.nodes:
        if node.op == "placeholder" or any(source in live for source in node.all_input_nodes):
            live.add(node)
    for node in exported.graph.nodes:
        if node not in live or node.op != "call_function":
            continue
        name = _name(node)
        moves = (
            (name in PERMUTES and not _is_free(node, values.env, layout))
            or name in MOVES
            or (name == "slice" and len(node.args) > 4 and node.args[4] != 1)
            or (name in ("conv2d", "conv_transpose2d", "convolution") and _copies(values.env[node.args[1]]))
        )
        if moves:
            yield f"{name} {list(values.env[node.all_input_nodes[0]].shape)}"


def _name(node: fx.Node) -> str:
    """``permute`` of aten.permute.default; ``output`` and ``placeholder`` of what is no call."""
    if node.op != "call_function":
        return node.op
    return getattr(node.target, "__name__", str(node.target)).split(".")[0].removesuffix("_")


def _copies(kernel: Tensor) -> bool:
    return kernel[0, 0].numel() > 1 and is_one_hot(kernel.detach().numpy())


def _permutation(node: fx.Node, env: dict[fx.Node, Any]) -> tuple[int, ...]:
    """Which axis of its input is each axis of its output: seen by strides, whatever the op is called."""
    rank = env[node.args[0]].dim()
    probe = torch.empty(tuple(range(2, rank + 2)))
    assert callable(node.target)
    return tuple(n - 2 for n in node.target(probe, *node.args[1:], **node.kwargs).shape)


def _is_free(node: fx.Node, env: dict[fx.Node, Any], layout: Layout) -> bool:
    permutation = _permutation(node, env)
    shape = env[node.args[0]].shape
    order = [axis for axis in permutation if shape[axis] > 1]
    if order == sorted(order):  # only axes of length 1 change places: a reshape
        return True
    if _is_undone(node, permutation, env):
        return True
    if layout == "channels_first":
        return False
    return (permutation == TO_LAST and _comes_from(node.args[0], env)) or (
        permutation == TO_FIRST and all(_goes_to(user, env) for user in node.users)
    )


def _is_undone(node: fx.Node, permutation: tuple[int, ...], env: dict[fx.Node, Any]) -> bool:
    """Whether the neighbour before it, or every one behind it, is its inverse."""
    inverse = tuple(permutation.index(axis) for axis in range(len(permutation)))
    before = node.args[0]
    assert isinstance(before, fx.Node)
    neighbours = [[before], list(node.users)]
    return any(
        side and all(_name(other) in PERMUTES and _permutation(other, env) == inverse for other in side)
        for side in neighbours
    )


def _comes_from(node: Any, env: dict[fx.Node, Any]) -> bool:
    """Whether a channels-first value is one that a channels-last converter has in its own layout anyway."""
    if _name(node) in FREE_SIDES or (_name(node) in PERMUTES and _permutation(node, env) == TO_FIRST):
        return True
    maps = [source for source in node.all_input_nodes if _is_map(source, env)]
    return _name(node) in ELEMENTWISE and all(_comes_from(source, env) for source in maps)


def _goes_to(node: fx.Node, env: dict[fx.Node, Any]) -> bool:
    if _name(node) in FREE_SIDES or (_name(node) in PERMUTES and _permutation(node, env) == TO_LAST):
        return True
    return _name(node) in ELEMENTWISE and all(_goes_to(user, env) for user in node.users)


def _is_map(node: fx.Node, env: dict[fx.Node, Any]) -> bool:
    """Whether it is a computed [B, C, H, W], and no constant."""
    return node.op != "get_attr" and isinstance(env[node], Tensor) and env[node].dim() == 4
