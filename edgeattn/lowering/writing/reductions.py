"""Writing reductions, softmax and norms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from edgeattn.lowering import forms
from edgeattn.lowering.axes import Group, flat, leaves, size, sizes
from edgeattn.lowering.movement import name
from edgeattn.lowering.ops import (
    Constant,
    Contract,
    Norm,
    Op,
    Pointwise,
    Reduce,
    Softmax,
    aligned,
)
from edgeattn.lowering.projections import constant
from edgeattn.lowering.writing import maps
from edgeattn.lowering.writing.dimensions import ending, is_run, separated
from edgeattn.lowering.writing.emitter import Emitter
from edgeattn.lowering.writing.physical import Phys

aten = torch.ops.aten
_FUNCTIONS: dict[Any, Any] = {
    torch.sum: aten.sum.dim_IntList, torch.mean: aten.mean.dim, torch.amax: aten.amax.default,
    torch.amin: aten.amin.default,
}  # fmt: skip


def reduce_(e: Emitter, op: Reduce) -> Phys:
    x = e.of(op.inputs[0], op)
    return reduced(e, x, leaves(op.over), op.target, keepdim=keeps(e, op))


def keeps(e: Emitter, op: Reduce | Contract) -> bool:
    """Whether a sum keeps its dimensions: the original did, or something of the size before meets it again, at once or
    behind functions of each element."""
    if op.keepdim:
        return True
    over = set(leaves(op.over))
    behind: list[Op] = [op]
    for value in behind:  # it grows
        for user in e.network.users(value):
            others = {axis for x in user.inputs if x is not value for axis in x.axes}
            if isinstance(user, Pointwise | Contract) and over & others:
                return True
            if isinstance(user, Pointwise) and user not in behind:
                behind.append(user)
    return False


# XNNPACK adds up the rows of a map in one chain for each channel: over 3,136 equal ones, the error is 200 times
# PyTorch's. More than these are added up in two steps.
_LONGEST_CHAIN = 1024


def reduced(e: Emitter, x: Phys, over: Group, target: Any, *, keepdim: bool) -> Phys:
    if e.w.is_last and target in (torch.sum, torch.mean) and size(over) > _LONGEST_CHAIN:
        inner = _half(x, over)
        if inner:
            x = reduced(e, x, inner, target, keepdim=keepdim)
            over = tuple(a for a in over if a not in inner)
    if (y := maps.reduced(e, x, over, target)) is not None:
        return y if keepdim else e.w.view(y, [g for i, g in enumerate(y.groups) if i < 2 or g])
    groups = separated(x, set(over))
    x = e.w.view(x, groups)
    dims = [i for i, g in enumerate(groups) if g and set(g) <= set(over)]
    kept = tuple(a for a in x.axes if a not in over)
    shape = [1 if i in dims else n for i, n in enumerate(x.shape) if keepdim or i not in dims]
    if target is forms.euclidean and e.w.is_last:
        target = forms.euclidean_in_parts
    node = e.w.call(_FUNCTIONS.get(target, target), x.node, dims, keepdim)
    return Phys(node, kept, tuple(shape), x.is_map and keepdim and len(shape) == 4)


def _half(x: Phys, over: Group) -> Group:
    """The last of the axes that are added up, about half of their product; none if they are the last of all."""
    order = [a for a in x.axes if a in over]
    if x.axes[-1] in order or len(order) < 2:
        return ()
    cuts = [tuple(order[k:]) for k in range(1, len(order))]
    return min(cuts, key=lambda inner: abs(size(inner) ** 2 - size(over)))


def softmax(e: Emitter, op: Softmax) -> Phys:
    x = e.of(op.inputs[0], op)
    over = leaves(op.over)
    if op.target is torch.softmax and (y := maps.softmax(e, x, over)) is not None:
        return y
    order = x.axes
    together, at_end = is_run(over, order), order[-1] is over[-1]
    if op.target is not torch.softmax and not (together and (at_end or not e.w.is_last)):
        x = e.w.reorder(x, [*(a for a in order if a not in over), *over])
        together = at_end = True
    if together and (at_end or not e.w.is_last):
        groups = separated(x, set(over), whole=True)
        x = e.w.view(x, groups)
        dim = next(i for i, g in enumerate(x.groups) if g == over)
        function = aten.softmax.int if op.target is torch.softmax else aten.log_softmax.int
        if e.w.is_last and dim != len(x.shape) - 1:
            x = e.w.view(x, [g for g in x.groups if g])
            dim = len(x.shape) - 1
        return replace(x, node=e.w.call(function, x.node, dim - len(x.shape)))
    x = e.w.view(x, separated(x, set(over)))
    dims = [i - len(x.shape) for i, g in enumerate(x.groups) if g and set(g) <= set(over)]
    return replace(x, node=e.w.module(forms.SplitSoftmax(dims), x.node))


def norm(e: Emitter, op: Norm) -> Phys:
    x = e.of(op.inputs[0], op)
    over = leaves(op.over)
    order = x.axes
    kind = name(op.node) if op.node is not None else ""
    at_end = set(order[len(order) - len(over) :]) == set(over)
    if not over:
        raise e.cannot("a norm of one value")
    if (y := maps.norm(e, op, x)) is not None:
        return _scaled(e, op, y)
    if kind == "layer_norm" and at_end:
        axes = order[len(order) - len(over) :]
        x = e.w.view(x, ending(x, axes))
        return replace(x, node=_native(e, op, x, axes, "layer_norm", 1))
    if kind == "group_norm" and not e.w.is_last and order == op.axes and op.affine and not e.is_separable:
        if len(x.shape) < 3 or x.groups[1] != leaves(op.affine):
            x = e.w.view(x, [*(op.dims[:2]), flat(op.dims[2:])])
        groups = size(leaves(op.affine)) // max(1, size([a for a in over if a in leaves(op.affine)]))
        return replace(x, node=_native(e, op, x, leaves(op.affine), "group_norm", groups))
    x = e.w.view(x, separated(x, set(over)))
    dims = [i for i, g in enumerate(x.groups) if g and set(g) <= set(over)]
    if not e.w.is_last and len(dims) > 1 and dims[0] == 1:
        normal: nn.Module = forms.NormaliseFirst(op.epsilon, dims[1:])
    elif not e.w.is_last and dims == [1] and len(x.shape) == 4:
        normal = forms.NormaliseChannels(op.epsilon)
    else:
        normal = forms.Normalise(op.epsilon, [i - len(x.shape) for i in dims])
    return _scaled(e, op, replace(x, node=e.w.module(normal, x.node)))


def _scaled(e: Emitter, op: Norm, y: Phys) -> Phys:
    """With the norm's own weight and bias."""
    for parameter, function in ((op.weight, aten.mul.Tensor), (op.bias, aten.add.Tensor)):
        if parameter is not None:
            along = Constant(value=parameter, dims=tuple((a,) for a in leaves(op.affine)))
            y = replace(y, node=e.w.call(function, y.node, e.constant(along, y.groups)))
    return y


def _native(e: Emitter, op: Norm, x: Phys, axes: Group, kind: str, groups: int) -> fx.Node:
    """PyTorch's own norm, with its weights in the order in which the channels lie."""
    weight, bias = (
        None if p is None else aligned(p, op.affine, axes).expand(sizes(axes)).reshape(-1) for p in (op.weight, op.bias)
    )
    is_affine = weight is not None or bias is not None
    module: nn.LayerNorm | nn.GroupNorm
    if kind == "layer_norm":
        module = nn.LayerNorm(size(axes), eps=op.epsilon, elementwise_affine=is_affine)
    else:
        module = nn.GroupNorm(groups, size(axes), eps=op.epsilon, affine=is_affine)
    if is_affine:
        module.weight = constant(torch.ones(size(axes)) if weight is None else weight)
        module.bias = constant(torch.zeros(size(axes)) if bias is None else bias)
    return e.w.module(module.double(), x.node)
