import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgeattn import LinearSelfAttention, context_score_map


def by_hand(layer: LinearSelfAttention, x: Tensor, x_prev: Tensor | None = None) -> Tensor:
    """The paper's formula, sample by sample and pixel by pixel, with loops and matrix products."""
    d, source = layer.embed_dim, x if x_prev is None else x_prev
    weight = layer.qkv_proj.weight[:, :, 0, 0]
    bias = torch.zeros(1 + 2 * d, dtype=x.dtype) if layer.qkv_proj.bias is None else layer.qkv_proj.bias
    out_bias = torch.zeros(d, dtype=x.dtype) if layer.out_proj.bias is None else layer.out_proj.bias
    y = torch.empty_like(x)
    for b in range(x.shape[0]):
        for p in range(x.shape[2]):
            scores = torch.softmax(weight[0] @ source[b, :, p] + bias[0], dim=0)
            context = (weight[1 : 1 + d] @ source[b, :, p] + bias[1 : 1 + d, None]) @ scores
            value = torch.relu(weight[1 + d :] @ x[b, :, p] + bias[1 + d :, None])
            y[b, :, p] = layer.out_proj.weight[:, :, 0, 0] @ (value * context[:, None]) + out_bias[:, None]
    return y


@settings(max_examples=40)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 7), st.integers(1, 7),
    st.booleans(), st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_it_is_the_formula_of_the_paper(
    batch: int, d: int, pixels: int, n: int, m: int, bias: bool, cross: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = LinearSelfAttention(d, bias=bias).double().eval()
    x = torch.randn(batch, d, pixels, n, dtype=torch.float64)
    x_prev = torch.randn(batch, d, pixels, m, dtype=torch.float64) if cross else None
    with torch.no_grad():
        torch.testing.assert_close(layer(x, x_prev), by_hand(layer, x, x_prev), rtol=1e-12, atol=1e-12)


def test_state_dict_is_that_of_the_paper() -> None:
    shapes = {name: tuple(value.shape) for name, value in LinearSelfAttention(8).state_dict().items()}
    assert shapes == {
        "qkv_proj.weight": (17, 8, 1, 1),
        "qkv_proj.bias": (17,),
        "out_proj.weight": (8, 8, 1, 1),
        "out_proj.bias": (8,),
    }
    assert set(LinearSelfAttention(8, bias=False).state_dict()) == {"qkv_proj.weight", "out_proj.weight"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type_stays_its_own(dtype: torch.dtype) -> None:
    layer = LinearSelfAttention(8).to(dtype).eval()
    assert layer(torch.randn(2, 8, 4, 6).to(dtype)).dtype == dtype


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients(cross: bool, bias: bool) -> None:
    torch.manual_seed(3)
    layer = LinearSelfAttention(3, bias=bias).double()
    inputs = [torch.randn(2, 3, 2, n, dtype=torch.float64, requires_grad=True) for n in ((4, 5) if cross else (4,))]
    parameters = tuple(layer.parameters())

    def call(*values: Tensor) -> Tensor:
        named = dict(zip((name for name, _ in layer.named_parameters()), values[len(inputs) :], strict=True))
        return torch.func.functional_call(layer, named, values[: len(inputs)])

    assert torch.autograd.gradcheck(call, (*inputs, *parameters))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    layer, x = LinearSelfAttention(8, attn_drop=0.5, proj_drop=0.5), torch.randn(1, 8, 4, 16)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


@pytest.mark.parametrize(
    ("shape", "previous", "said"),
    [
        ((8, 4, 16), None, "x must have rank 4"),
        ((1, 7, 4, 16), None, "x must have 8 channels on axis 1, not 7"),
        ((1, 8, 4, 16), (1, 8, 16), "x_prev must have rank 4"),
        ((1, 8, 4, 16), (1, 9, 4, 16), "x_prev must have 8 channels"),
        ((1, 8, 4, 16), (1, 8, 2, 16), "P, the pixels of a patch, of x and x_prev must agree, not 4 and 2"),
        ((1, 8, 4, 16), (2, 8, 4, 16), "batch size of x and x_prev must agree"),
    ],
)
def test_a_wrong_shape_is_named(shape: tuple[int, ...], previous: tuple[int, ...] | None, said: str) -> None:
    layer = LinearSelfAttention(8)
    with pytest.raises(ValueError, match=said):
        layer(torch.zeros(shape), None if previous is None else torch.zeros(previous))


def test_embed_dim_must_be_positive() -> None:
    with pytest.raises(ValueError, match="embed_dim must be at least 1"):
        LinearSelfAttention(0)


def test_score_map_lies_where_the_pixels_are() -> None:
    """A 4x6 image cut in 2x2 patches: the score of a pixel stands at the pixel."""
    torch.manual_seed(1)
    layer = LinearSelfAttention(5).eval()
    image = torch.randn(1, 5, 4, 6)
    unfolded = image.reshape(1, 5, 2, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 5, 4, 6)
    scores = context_score_map(layer, unfolded, patch_size=(2, 2), grid=(2, 3))
    query = torch.nn.functional.conv2d(image, layer.qkv_proj.weight[:1], layer.qkv_proj.bias[:1])[:, 0]
    for dy in range(2):
        for dx in range(2):
            own = query[:, dy::2, dx::2]
            expected = own.flatten().softmax(0).reshape(own.shape)
            torch.testing.assert_close(scores[:, dy::2, dx::2], expected)
    with pytest.raises(ValueError, match="must multiply to P = 4 and N = 6"):
        context_score_map(layer, unfolded, patch_size=(2, 2), grid=(3, 3))
