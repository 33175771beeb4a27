"""A chain that only permutes axes is one permutation, however it is spelled; what is nearly one stays what it is."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from networks import Made, lively
from torch import Tensor, nn

from edgeattn.lowering.capture import capture
from edgeattn.lowering.movement import name, permutation, simplify_movement

X = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))


def one_hot_conv() -> Tensor:
    """A kernel that puts each pixel of a 2x2 patch into a channel of its own: [4 * 4, 1, 2, 2]."""
    return torch.eye(4).reshape(4, 1, 2, 2).repeat(4, 1, 1, 1)


def moved_by_conv(self: Made, x: Tensor) -> Tensor:
    return F.conv2d(x, self.kernel, stride=2, groups=4)


def patches_by_index(self: Made, x: Tensor) -> Tensor:
    return x.flatten(2)[:, :, self.table]


def by_gather(self: Made, x: Tensor) -> Tensor:
    flat = x.flatten(2)
    return flat.gather(2, self.table.expand(*flat.shape))


def by_slices(self: Made, x: Tensor) -> Tensor:
    return torch.stack([x[:, :, i::2, j::2] for i in range(2) for j in range(2)], 2)


def by_cat(self: Made, x: Tensor) -> Tensor:
    return torch.cat([x[:, :, i::2] for i in range(2)], 2)


def there_and_back(self: Made, x: Tensor) -> Tensor:
    return F.fold(F.unfold(x, 2, stride=2), x.shape[-2:], 2, stride=2)


TABLE = torch.arange(48).reshape(3, 2, 4, 2).permute(1, 3, 0, 2).reshape(-1)
CHAINS: dict[str, tuple[Callable[[Made, Tensor], Tensor], dict[str, Tensor]]] = {
    "unfold": (lambda self, x: F.unfold(x, 2, stride=2), {}),
    "unfold and fold": (there_and_back, {}),
    "fold": (lambda self, x: F.fold(x.reshape(2, 16, 12), (6, 8), 2, stride=2), {}),
    "pixel_shuffle": (lambda self, x: F.pixel_shuffle(x, 2), {}),
    "pixel_unshuffle": (lambda self, x: F.pixel_unshuffle(x, 2), {}),
    "channel_shuffle": (lambda self, x: F.channel_shuffle(x, 2), {}),
    "Tensor.unfold": (lambda self, x: x.unfold(2, 2, 2).unfold(3, 2, 2), {}),
    "an index": (patches_by_index, {"table": TABLE}),
    "index_select": (lambda self, x: x.flatten(2).index_select(2, self.table), {"table": TABLE}),
    "gather": (by_gather, {"table": TABLE}),
    "slices and stack": (by_slices, {}),
    "slices and cat": (by_cat, {}),
    "chunks": (lambda self, x: torch.cat([y.transpose(2, 3) for y in x.chunk(2, 1)], 1), {}),
    "a one-hot convolution": (moved_by_conv, {"kernel": one_hot_conv()}),
    "and back": (
        lambda self, x: F.conv_transpose2d(moved_by_conv(self, x), self.kernel, stride=2, groups=4),
        {"kernel": one_hot_conv()},
    ),
    "a shuffle after an unfold": (
        lambda self, x: F.pixel_shuffle(F.unfold(x, 2, stride=2).reshape(2, 16, 3, 4), 2),
        {},
    ),
}


def moved(function: Callable[[Made, Tensor], Tensor], x: Tensor, **parts: Tensor) -> tuple[list[str], list[str]]:
    """(what was replaced, what is left) of a chain between two layers; the values are the module's."""
    module = lively(Made(lambda self, x: function(self, x * 2).relu(), **parts))
    graph = capture(module, (x.double(),))
    replaced = [name(node) for node in simplify_movement(graph)]
    graph.recompile()
    for seed in range(2):
        inputs = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        (found,) = graph(inputs)
        assert torch.equal(found, module(inputs))
    return replaced, [name(node) for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_is_one_permutation(chain: str) -> None:
    function, parts = CHAINS[chain]
    replaced, left = moved(function, X, **parts)
    assert replaced
    assert set(left) <= {"mul", "reshape", "permute", "relu"}
    assert left.count("permute") <= 1


def test_what_comes_to_nothing_is_one_reshape() -> None:
    assert moved(there_and_back, X)[1] == ["mul", "reshape", "relu"]


def test_reshapes_and_permutations_are_left_as_they_are() -> None:
    assert moved(lambda self, x: x.flatten(2).transpose(1, 2).reshape(2, 48, 2, 2).movedim(-1, 0), X)[0] == []


def rounded(self: Made, x: Tensor) -> Tensor:
    return F.fold(F.unfold(x, 2, stride=2) + 0, x.shape[-2:], 2, stride=2)


NEARLY: dict[str, tuple[Callable[[Made, Tensor], Tensor], dict[str, Tensor]]] = {
    "flip": (lambda self, x: x.flip(2), {}),
    "roll": (lambda self, x: x.roll(1, 2), {}),
    "overlapping unfold": (lambda self, x: F.unfold(x, 2), {}),
    "dilated unfold": (lambda self, x: F.unfold(x, 2, dilation=2, stride=2), {}),
    "padded unfold": (lambda self, x: F.unfold(x, 2, stride=2, padding=1), {}),
    "overlapping fold": (lambda self, x: F.fold(x.reshape(2, 16, 12), (4, 5), 2), {}),
    "padding": (lambda self, x: F.pad(x, (1, 1)), {}),
    "an index that repeats": (patches_by_index, {"table": TABLE.clone().fill_(3)}),
    "an index that mirrors": (patches_by_index, {"table": TABLE.flip(0)}),
    "an index that swaps two": (patches_by_index, {"table": torch.tensor([1, 0, *range(2, 48)])}),
    "an index of a part": (patches_by_index, {"table": TABLE[:24]}),
    "a gather by sample": (
        lambda self, x: x.flatten(1).gather(1, self.table),
        {"table": torch.stack([torch.arange(192), torch.arange(191, -1, -1)])},
    ),
    "slices out of order": (lambda self, x: torch.cat([x[:, :, i::3] for i in (0, 2, 1)], 2), {}),
    "a slice twice": (lambda self, x: torch.cat([x[:, :, ::2], x[:, :, ::2]], 2), {}),
    "a convolution with a two": (moved_by_conv, {"kernel": 2 * one_hot_conv()}),
    "a convolution that adds": (moved_by_conv, {"kernel": one_hot_conv() + one_hot_conv().flip(0)}),
    "a convolution that subtracts": (moved_by_conv, {"kernel": -one_hot_conv()}),
    "a convolution with a bias": (
        lambda self, x: F.conv2d(x, self.kernel, self.bias, stride=2, groups=4),
        {"kernel": one_hot_conv(), "bias": torch.ones(16)},
    ),
    "a convolution with padding": (
        lambda self, x: F.conv2d(x, self.kernel, stride=2, padding=1, groups=4),
        {"kernel": one_hot_conv()},
    ),
    "a transposed convolution that adds": (
        lambda self, x: F.conv_transpose2d(x, self.kernel),
        {"kernel": torch.eye(4)[[0, 0, 1, 2]].reshape(4, 4, 1, 1)},
    ),
}  # fmt: skip


def test_what_is_nearly_a_permutation_stays() -> None:
    """All of them as one network: an export takes most of a test's time."""
    layers = nn.ModuleList(Made(lambda self, x, f=f: f(self, x * 2).relu(), **parts) for f, parts in NEARLY.values())
    module = lively(Made(lambda self, x: tuple(layer(x) for layer in self.layers), layers=layers))
    assert simplify_movement(capture(module, (X.double(),))) == []


def test_between_the_halves_something_is_added() -> None:
    """Each half is a permutation of its own, and the sum between them stays."""
    replaced, left = moved(rounded, X)
    assert len(replaced) == 2
    assert left.count("add") == 1


def test_parts_of_two_tensors_are_no_permutation() -> None:
    module = Made(lambda self, x, y: torch.stack([x[:, :, ::2], y[:, :, 1::2]], 3).relu()).eval()
    assert simplify_movement(capture(module, (X, X + 1))) == []


@pytest.mark.parametrize("value", [2.0, 3.0])
def test_a_constant_is_no_place(value: float) -> None:
    """Whatever number it is: 2 is also where the second value of the input stands."""
    replaced, _ = moved(lambda self, x: torch.cat([x[:, :1], self.c], 1), torch.randn(1, 2), c=torch.tensor([[value]]))
    assert replaced == []


def test_a_sum_is_no_place() -> None:
    """The first value and the second, added: as 1 + 2 = 3 that could be the third."""

    def added(self: Made, x: Tensor) -> Tensor:
        both = x[:, :2].reshape(1, 2, 1, 1)
        return torch.cat([x[:, :2], F.conv_transpose2d(both, self.ones).reshape(1, 1)], 1)

    assert moved(added, torch.randn(1, 3), ones=torch.ones(2, 1, 1, 1))[0] == []


def test_integers_are_not_looked_at() -> None:
    module = Made(lambda self, x: F.pixel_shuffle(x, 2) + 1).eval()
    assert simplify_movement(capture(module, (torch.arange(384).reshape(2, 4, 6, 8),))) == []


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([1, 2, 3, 4], ([4], [0])),
        ([1, 3, 2, 4], ([2, 2], [1, 0])),
        ([1, 4, 2, 5, 3, 6], ([2, 3], [1, 0])),
        ([2, 1, 4, 3], None),
        ([1, 2, 3, 3], None),
        ([1, 2, 3], None),
        ([1, 2, 0, 4], None),
        ([2, 3, 4, 5], None),
        ([1, 2, 4, 3], None),
    ],
)
def test_the_axes_of_a_permutation(places: list[int], expected: tuple[list[int], list[int]] | None) -> None:
    found = permutation(torch.tensor(places, dtype=torch.float64), 6 if len(places) == 6 else 4)
    assert found == expected


@pytest.mark.parametrize("seed", range(20))
def test_any_permutation_of_axes_is_found_again(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = [int(n) for n in torch.randint(1, 5, (5,), generator=generator)]
    order = torch.randperm(5, generator=generator).tolist()
    x = torch.arange(1, torch.Size(lengths).numel() + 1)
    expected = x.reshape(lengths).permute(order).reshape(-1)
    found = permutation(expected.double(), len(x))
    if len(x) == 1:
        return
    assert found is not None
    assert torch.equal(x.reshape(found[0]).permute(found[1]).reshape(-1), expected)


def test_the_module_is_named() -> None:
    module = nn.Sequential(nn.Conv2d(4, 16, 1), nn.PixelShuffle(2), nn.ReLU()).eval()
    (node,) = simplify_movement(capture(module, (X,)))
    assert [path for path, _ in node.meta["nn_module_stack"].values()][-1] == "1"
