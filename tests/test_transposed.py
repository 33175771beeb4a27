"""Transposed convolutions and folds that a converter lacks: exactly the same in operators that it has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Made, lively
from torch import nn
from torch.nn import functional as F

from edgeattn import deploy
from edgeattn.formats import FORMATS
from edgeattn.layout import Layout
from edgeattn.lowering import understand
from edgeattn.lowering.movement import name

LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
LACKS = frozenset().union(*(FORMATS.get(name).lacks for name in FORMATS.names))
CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "twice as large": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    "more output padding than padding": {"kernel_size": 2, "stride": 3, "output_padding": 2},
    "one dimension": {"kernel_size": 3, "stride": 2, "padding": (1, 0), "output_padding": (1, 0), "bias": False},
    "by channel": {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 6},
    "dilated": {"kernel_size": 3, "padding": 1, "dilation": 2},
    "dilated, with a stride": {"kernel_size": 3, "stride": 2, "dilation": (1, 2)},
}
FOLDS: dict[str, dict[str, Any]] = {
    "overlapping": {"kernel_size": 3, "padding": 1},
    "by two": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilated": {"kernel_size": (2, 3), "dilation": 2},
    "dilated, by two": {"kernel_size": (2, 3), "dilation": 2, "stride": 2},
    "with gaps": {"kernel_size": 2, "stride": 3},
}


def transposed(options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(6, 6, **options)
    return lively(Made(lambda s, x: s.d(s.up(s.c(x).relu())), c=nn.Conv2d(3, 6, 1), up=up, d=nn.Conv2d(6, 4, 1)).eval())


def folding(options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    fold = lambda s, x: F.fold(F.unfold(s.c(x), **options).relu(), x.shape[2:], **options)  # noqa: E731
    return lively(Made(fold, c=nn.Conv2d(3, 2, 1)).eval())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("which", [("up", kind) for kind in CONVOLUTIONS] + [("fold", kind) for kind in FOLDS])
def test_exact(which: tuple[str, str], layout: Layout) -> None:
    kind, options = which
    module = transposed(CONVOLUTIONS[options]) if kind == "up" else folding(FOLDS[options])
    x = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(1)).double()
    lowered = understand(module, (x,)).lowered(layout, LACKS)
    assert not any("not lowered" in change.reason for change in lowered.changes)
    nodes = list(lowered.exact.graph.nodes)  # type: ignore[union-attr]
    assert not any(name(node) == "col2im" for node in nodes)
    convolutions = [node for node in nodes if name(node) == "conv_transpose2d"]
    assert convolutions
    assert all(list(node.args[4]) == [0, 0] == list(node.args[5]) for node in convolutions)
    with torch.no_grad():
        torch.testing.assert_close(lowered.exact(x), module(x), rtol=1e-12, atol=1e-12)


def test_one_that_every_converter_takes_stays_as_it_is() -> None:
    x = torch.randn(1, 3, 7, 9, generator=torch.Generator().manual_seed(1)).double()
    for options in ({"kernel_size": 4, "stride": 2, "padding": 1}, {"kernel_size": 2, "stride": 2}):
        lowered = understand(transposed(options), (x,)).lowered("channels_last", LACKS)
        names = [name(node) for node in lowered.exact.graph.nodes]  # type: ignore[union-attr]
        assert not {"slice", "constant_pad_nd"} & set(names)


@pytest.mark.parametrize(
    "module",
    [
        transposed(CONVOLUTIONS["twice as large"]),
        transposed(CONVOLUTIONS["dilated, with a stride"]),
        folding(FOLDS["overlapping"]),
    ],
    ids=["up", "spread", "fold"],
)
def test_every_format_takes_them(module: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    bundle = deploy(module.float(), x, out=tmp_path / "b")
    assert bundle.refused == {}
    assert bundle.passed, [row for row in bundle.parity_at_export.rows() if not row["passed"]]
