"""Factors and terms along the channels, however they are spelled, go into a linear map before or behind them.

A BatchNorm in evaluation mode, a layer scale, the affine part of a norm, a division by a constant:
(W x + b) * g + t = (g W) x + (g b + t), and W (g * z + t) + b = (W g) z + (W t + b).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgeattn.lowering.axes import Axis, Group, leaves, sizes
from edgeattn.lowering.movement import name
from edgeattn.lowering.network import Network, each
from edgeattn.lowering.ops import Constant, Linear, Norm, Op, Pointwise, Slot, aligned
from edgeattn.lowering.passes.products import conv_of, conv_op, outside_of, scaled


@dataclass(frozen=True)
class Affine:
    """``x`` times ``factor``, or plus ``term``, along ``axes``."""

    x: Op
    axes: Group
    factor: Tensor | None
    term: Tensor | None


def affine_of(op: Op) -> Affine | None:
    """The factor or term that an operator applies, if it is a constant."""
    if not isinstance(op, Pointwise) or op.kwargs or len(op.args) != 2:
        return None
    kind = str(getattr(op.target, "__name__", "")).split(".")[0]
    if kind not in ("mul", "add", "sub", "div"):
        return None
    operands = [_operand(op, a) for a in op.args]
    variable = [k for k, o in enumerate(operands) if isinstance(o, Op)]
    if len(variable) != 1:
        return None
    (k,) = variable
    x, axes_value = operands[k], operands[1 - k]
    if not isinstance(axes_value, tuple) or (k == 1 and kind == "div"):
        return None
    axes, value = axes_value
    if set(axes) - set(x.axes) or value.dtype != torch.float64:
        return None
    if kind == "mul":
        return Affine(x, axes, value, None)
    if kind == "div":
        return Affine(x, axes, 1 / value, None)
    if kind == "add":
        return Affine(x, axes, None, value)
    return Affine(x, axes, None, -value) if k == 0 else None


def _operand(op: Pointwise, argument: Any) -> Any:
    """An operator, or (axes, value) of a constant."""
    if isinstance(argument, Slot):
        of = op.inputs[argument.number]
        return (of.axes, of.evaluate()) if isinstance(of, Constant) else of
    if isinstance(argument, int | float):
        return (), torch.tensor(float(argument), dtype=torch.float64)
    return None


def along(value: Tensor | None, axes: Group, channels: Group) -> Tensor | None:
    """A value along ``axes`` as one for each channel, of the group ``channels``."""
    if value is None:
        return None
    return aligned(value, axes, channels).expand(sizes(channels)).reshape(-1)


def _why(op: Op) -> str:
    kind = name(op.node) if op.node is not None else ""
    if "batch_norm" in kind:
        return "BatchNorm in the linear map before it"
    return "factor or term along the channels in the linear map before it"


def into_products(network: Network) -> bool:
    """Fold a factor or term into the Linear or convolution that it alone reads."""
    done = False
    op: Pointwise
    new: Op | None
    for op in each(network, Pointwise):
        affine = affine_of(op)
        if affine is None or network.only_user(affine.x) is not op:
            continue
        x, channels = affine.x, outside_of(affine.x)
        if isinstance(x, Norm) and x.affine and set(affine.axes) <= set(leaves(x.affine)):
            done |= network.swap(op, _scaled_norm(x, affine, op), _why(op) if affine.term is not None else "")
            continue
        if channels is None or set(affine.axes) - set(channels):
            continue
        factor, term = (along(v, affine.axes, channels) for v in (affine.factor, affine.term))
        new = scaled(x, factor, term, op.dims)
        if new is not None:
            # A BatchNorm is a factor and a term; it is listed once.
            new.dims = x.dims
            done |= network.swap(op, new, "" if affine.factor is not None and _is_norm(op) else _why(op))
    return done


def _is_norm(op: Op) -> bool:
    return op.node is not None and "batch_norm" in name(op.node)


def _scaled_norm(norm: Norm, affine: Affine, op: Op) -> Norm:
    group = leaves(norm.affine)
    factor, term = (
        None if v is None else aligned(v, affine.axes, group).expand(sizes(group)) for v in (affine.factor, affine.term)
    )
    weight, bias = norm.weight, norm.bias
    if factor is not None:
        weight = factor.clone() if weight is None else weight.reshape(factor.shape) * factor
        bias = None if bias is None else bias.reshape(factor.shape) * factor
    if term is not None:
        bias = term.clone() if bias is None else bias.reshape(term.shape) + term
    return Norm(
        inputs=norm.inputs, over=norm.over, epsilon=norm.epsilon, affine=norm.affine, weight=weight, bias=bias,
        dims=norm.dims, node=norm.node or op.node,
    )  # fmt: skip


def into_readers(network: Network) -> bool:
    """Fold a factor or term, or the affine part of a norm, into all that reads it, if all of it is linear."""
    done = False
    for op in each(network, Op):
        if isinstance(op, Norm) and op.affine and (op.weight is not None or op.bias is not None):
            plain = Norm(
                inputs=op.inputs, over=op.over, epsilon=op.epsilon, affine=op.affine, dims=op.dims, node=op.node
            )
            parts = Affine(plain, op.affine, op.weight, op.bias)
        elif (affine := affine_of(op)) is not None:
            parts = affine
            if network.type_of(affine.x) != network.type_of(op):  # it turns integers into floating numbers
                continue
        else:
            continue
        readers = network.users(op)
        if network.is_output(op) or not readers:
            continue
        x = parts.x
        new = [_reading(reader, op, x, leaves(parts.axes), parts.factor, parts.term) for reader in readers]
        if any(reader is None for reader in new):
            continue
        made = [
            network.swap(
                reader,
                by,
                "affine part of a norm in the linear map that reads it"
                if x is not None and isinstance(op, Norm)
                else "factor or term along the channels in the linear map that reads it",
            )
            for reader, by in zip(readers, new, strict=True)
            if by is not None and network.has(reader)
        ]
        done |= any(made)
    return done


def _reading(reader: Op, op: Op, x: Op, axes: Group, factor: Tensor | None, term: Tensor | None) -> Op | None:
    """The reader of ``op`` as a reader of ``x``, which ``op`` is the affine map of."""
    if isinstance(reader, Linear):
        inside = leaves(reader.inside)
        if set(axes) - set(inside):
            return None
        scale, shift = along(factor, axes, inside), along(term, axes, inside)
        weight, bias = reader.weight, reader.bias
        if shift is not None:
            bias = weight @ shift if bias is None else bias + weight @ shift
        if scale is not None:
            weight = weight * scale
        return Linear(
            inputs=[x], inside=reader.inside, outside=reader.outside, weight=weight, bias=bias, dims=reader.dims,
            node=reader.node,
        )  # fmt: skip
    conv = conv_of(reader)
    if conv is None or conv.x.op is not op or (term is not None and conv.is_padded):
        return None
    channels: tuple[Axis, ...] = leaves(conv.x.dims[1])
    if set(axes) - set(channels):
        return None
    from dataclasses import replace

    scale, shift = along(factor, axes, channels), along(term, axes, channels)
    out, width = conv.weight.shape[:2]
    per_group = out // conv.groups
    weight, bias = conv.weight, conv.bias
    index = (torch.arange(out) // per_group)[:, None] * width + torch.arange(width)
    if shift is not None:
        more = (weight * shift[index][:, :, None, None]).sum((1, 2, 3))
        bias = more if bias is None else bias + more
    if scale is not None:
        weight = weight * scale[index][:, :, None, None]
    assert hasattr(reader, "shape")
    return conv_op(replace(conv, x=replace(conv.x, op=x), weight=weight, bias=bias), reader.dims, reader.shape, reader)
