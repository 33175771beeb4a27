"""What is repeated and joined to others for a matrix; and concatenations that LiteRT's backends take whole."""

from pathlib import Path

import pytest
import torch
from networks import Function, Made, changed, count, left_alone
from torch import Tensor, nn

from edgeattn.export import pipeline, source
from edgeattn.lowering.passes.joins import apart
from edgeattn.runtimes import RUNTIMES

X = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0)).double()


def pooled(x: Tensor) -> Tensor:
    return x.tanh().mean((2, 3), keepdim=True).expand(-1, -1, *x.shape[2:])


class Joins(nn.Module):
    """``join(x)`` under a 1x1 convolution."""

    def __init__(self, join: Function, channels: int, kernel: int = 1) -> None:
        super().__init__()
        self.join, self.project = join, nn.Conv2d(channels, 3, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.join(self, x)).relu()


JOINED: dict[str, tuple[Function, int]] = {
    "last": (lambda s, x: torch.cat([x.sin(), x.cos(), pooled(x)], 1), 12),
    "first": (lambda s, x: torch.cat([pooled(x), x.sin()], 1), 8),
    "between": (lambda s, x: torch.cat([x.sin(), pooled(x), x.cos()], 1), 12),
    "two": (lambda s, x: torch.cat([pooled(x), x.sin(), pooled(x.abs())], 1), 12),
    "one row": (lambda s, x: torch.cat([x.sin(), x.mean(2, keepdim=True).expand_as(x)], 1), 8),
}


@pytest.mark.parametrize("spelling", JOINED)
def test_what_is_repeated_runs_once(spelling: str) -> None:
    join, channels = JOINED[spelling]
    net = changed(Joins(join, channels).double().eval(), X, by=(apart,))
    counts = count(net)
    assert "Expand" not in counts
    assert counts["Linear"] == (3 if spelling == "two" else 2)
    assert counts.get("Concat", 0) == (spelling in ("last", "between"))


def test_what_stays_joined() -> None:
    """Nothing is repeated; all is; another reads it; a kernel of several pixels does; it is joined along the rows."""
    plain = Joins(lambda s, x: torch.cat([x.sin(), x.cos()], 1), 8)
    all_of_it = Joins(lambda s, x: torch.cat([pooled(x), pooled(x.abs())], 1), 8)
    wide = Joins(lambda s, x: torch.cat([x.sin(), pooled(x)], 1), 8, 3)
    rows = Joins(lambda s, x: torch.cat([x.sin(), pooled(x)], 2), 4)
    for module in (plain, all_of_it, wide, rows):
        left_alone(module.double().eval(), X, by=(apart,))
    twice = Made(lambda s, x: (j := torch.cat([x.sin(), pooled(x)], 1)).mean(1, keepdim=True) * j.sum(1, keepdim=True))
    left_alone(twice, X, by=(apart,))


class Many(nn.Module):
    """More parts than XNNPACK joins, on five axes if each had its own."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 2 + n, 1) for n in range(number))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [conv(x).flatten(2) for conv in self.convs]
        means = [x.narrow(2, n, 2).mean(2, keepdim=True) for n in range(len(self.convs))]
        return torch.cat(parts, 1).softmax(1), torch.cat(means, 2)


@pytest.mark.parametrize("number", [2, 5, 6, 9, 17])
def test_many_parts_are_one_partition_and_all_on_the_gpu(number: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    loaded = source.from_module(Many(number).eval(), torch.randn(1, 3, 20, 8), name="many")
    made = pipeline.export(loaded, pipeline.Options(formats=("tflite",)), tmp_path / "b")
    assert made.report.passed
    path = made.bundle.path(made.bundle.manifest.artifacts[0].file)
    shares = [RUNTIMES.get(name).share for name in ("litert", "litert_gpu")]
    xnnpack, gpu = (share(path, "") for share in shares if share)
    assert (xnnpack.left, xnnpack.partitions) == ((), 1)
    assert gpu.left == ()


@pytest.mark.parametrize("name", ["deeplabv3", "pspnet", "ssdlite"])
def test_the_dense_heads_are_on_the_gpu(name: str, tmp_path: Path) -> None:
    loaded = source.load(name, ["width=0.5", "image_size=128"])
    made = pipeline.export(loaded, pipeline.Options(formats=("tflite",)), tmp_path / "b")
    assert made.report.passed
    path = made.bundle.path(made.bundle.manifest.artifacts[0].file)
    shares = [RUNTIMES.get(each).share for each in ("litert", "litert_gpu")]
    xnnpack, gpu = (share(path, "") for share in shares if share)
    assert (xnnpack.left, xnnpack.partitions, gpu.left) == ((), 1, ())
