"""Convolutions, and the padding that they share with pooling."""

import torch.nn.functional as F
from torch import Tensor

from edgeattn.formats.mil.registry import ints, op

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def padding(
    pad_type: str, pad: Tensor | None, sizes: list[int], kernel: list[int], strides: list[int]
) -> list[tuple[int, int]]:
    """(before, after) for each spatial axis; ``kernel`` is already dilated."""
    if pad_type == "custom" and pad is not None:
        amounts = ints(pad)
        return list(zip(amounts[::2], amounts[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        return [(0, 0)] * len(sizes)
    pairs = []
    for size, length, stride in zip(sizes, kernel, strides, strict=True):
        total = max(0, -(-size // stride) * stride - size + length - stride)
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if pad_type == "same" else (large, small))
    return pairs


def padded(x: Tensor, pairs: list[tuple[int, int]], value: float = 0.0) -> Tensor:
    """``x`` with its last axes padded; negative padding cuts."""
    flat = [n for pair in reversed(pairs) for n in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


def spread(values: Tensor | None, rank: int) -> list[int]:
    """Strides or dilations, one for each spatial axis."""
    return [1] * rank if values is None else ints(values)


@op
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | int = 1,
) -> Tensor:
    rank = x.dim() - 2
    stride, dilation = spread(strides, rank), spread(dilations, rank)
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    pairs = padding(pad_type, pad, list(x.shape[2:]), kernel, stride)
    return _CONV[rank](padded(x, pairs), weight, bias, stride=stride, dilation=dilation, groups=int(groups))


@op
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Tensor | None = None,
    output_shape: Tensor | None = None,
    pad_type: str = "valid",
    strides: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | int = 1,
) -> Tensor:
    """The whole product, cut to size: by ``pad``, or for ``same`` to sizes times strides."""
    rank = x.dim() - 2
    stride = spread(strides, rank)
    whole = _CONV_TRANSPOSE[rank](x, weight, stride=stride, dilation=spread(dilations, rank), groups=int(groups))
    full = list(whole.shape[2:])
    if pad_type == "same":
        target = [n * s for n, s in zip(x.shape[2:], stride, strict=True)]
        before = [max(0, f - t) // 2 for f, t in zip(full, target, strict=True)]
    else:
        pairs = padding(pad_type, pad, list(x.shape[2:]), [], stride)
        before = [b for b, _ in pairs]
        target = [f - b - a for f, (b, a) in zip(full, pairs, strict=True)]
    if output_shape is not None:
        target = ints(output_shape)[2:]
    cut = padded(whole, [(-b, t + b - f) for b, t, f in zip(before, target, full, strict=True)])
    return cut if bias is None else cut + bias.reshape(-1, *[1] * rank)
