"""The last two axes (or more) at another size, and cropped."""

from math import floor

import torch
from torch import Tensor

from edgeattn.formats.mil.registry import ints, op


def _grid(size: int, target: int, mode: str) -> Tensor:
    """Where each of ``target`` samples lies among ``size`` elements; float64, as ``resize_bilinear`` documents it."""
    steps = torch.arange(target, dtype=torch.float64)
    if mode == "ALIGN_CORNERS" and target == 1:
        return torch.full((1,), (size - 1) / 2, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        points = steps * ((size - 1) / max(1, target - 1))
    elif mode == "OFFSET_CORNERS":
        points = (steps + 0.5) * (max(1, size - 1) / target)
    elif mode == "UNALIGN_CORNERS":
        points = (steps + 0.5) * (size / target) - 0.5
    else:
        points = steps * (size / target)
    return points.clamp(0, size - 1)


def _linear(x: Tensor, axis: int, target: int, mode: str) -> Tensor:
    size = x.shape[axis]
    points = _grid(size, target, mode)
    low = points.floor().long()
    fraction = (points - low).to(x.dtype if x.is_floating_point() else torch.float32)
    fraction = fraction.reshape(-1, *[1] * (x.dim() - 1 - axis))
    left, right = x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=size - 1))
    return left + (right - left) * fraction


def _nearest(x: Tensor, axis: int, target: int, mode: str) -> Tensor:
    """The element at or before each sample; where samples are centred, the nearer one."""
    points = _grid(x.shape[axis], target, mode)
    return x.index_select(axis, (points if mode == "DEFAULT" else points + 0.5).floor().long())


def _image(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    return _linear(_linear(x, x.dim() - 2, height, mode), x.dim() - 1, width, mode)


def _scaled(size: int, factor: Tensor | float) -> int:
    return floor(size * float(factor))


@op
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: Tensor | float = 1,
    scale_factor_width: Tensor | float = 1,
    align_corners: Tensor | bool = True,
    half_pixel_centers: Tensor | bool | None = None,
) -> Tensor:
    if align_corners:
        mode = "STRICT_ALIGN_CORNERS"
    else:
        mode = "UNALIGN_CORNERS" if half_pixel_centers is None or half_pixel_centers else "DEFAULT"
    height, width = x.shape[-2:]
    return _image(x, _scaled(height, scale_factor_height), _scaled(width, scale_factor_width), mode)


@op
def resize_bilinear(
    x: Tensor,
    target_size_height: Tensor | int = 1,
    target_size_width: Tensor | int = 1,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    return _image(x, int(target_size_height), int(target_size_width), sampling_mode)


@op
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: Tensor | float = 1, scale_factor_width: Tensor | float = 1
) -> Tensor:
    height, width = x.shape[-2:]
    return resize_nearest_neighbor(x, _scaled(height, scale_factor_height), _scaled(width, scale_factor_width))


@op
def resize_nearest_neighbor(x: Tensor, target_size_height: Tensor | int, target_size_width: Tensor | int) -> Tensor:
    stretched = _nearest(x, x.dim() - 2, int(target_size_height), "DEFAULT")
    return _nearest(stretched, x.dim() - 1, int(target_size_width), "DEFAULT")


@op
def resize(
    x: Tensor,
    shape: Tensor,
    resized_dims: Tensor,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """The last ``resized_dims`` axes take the last sizes of ``shape``; 0 keeps an axis."""
    count = int(resized_dims)
    interpolate = _linear if interpolation_mode == "LINEAR" else _nearest
    resized = x
    for axis, target in zip(range(x.dim() - count, x.dim()), ints(shape)[-count:], strict=True):
        if target != 0:
            resized = interpolate(resized, axis, target, sampling_mode)
    return resized.to(x.dtype)


@op
def crop(x: Tensor, crop_height: Tensor, crop_width: Tensor) -> Tensor:
    top, bottom = ints(crop_height)
    left, right = ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]
