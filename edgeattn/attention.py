"""The reference: separable self-attention as the paper defines it, never adapted to a backend.

Mehta and Rastegari, "Separable Self-attention for Mobile Vision Transformers", arXiv 2206.02680, section 3.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearSelfAttention(nn.Module):
    """Separable attention over N patches, for each of the P pixels of a patch apart.

    With one query channel and d = ``embed_dim`` key and value channels (all 1x1 convolutions):

        a = softmax over N (query)       [B, 1, P, N]   the context scores
        c = sum over N (key * a)         [B, d, P, 1]   the context vector
        y = out_proj(relu(value) * c)    [B, d, P, N]

    The state dict is that of the paper's layer: ``qkv_proj`` gives ``1 + 2 d`` channels in the order
    query, key, value; ``out_proj`` gives d.

    Args:
        embed_dim: number of channels d, at least 1.
        attn_drop: dropout probability of the context scores (training only).
        proj_drop: dropout probability after the output projection (training only).
        bias: whether both projections have a bias.
    """

    def __init__(self, embed_dim: int, attn_drop: float = 0.0, proj_drop: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        if embed_dim < 1:
            raise ValueError(f"embed_dim must be at least 1, not {embed_dim}")
        self.embed_dim = embed_dim
        self.qkv_proj = nn.Conv2d(embed_dim, 1 + 2 * embed_dim, kernel_size=1, bias=bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.out_proj = nn.Conv2d(embed_dim, embed_dim, kernel_size=1, bias=bias)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, x_prev: Tensor | None = None) -> Tensor:
        """Attend within ``x``, or from ``x`` to ``x_prev`` (cross-attention).

        Args:
            x: [B, C, P, N]; the value is computed from it.
            x_prev: [B, C, P, M]; when given, query and key are computed from it, and the softmax runs over M.

        Returns:
            [B, C, P, N].

        Raises:
            ValueError: a wrong rank, a wrong number of channels, or batch or P that do not agree.
        """
        self._check("x", x)
        if x_prev is None:
            query, key, value = torch.split(self.qkv_proj(x), [1, self.embed_dim, self.embed_dim], dim=1)
        else:
            self._check("x_prev", x_prev)
            for axis, what in ((0, "batch size"), (2, "P, the pixels of a patch,")):
                if x.shape[axis] != x_prev.shape[axis]:
                    raise ValueError(f"{what} of x and x_prev must agree, not {x.shape[axis]} and {x_prev.shape[axis]}")
            weight, bias = self.qkv_proj.weight, self.qkv_proj.bias
            cut = 1 + self.embed_dim
            query_key = F.conv2d(x_prev, weight[:cut], None if bias is None else bias[:cut])
            query, key = torch.split(query_key, [1, self.embed_dim], dim=1)
            value = F.conv2d(x, weight[cut:], None if bias is None else bias[cut:])

        scores = self.attn_drop(query.softmax(dim=-1))
        context = (key * scores).sum(dim=-1, keepdim=True)
        out = self.out_proj(F.relu(value) * context.expand_as(value))
        result: Tensor = self.proj_drop(out)
        return result

    def _check(self, name: str, x: Tensor) -> None:
        if x.dim() != 4:
            raise ValueError(f"{name} must have rank 4, [B, C, P, N], not rank {x.dim()}")
        if x.shape[1] != self.embed_dim:
            raise ValueError(f"{name} must have {self.embed_dim} channels on axis 1, not {x.shape[1]}")


def context_score_map(
    layer: LinearSelfAttention, x: Tensor, *, patch_size: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """The context scores of ``layer`` laid out over the image, for pictures.

    The forward pass is not changed: the scores are computed again from the query weights.

    Args:
        layer: the layer whose scores are shown.
        x: [B, C, P, N], what the layer attends to.
        patch_size: (height, width) of a patch in pixels, row-major in P; their product is P.
        grid: (rows, columns) of patches, row-major in N; their product is N.

    Returns:
        [B, rows * height, columns * width]; for each of the P offsets, the scores sum to 1.

    Raises:
        ValueError: the sizes do not multiply to P and N.
    """
    layer._check("x", x)
    (height, width), (rows, columns) = patch_size, grid
    batch, _, pixels, patches = x.shape
    if height * width != pixels or rows * columns != patches:
        raise ValueError(f"patch_size {patch_size} and grid {grid} must multiply to P = {pixels} and N = {patches}")
    bias = layer.qkv_proj.bias
    query = F.conv2d(x, layer.qkv_proj.weight[:1], None if bias is None else bias[:1])
    scores = query.softmax(dim=-1).reshape(batch, height, width, rows, columns)
    return scores.permute(0, 3, 1, 4, 2).reshape(batch, rows * height, columns * width)
