"""The attentions that ours is compared with: the same interface, and each the function that its name says."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import Answer
from torch import nn

from edgeattn import LinearSelfAttention, lower
from edgeattn.errors import BadInputError
from edgeattn.lowering.passes.attention import KEY_FOLDED
from edgeattn.sample_models import _attentions
from edgeattn.sample_models._attentions import (
    ChannelsLastLinearAttention,
    FoldedAttention,
    Linformer,
    MultiHeadAttention,
)
from edgeattn.sample_models.mobilevitv2 import MobileViTv2


def test_channels_last_linear_is_the_same_function() -> None:
    torch.manual_seed(0)
    layer, x = LinearSelfAttention(8).double().eval(), torch.randn(2, 8, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(ChannelsLastLinearAttention.like(layer)(x), layer(x), rtol=0, atol=1e-14)


def test_folding_alone_is_the_same_function() -> None:
    torch.manual_seed(0)
    layer, x = LinearSelfAttention(8).double().eval(), torch.randn(2, 8, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(FoldedAttention.like(layer)(x), layer(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("long", [4, 4096])  # head by head, and all at once
def test_multi_head_is_pytorchs(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_attentions, "_LONG", long)
    torch.manual_seed(0)
    ours, x = MultiHeadAttention(16, heads=4).double().eval(), torch.randn(2, 16, 3, 5, dtype=torch.float64)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).double().eval()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv_proj.weight,
            "in_proj_bias": ours.qkv_proj.bias,
            "out_proj.weight": ours.out_proj.weight,
            "out_proj.bias": ours.out_proj.bias,
        }
    )
    tokens = x.permute(0, 2, 3, 1).reshape(6, 5, 16)
    with torch.no_grad():
        expected = theirs(tokens, tokens, tokens)[0].reshape(2, 3, 5, 16).permute(0, 3, 1, 2)
        assert torch.allclose(ours(x), expected, rtol=0, atol=1e-14)


def test_linformer_with_the_identity_as_projection_is_multi_head() -> None:
    torch.manual_seed(0)
    linformer, x = Linformer(16, patches=5).double().eval(), torch.randn(1, 16, 2, 5, dtype=torch.float64)
    assert linformer.projection.weight.shape == (5, 5)
    assert Linformer(16, patches=600).projection.weight.shape == (256, 600)
    multi_head = MultiHeadAttention(16).double().eval()
    multi_head.load_state_dict({k: v for k, v in linformer.state_dict().items() if "projection" not in k})
    with torch.no_grad():
        assert not torch.allclose(linformer(x), multi_head(x))
        linformer.projection.weight.copy_(torch.eye(5))
        assert torch.allclose(linformer(x), multi_head(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", _attentions.KINDS)
def test_mobilevitv2_with_any_of_them(kind: str) -> None:
    torch.manual_seed(0)
    model, x = MobileViTv2(0.5, 10, attention=kind, image_size=72).double().eval(), torch.randn(1, 3, 72, 72).double()
    lowering = lower(model, layout="channels_first", inputs=(x,))
    folded = [change for change in lowering.changes if change.reason == KEY_FOLDED]
    assert len(folded) == (9 if kind in ("separable", "channels_last_linear") else 0)
    with torch.no_grad():
        expected = model(x)
        assert torch.allclose(lowering.module(x), expected, rtol=0, atol=1e-10 * float(expected.abs().max()))
    assert F.softmax(expected, dim=-1).std() > 0


@pytest.mark.parametrize("kind", _attentions.KINDS)
def test_each_exports(kind: str, edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    arguments = ("--arg", "embed_dim=32", "--arg", "pixels=4", "--arg", "patches=16", "--arg", f"kind={kind}")
    answer = edgeattn("export", "attention", *arguments, "--out", tmp_path / "b", "--json")
    assert answer.code == 0, answer.out + answer.err


def test_bad_kinds(edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    answer = edgeattn("export", "mobilevitv2", "--arg", "attention=soft", "--out", tmp_path / "b")
    assert answer.code == 2
    assert "choose from separable, channels_last_linear, multi_head, linformer" in answer.err
    answer = edgeattn("export", "attention", "--arg", "kind=linformer", "--arg", "cross=true", "--out", tmp_path / "b")
    assert answer.code == 2
    assert "separable attention" in answer.err
    with pytest.raises(BadInputError, match="8 heads"):
        MultiHeadAttention(12)
