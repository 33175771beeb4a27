"""Weights that do not lie in the order of their dimensions: litert-torch takes two of one shape for one constant."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeattn import deploy
from edgeattn.formats._tflite_module import with_dense_tensors


class Turned(nn.Module):
    """Six products with matrices of one shape, each kept as it was permuted."""

    def __init__(self, kept: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.out = nn.Linear(16, 64)
        self.names = [f"w{k}" for k in range(6)]
        for name in self.names:
            weight = torch.randn(64, 16, 8, generator=generator).permute(2, 0, 1) / 8
            if kept == "parameter":
                setattr(self, name, nn.Parameter(weight))
            elif kept == "buffer":
                self.register_buffer(name, weight)
            else:
                setattr(self, name, weight)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = self.out((x @ getattr(self, name)).tanh().sum(0))
        return x


@pytest.mark.parametrize("lowering", [True, False])
@pytest.mark.parametrize("kept", ["parameter", "buffer", "attribute"])
def test_each_keeps_its_values(kept: str, lowering: bool, tmp_path: Path) -> None:
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    bundle = deploy(Turned(kept).eval(), x, out=tmp_path / "b", name="turned", formats="tflite", lowering=lowering)
    assert bundle.passed


def test_the_users_module_is_left_as_it_is() -> None:
    module = Turned("parameter")
    dense = with_dense_tensors(module)
    assert dense is not module
    assert not module.w0.is_contiguous()
    assert dense.w0.is_contiguous()  # type: ignore[union-attr]
    assert torch.equal(dense.w0, module.w0)  # type: ignore[arg-type]
    assert with_dense_tensors(dense) is dense
