"""`--auto-keep`: where int8 loses too much, what loses most for its work stays in float."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Answer
from torch import Tensor, nn

from edgeattn.bundle import manifest as bundles
from edgeattn.export import keeping, pipeline, source
from edgeattn.export.quantize._bias import correct_biases
from edgeattn.runtimes import backends

FORMATS = ("onnx", "tflite", "executorch", "coreml", "coreai")


class Uneven(nn.Module):
    """Three good convolutions, and two that share a map on which one channel is 300 times the others."""

    def __init__(self) -> None:
        super().__init__()
        self.good = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 16, 1), nn.SiLU())
        self.wide, self.narrow = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.last = nn.Sequential(nn.SiLU(), nn.Conv2d(16, 4, 1))
        with torch.no_grad():
            # Constants in the output would hide its noise.
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d):
                    assert layer.bias is not None
                    layer.bias.zero_()
            self.wide.weight[0] *= 300
            self.narrow.weight[:, 0] /= 300

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.narrow(nn.functional.silu(self.wide(self.good(x)))))
        return y


def uneven() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Uneven().eval(), torch.rand(1, 3, 16, 16)


@pytest.mark.parametrize("format_", FORMATS)
def test_what_loses_most_stays_in_float(format_: str, tmp_path: Path) -> None:
    options = pipeline.Options(formats=(format_,), precisions=("fp32", "int8"))
    without = pipeline.export(source.from_module(*uneven()), options, tmp_path / "a")
    assert not without.report.passed
    found = pipeline.export(
        source.from_module(*uneven()), pipeline.Options(**{**vars(options), "auto_keep": True}), tmp_path / "b"
    )
    assert found.report.passed, [row for row in found.report.rows if not row.passed]
    (kept,) = (a.details.kept_by_name for a in found.bundle.manifest.artifacts if a.precision == "int8")
    assert kept
    (all_,) = (a.details.static_ops for a in without.bundle.manifest.artifacts if a.precision == "int8")
    (rest,) = (a.details.static_ops for a in found.bundle.manifest.artifacts if a.precision == "int8")
    if all_ is not None:  # Core ML's passes do not count them
        assert rest is not None
        assert 2 <= rest < all_
    assert len(kept) <= 4


def test_nothing_is_kept_where_nothing_is_lost(edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    options = ("--format", "onnx", "--precision", "int8", "--auto-keep", "--arg", "embed_dim=32")
    assert edgeattn("export", "attention", *options, "--out", tmp_path / "b").code == 0
    (artifact,) = bundles.load(tmp_path / "b").manifest.artifacts
    assert artifact.details.kept_by_name is None


@pytest.mark.parametrize(
    ("noises", "limit", "numbers"),
    [
        ([8.0, 4, 2, 1], 3.5, [2, 3]),
        ([8.0, 4, 2, 1], 0.0, []),
        ([1.0] * 8, 8.5, [1, 2, 3, 4, 5, 6, 7]),
        ([1.0] * 20, 11.5, [9, 11, 13, 16]),
        ([], 1.0, []),
    ],
)
def test_how_many_are_kept(noises: list[float], limit: float, numbers: list[int]) -> None:
    assert keeping._numbers(noises, limit) == numbers


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_the_layers_behind_operators_are_found_by_their_values(format_: str, tmp_path: Path) -> None:
    module, x = uneven()
    made = pipeline.export(source.from_module(module, x), pipeline.Options(formats=(format_,)), tmp_path / "b").bundle
    (artifact,) = made.manifest.artifacts
    from edgeattn.bundle.golden import golden_case
    from edgeattn.export.quantize import QUANTIZERS
    from edgeattn.lowering import lower

    path = made.path(artifact.file)
    products = [name for kind, name in QUANTIZERS.get(format_).candidates(path) if "conv" in kind.lower()]
    lowered = lower(module, layout=artifact.lowering, inputs=(x,)).with_edges(artifact.lowering)
    case = golden_case(made, "example").inputs_for(artifact)
    example = (torch.from_numpy(next(iter(case.values()))),)
    (backend,) = (one for one in backends(format_) if not one.missing)
    layers = [keeping.layers_behind([name], path, case, backend, lowered, example) for name in products]
    assert all(len(found) == 1 for found in layers), layers
    assert len({found[0] for found in layers}) == len(products) == 5
    assert keeping.layers_behind(["no such name"], path, case, backend, lowered, example) == ()


def test_a_layer_that_stays_in_float_has_its_own_bias() -> None:
    module, x = uneven()
    corrected, own = correct_biases(module, [(x,)]), correct_biases(module, [(x,)], ("wide",))
    assert torch.equal(own.wide.bias, module.wide.bias)
    assert not torch.equal(corrected.wide.bias, module.wide.bias)
    assert torch.equal(own.narrow.bias, corrected.narrow.bias)


def test_noise_that_is_no_number_is_the_worst() -> None:
    assert keeping._db(np.inf) == -np.inf
    assert keeping._db(0) == np.inf
    assert keeping._db(0.01) == pytest.approx(20)
