"""Resizing that a converter lacks, or gets wrong: written as two linear maps, and the same in every format."""

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Made, lively
from torch import nn
from torch.nn import functional as F

from edgeattn import deploy, lower
from edgeattn.formats import FORMATS
from edgeattn.layout import Layout
from edgeattn.lowering import understand
from edgeattn.lowering.movement import name

LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
LACKS = {layout: frozenset().union(*(f.lacks for f in map(FORMATS.get, FORMATS.names) if f.layout == layout))
         for layout in LAYOUTS}  # fmt: skip
RESIZES: dict[str, dict[str, Any]] = {
    "antialiased": {"size": (7, 9), "mode": "bilinear", "antialias": True},
    "antialiased by a factor": {"scale_factor": 0.6, "mode": "bilinear", "antialias": True},
    "antialiased bicubic": {"size": (7, 30), "mode": "bicubic", "antialias": True},
    "bicubic": {"scale_factor": 1.5, "mode": "bicubic"},
    "bicubic, corners": {"size": (20, 33), "mode": "bicubic", "align_corners": True},
    "nearest exact": {"size": (11, 23), "mode": "nearest-exact"},
    "nearest": {"size": (11, 23), "mode": "nearest"},
    "nearest, smaller": {"scale_factor": 0.3, "mode": "nearest"},
    "nearest, twice": {"scale_factor": 2.0, "mode": "nearest"},
    "bilinear": {"size": (11, 23), "mode": "bilinear"},
}


def resizing(options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    module = Made(lambda s, x: s.d(F.interpolate(s.c(x).relu(), **options)), c=nn.Conv2d(3, 6, 3), d=nn.Conv2d(6, 4, 1))
    return module.eval()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("which", RESIZES)
def test_exact_and_nothing_is_moved(which: str, layout: Layout, batch: int) -> None:
    module = lively(resizing(RESIZES[which]))
    x = torch.randn(batch, 3, 18, 22, generator=torch.Generator().manual_seed(1)).double()
    lowered = understand(module, (x,)).lowered(layout, LACKS[layout])
    assert not any("not lowered" in change.reason for change in lowered.changes)
    left = [name(node) for node in lowered.exact.graph.nodes if "upsample" in name(node)]  # type: ignore[union-attr]
    if which in ("bilinear", "nearest, twice"):
        assert left
    else:
        assert not set(left) & LACKS[layout]
    assert len(left) <= 1
    with torch.no_grad():
        torch.testing.assert_close(lowered.exact(x), module(x), rtol=1e-12, atol=1e-12)


def test_without_a_format_that_lacks_it_the_operator_stays() -> None:
    module = lively(resizing(RESIZES["bicubic"]))
    lowered = lower(module, layout="channels_first", inputs=(torch.randn(1, 3, 18, 22).double(),))
    assert any("bicubic" in str(node.target) for node in lowered.module.graph.nodes)  # type: ignore[union-attr]


@pytest.mark.parametrize("which", RESIZES)
def test_every_format_is_the_same_model(which: str, tmp_path: Path) -> None:
    x = torch.randn(1, 3, 18, 22, generator=torch.Generator().manual_seed(1))
    bundle = deploy(resizing(RESIZES[which]), x, out=tmp_path / "b", name="resizing")
    assert bundle.passed
    assert {row.format for row in bundle.manifest.artifacts} == set(FORMATS.names)
