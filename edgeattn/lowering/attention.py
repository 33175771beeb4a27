"""Separable attention as it is deployed, in both layouts.

Two identities, neither an approximation, take the reference (arXiv 2206.02680, section 3.2) here:

* *Key folding.* The key weights do not depend on n and the scores sum to 1 over n, so
  ``sum_n a_n (Wk x_n + bk) = Wk (sum_n a_n x_n) + bk``: the key runs on one column instead of N.
* *No query bias.* A softmax does not change when a constant is added to all its inputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.attention import LinearSelfAttention
from edgeattn.lowering.projections import constant, conv, linear


class _Weights:
    """The reference's weights, cut into query, key, value and output; biases may be None."""

    def __init__(self, layer: LinearSelfAttention) -> None:
        d = layer.embed_dim
        matrix = layer.qkv_proj.weight.detach()[:, :, 0, 0]
        self.query, self.key, self.value = torch.split(matrix, [1, d, d])
        self.out = layer.out_proj.weight.detach()[:, :, 0, 0]
        qkv_bias, out_bias = layer.qkv_proj.bias, layer.out_proj.bias
        self.key_bias = None if qkv_bias is None else qkv_bias.detach()[1 : 1 + d]
        self.value_bias = None if qkv_bias is None else qkv_bias.detach()[1 + d :]
        self.out_bias = None if out_bias is None else out_bias.detach()


class ChannelsFirstAttention(nn.Module):
    """[B, C, P, N] in and out, for ONNX and Core ML: no transpose, expand or split.

    The score is a matrix product and not a convolution: with one output channel a convolution
    falls out of onnxruntime's blocked kernels (benchmarks/layer_speed.py).
    """

    def __init__(self, layer: LinearSelfAttention) -> None:
        super().__init__()
        weights = _Weights(layer)
        self.query = constant(weights.query)
        self.key = conv(weights.key, weights.key_bias)
        self.value = conv(weights.value, weights.value_bias)
        self.out = conv(weights.out, weights.out_bias)

    def forward(self, x: Tensor, x_prev: Tensor | None = None) -> Tensor:
        source = x if x_prev is None else x_prev
        batch, channels, pixels, patches = source.shape
        flat = source.reshape(batch, channels, pixels * patches)
        scores = torch.matmul(self.query, flat).reshape(batch, 1, pixels, patches).softmax(dim=-1)
        mean = (source * scores).sum(dim=-1, keepdim=True)
        out: Tensor = self.out(F.relu(self.value(x)) * self.key(mean))
        return out


class ChannelsLastAttention(nn.Module):
    """[B, P, N, C] in and out, for TFLite: the softmax axis is the last one, projections are linear layers."""

    def __init__(self, layer: LinearSelfAttention) -> None:
        super().__init__()
        weights = _Weights(layer)
        self.query = constant(weights.query)
        self.key = linear(weights.key, weights.key_bias)
        self.value = linear(weights.value, weights.value_bias)
        self.out = linear(weights.out, weights.out_bias)

    def forward(self, x: Tensor, x_prev: Tensor | None = None) -> Tensor:
        source = x if x_prev is None else x_prev
        if source.shape[2] == 1 and x.shape == source.shape:
            # One patch alone has score 1; as matrices, because the converter cannot do a linear layer on [B, P, 1, C].
            rows, sources = x.flatten(0, 2), source.flatten(0, 2)
            single: Tensor = self.out(F.relu(self.value(rows)) * self.key(sources)).reshape(x.shape)
            return single
        # Products and sums, and not matrix products with one row: XNNPACK would copy and pack all of the source for
        # each of them, and sum it in one chain.
        scores = (source * self.query).sum(dim=-1).softmax(dim=-1)
        key = self.key((source * scores.unsqueeze(-1)).sum(dim=2, keepdim=True))
        out: Tensor = self.out(F.relu(self.value(x)) * key)
        return out
