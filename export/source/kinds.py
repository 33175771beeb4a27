"""Tensors that no file of a format can stand for."""

import torch
from torch import Tensor


def unusable(x: Tensor) -> str:
    """Why a tensor cannot be an input, an output or a weight, and what to do; empty if it can."""
    if x.is_meta:
        return "is on the meta device, where tensors have no values: load or make it on the CPU"
    if x.is_quantized:
        return "is quantised already: give it in float, and --precision int8 to quantise the model"
    if x.is_nested or x.layout != torch.strided:
        return f"is {'nested' if x.is_nested else 'sparse'}: give it as a dense tensor"
    if x.is_complex():
        return "is complex: give its real and imaginary part (torch.view_as_real)"
    return ""
