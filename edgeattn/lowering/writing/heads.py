"""Multi-head attention whose tokens are rows, without moving values: projections by head, as batched products.

A projection gives [tokens, heads * d], and the products of attention want [heads, tokens, d]. With weights cut by head,
[heads, C, d], the projection gives that itself; the output projection sums over the heads. The multiply-adds are the
same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeattn.lowering import forms
from edgeattn.lowering.axes import Axis, Group, leaves, size, sizes
from edgeattn.lowering.network import Network
from edgeattn.lowering.ops import Contract, Expand, Linear, Op, Pointwise, Reduce, Rename, Slice
from edgeattn.lowering.passes.attention import weighted
from edgeattn.lowering.writing.physical import Phys, Writer


@dataclass(frozen=True)
class Cut:
    """How matrix products read a value that is cut into queries, keys and values: apart for ``heads``, and ``over``
    some axes of it apart from the others."""

    heads: Group
    over: frozenset[Axis]


def heads_of(network: Network) -> tuple[dict[Op, Group], dict[Op, Cut]]:
    """The axes that matrix products run apart for, the heads: among the output channels of linear maps, and of values
    that are cut."""
    found: dict[Op, Group] = {}
    cuts: dict[Op, Cut] = {}
    for product in network.ops:
        if not isinstance(product, Contract) or weighted(product) is not None:
            continue
        first, second = (op.axes for op in product.inputs)
        shared = tuple(a for a in first if a in second and a not in leaves(product.over))
        for op in product.inputs:
            for source, axes in _sources(op, shared):
                if isinstance(source, Linear):
                    found[source] = axes
                else:
                    cuts[source] = Cut(axes, frozenset(leaves(product.over)))
    return found, cuts


def for_products(w: Writer, x: Phys, cut: Cut, inside: Group, *, by_head: bool) -> Phys:
    """A value before it is cut along ``inside``, as products take its parts: moved once, and in three dimensions."""
    if w.is_last and by_head:
        x = w.reorder(x, [*cut.heads, *(a for a in x.axes if a not in cut.heads)])
    groups: list[Group] = []
    last = None
    for axis in x.axes:
        kind = (axis in cut.heads, axis in cut.over, axis in inside)
        if kind == last:
            groups[-1] = (*groups[-1], axis)
        else:
            groups.append((axis,))
        last = kind
    return w.view(x, groups) if len(groups) == 3 else x


def _sources(op: Op, shared: Group) -> Iterator[tuple[Op, Group]]:
    """Back to the linear maps, and to what is cut, that ``op`` is made of, element by element; with their heads."""
    if isinstance(op, Linear):
        outside = leaves(op.outside)
        heads = tuple(a for a in outside if a in shared)
        if heads and len(heads) < len(outside):
            yield op, heads
    elif isinstance(op, Slice):
        whole = op.inputs[0]
        if shared and set(shared) <= set(whole.axes) - {*leaves(op.inside)} and not isinstance(whole, Linear):
            yield whole, tuple(a for a in whole.axes if a in shared)
    elif isinstance(op, Rename):
        before = op.inputs[0].axes
        names = dict(zip(op.renamed(before), before, strict=True))
        yield from _sources(op.inputs[0], tuple(names.get(a, a) for a in shared))
    elif isinstance(op, Pointwise | Reduce | Expand):
        for source in op.inputs:
            if set(source.axes) & set(shared):
                yield from _sources(source, shared)


def to_heads(w: Writer, op: Linear, x: Phys, heads: Group) -> Phys | None:
    """[heads, all else, d], if the channels of ``x`` are its last axes."""
    outside, lead = leaves(op.outside), len(x.axes) - len(leaves(op.inside))
    inside = x.axes[lead:]
    if set(inside) != set(leaves(op.inside)):
        return None
    own = tuple(a for a in outside if a not in heads)
    # [outside, inside] as [heads, inside, own], the channels as they lie in memory.
    weight = op.weight.reshape(*sizes(outside), *sizes(leaves(op.inside)))
    names = (*outside, *leaves(op.inside))
    weight = weight.permute([names.index(a) for a in (*heads, *inside, *own)])
    weight = weight.reshape(size(heads), size(inside), size(own))
    bias = None
    if op.bias is not None:
        bias = op.bias.reshape(sizes(outside)).permute([outside.index(a) for a in (*heads, *own)])
        bias = bias.reshape(size(heads), 1, size(own))
    rows = w.view(x, [x.axes[:lead], inside])
    node = w.module(forms.ToHeads(weight, bias), rows.node)
    return Phys(node, (*heads, *x.axes[:lead], *own), (size(heads), size(x.axes[:lead]), size(own)))


def from_heads(w: Writer, op: Linear, x: Phys) -> Phys | None:
    """[all else, channels], from [heads, all else, d] where the heads and d are what ``op`` is over."""
    inside, order = leaves(op.inside), x.axes
    begin = next((k for k, a in enumerate(order) if a not in inside), len(order))
    end = next((k for k, a in reversed(list(enumerate(order))) if a not in inside), -1) + 1
    heads, rows, own = order[:begin], order[begin:end], order[end:]
    if not (heads and rows and own) or set(heads) | set(own) != set(inside):
        return None
    weight = op.weight.reshape(-1, *sizes(inside)).permute(*(1 + inside.index(a) for a in (*heads, *own)), 0)
    weight = weight.reshape(size(heads), size(own), len(op.weight))
    node = w.module(forms.FromHeads(weight, op.bias), w.view(x, [heads, rows, own]).node)
    return Phys(node, (*rows, *leaves(op.outside)), (size(rows), len(op.weight)))
