"""Values as they lie in memory, and the graph that is written: reshapes cost nothing, permutations are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeattn.layout import Layout
from edgeattn.lowering.axes import Axis, Group, leaves, size
from edgeattn.lowering.network import origin
from edgeattn.lowering.ops import Op

aten = torch.ops.aten
TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


@dataclass(frozen=True)
class Phys:
    """A value in the written graph. ``order``: its axes, the slowest first. ``shape``: the tensor's own.

    ``is_map``: it comes from a convolution or the like, so that the next one takes it as it is.
    """

    node: fx.Node
    order: Group
    shape: tuple[int, ...]
    is_map: bool = False

    @property
    def axes(self) -> Group:
        """The axes, cut as they are by now."""
        return leaves(self.order)

    @property
    def groups(self) -> list[Group]:
        """The axes of each dimension of the tensor."""
        rest, result = list(self.axes), []
        for n in self.shape:
            group: list[Axis] = []
            while size(group) < n:
                group.append(rest.pop(0))
            result.append(tuple(group))
        return result


class Writer:
    """Writes a graph, with the modules that it calls, and counts the permutations."""

    def __init__(self, layout: Layout, batch: Axis | None) -> None:
        self.layout, self.batch = layout, batch
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.permutations = 0
        self.op: Op | None = None  # what is being written: its notes go to every node
        self._made: dict[Any, fx.Node] = {}
        self._names: set[str] = set()

    @property
    def is_last(self) -> bool:
        """Whether the graph is channels-last."""
        return self.layout == "channels_last"

    @property
    def keeps_maps(self) -> bool:
        """Whether a map [B, C, H, W] keeps its four dimensions: any other shape of it would have to be moved."""
        return self.layout == "channels_last_memory"

    def call(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A function's node."""
        return self._noted(self.graph.call_function(target, args, kwargs))

    def _noted(self, node: fx.Node) -> fx.Node:
        if self.op is not None and self.op.node is not None:
            notes = self.op.node.meta
            node.meta = {key: notes[key] for key in ("nn_module_stack", "stack_trace") if key in notes}
        return node

    def module(self, module: nn.Module, *inputs: fx.Node) -> fx.Node:
        """The call of a module, which gets the path of the user's own module that it comes from."""
        path, _ = ("", "") if self.op is None else origin(self.op)
        name = self._free(path or type(module).__name__.lower())
        parent, _, last = name.rpartition(".")
        owner = self.root
        for part in parent.split(".") if parent else []:
            if part not in dict(owner.named_children()):
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.add_module(last, module.eval())
        node = self.graph.call_module(name, inputs)
        return self._noted(node)

    def buffer(self, value: Tensor, *, is_map: bool = False) -> fx.Node:
        """A constant; ``is_map``: what meets it is a map, and it lies in memory as that does."""
        name = self._free("constant")
        is_last = is_map and self.keeps_maps and value.dim() == 4
        is_last = is_last and 1 not in (value.shape[1], value.shape[2] * value.shape[3])  # that lies in both orders
        order = torch.channels_last if is_last else torch.contiguous_format
        # Copied into one that is new: an axis of length 1 would keep any stride, and ExecuTorch reads the order off it.
        constant = torch.empty(value.shape, dtype=value.dtype, memory_format=order).copy_(value.detach())
        self.root.register_buffer(name, constant)
        return self.graph.get_attr(name)

    def _free(self, path: str) -> str:
        """A path that neither is taken nor is a folder of one that is."""
        for leaf in self._names:
            if path.startswith(f"{leaf}."):  # a module cannot be in what was written as a leaf: it stands beside it
                path = leaf + "_" + path[len(leaf) + 1 :].replace(".", "_")
        number, name = 1, path
        while any(n == name or n.startswith(f"{name}.") or name.startswith(f"{n}.") for n in self._names):
            number += 1
            name = f"{path}_{number}"
        self._names.add(name)
        return name

    def lengths(self, groups: Iterable[Group]) -> list[int]:
        """The shape of a tensor with such dimensions; a free batch is -1."""
        return [-1 if self.batch is not None and self.batch in leaves(g) else size(leaves(g)) for g in groups]

    def view(self, x: Phys, groups: Sequence[Group]) -> Phys:
        """The same memory with other dimensions."""
        shape = tuple(size(leaves(g)) for g in groups)
        if shape == x.shape:
            return x
        key = (x.node, shape)
        if key not in self._made:
            if not shape:  # coremltools makes nothing of a reshape to no dimension
                self._made[key] = self.call(aten.squeeze.dims, x.node, list(range(len(x.shape))))
                return replace(x, node=self._made[key], shape=shape)
            source = x.node
            while source.target is aten.reshape.default:
                source = source.args[0]  # type: ignore[assignment]
            self._made[key] = self.call(aten.reshape.default, source, self.lengths(groups))
        return replace(x, node=self._made[key], shape=shape)

    def reorder(self, x: Phys, order: Sequence[Axis]) -> Phys:
        """The value with its axes in another order in memory; what moves it is counted."""
        order = leaves(order)
        now = x.axes
        if order == now:
            return x
        assert set(order) == set(now), "an order of other axes"
        # Axes that stay side by side move as one.
        blocks: list[list[Axis]] = []
        for axis in order:
            if blocks and now.index(blocks[-1][-1]) + 1 == now.index(axis):
                blocks[-1].append(axis)
            else:
                blocks.append([axis])
        before = sorted(blocks, key=lambda block: now.index(block[0]))
        if not self.is_last and (y := self._pixels_shuffled(x, before, blocks)) is not None:
            return y
        source = self.view(x, [tuple(block) for block in before])
        permuted = self.permute(source.node, [before.index(block) for block in blocks])
        return Phys(permuted, order, tuple(size(block) for block in blocks), x.is_map)

    def _pixels_shuffled(self, x: Phys, before: list[list[Axis]], after: list[list[Axis]]) -> Phys | None:
        """What is F.pixel_shuffle or F.pixel_unshuffle, as these: ONNX and Core ML have one operator for each."""
        order = [before.index(block) for block in after]
        lead = order[:-4]
        if lead not in ([], [0]) or len(order) < 4:
            return None
        first, second, third, fourth = before[len(lead) :]
        moves = [i - len(lead) for i in order[len(lead) :]]
        if moves == [2, 0, 3, 1] and size(first) == size(second):  # C r r, H, W -> C, H r, W r
            target, factor, dims = aten.pixel_shuffle.default, size(first), ([*first, *second], third, fourth)
        elif moves == [1, 3, 0, 2] and size(second) == size(fourth):  # C, H r, W r -> C r r, H, W
            target, factor, dims = (
                aten.pixel_unshuffle.default,
                size(second),
                ([], [*first, *second], [*third, *fourth]),
            )
        else:
            return None
        channels = leaves(a for block in before[: len(lead)] for a in block)
        batch = x.groups[0] if len(x.shape) == 4 and channels[: len(x.groups[0])] == x.groups[0] else ()
        if self.batch is not None and self.batch in channels and self.batch not in batch:
            return None
        rest = channels[len(batch) :]
        source = self.view(x, [batch, (*rest, *dims[0]), tuple(dims[1]), tuple(dims[2])])
        self.permutations += 1
        node = self.call(target, source.node, factor)
        n, c, h, w = source.shape
        square = factor**2
        shape = (c // square, h * factor, w * factor) if moves[0] == 2 else (c * square, h // factor, w // factor)
        return Phys(node, leaves(a for block in after for a in block), (n, *shape), x.is_map)

    def permute(self, node: fx.Node, order: list[int], *, free: bool = False) -> fx.Node:
        """A permutation of a tensor's dimensions; two that cancel are none."""
        if node.target is aten.permute.default:
            inner: list[int] = node.args[1]  # type: ignore[assignment]
            if [inner[i] for i in order] == list(range(len(order))):
                return node.args[0]  # type: ignore[return-value]
        key = (node, "permute", tuple(order))
        if key not in self._made:
            self.permutations += not free
            self._made[key] = self.call(aten.permute.default, node, order)
        return self._made[key]

    def remembered(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, once for each key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
