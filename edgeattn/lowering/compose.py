"""Two linear maps with nothing between them are one: the product of their matrices.

MobileViTv2 is full of such pairs: a block ends in a 1x1 convolution without activation (its projection, or the
reduction of an inverted residual), and the next one begins with a 1x1 convolution. The mean over the map commutes
with a 1x1 convolution too, so that the last one goes into the classifier. In float arithmetic the weights are
multiplied in float64 and rounded once.
"""

import torch
from torch import Tensor, nn

from edgeattn.bundle.change import Change
from edgeattn.lowering.observe import Link, Observation
from edgeattn.lowering.projections import constant, is_pointwise, put

_DIRECT = "convolution composed with the 1x1 convolution that alone reads it: one product, fewer multiply-adds"
_POOLED = "1x1 convolution composed, through the mean over the map, with the linear layer that alone reads it"


def compose(root: nn.Module, observation: Observation) -> list[Change]:
    """Replace the reader by the product of each pair that becomes cheaper, in ``root``; one step of a chain."""
    changes, taken = [], set[str]()
    for link in observation.links:
        source, reader = root.get_submodule(link.source), root.get_submodule(link.reader)
        size = observation.sizes.get(link.source)
        if taken & {link.source, link.reader} or not _fits(source, reader, link) or size is None:
            continue
        assert isinstance(source, nn.Conv2d)
        assert isinstance(reader, nn.Conv2d | nn.Linear)
        if _saving(source, reader, size, pooled=link.pooled) <= 0:
            continue
        put(root, link.reader, _product(source, reader))
        put(root, link.source, nn.Identity())
        taken |= {link.source, link.reader}
        reason = _POOLED if link.pooled else _DIRECT
        changes.append(Change(link.source, type(source).__name__, f"part of {link.reader}", reason))
    return changes


def _fits(source: nn.Module, reader: nn.Module, link: Link) -> bool:
    if type(source) is not nn.Conv2d or source.groups != 1 or source.padding_mode != "zeros":
        return False
    if link.pooled:
        return type(reader) is nn.Linear and is_pointwise(source)
    return type(reader) is nn.Conv2d and is_pointwise(reader)


def _saving(source: nn.Conv2d, reader: nn.Conv2d | nn.Linear, size: tuple[int, int], *, pooled: bool) -> int:
    """Multiply-adds of the two minus those of their product, for a source whose output map has ``size``."""
    out_channels, middle = reader.weight.shape[:2]
    in_values = source.weight[0].numel()
    pixels = size[0] * size[1]
    after = 1 if pooled else pixels
    return pixels * middle * in_values + after * out_channels * middle - after * out_channels * in_values


def _product(source: nn.Conv2d, reader: nn.Conv2d | nn.Linear) -> nn.Module:
    outer = reader.weight.detach().flatten(1).double()  # [out, middle]
    inner = source.weight.detach().flatten(1).double()  # [middle, in * kernel]
    bias = torch.zeros(len(outer), dtype=torch.float64) if reader.bias is None else reader.bias.detach().double()
    if source.bias is not None:
        bias = bias + outer @ source.bias.detach().double()
    has_bias = reader.bias is not None or source.bias is not None
    dtype = reader.weight.dtype

    def cast(value: Tensor) -> nn.Parameter:
        return constant(value.to(dtype))

    product: nn.Conv2d | nn.Linear
    if isinstance(reader, nn.Linear):
        product = nn.Linear(inner.shape[1], len(outer), bias=has_bias)
        product.weight = cast(outer @ inner)
    else:
        product = nn.Conv2d(source.in_channels, len(outer), 1, bias=has_bias)
        for name in ("kernel_size", "stride", "padding", "dilation"):
            setattr(product, name, getattr(source, name))
        product.weight = cast((outer @ inner).reshape(-1, *source.weight.shape[1:]))
    if has_bias:
        product.bias = cast(bias)
    return product.eval()
