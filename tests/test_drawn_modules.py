"""What modules that were drawn at random (benchmarks/fuzz/users.py) brought to light."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeattn import deploy
from edgeattn.errors import BadInputError, ConversionError


class Made(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("lowering", [True, False])
@pytest.mark.parametrize("name", ["onnx", "tflite", "coreml"])
def test_data_is_out_of_the_graph(name: str, lowering: bool, tmp_path: Path) -> None:
    """torch.onnx ended the process by SIGSEGV, without a word."""
    with pytest.raises(BadInputError, match=r"computes with x\.data.*use x\.detach\(\)"):
        deploy(Made(lambda x: x.data.clamp(-1, 1)), X, out=tmp_path / "b", formats=name, lowering=lowering)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: (x * 1e30 * 1e30).softmax(-1), "in float32, which ends at 3.4e38"),
        (lambda x: x.log(), "on these inputs"),
        (lambda x: x / 0, "on these inputs"),
    ],
)
def test_outputs_that_are_no_numbers(function: Callable[[Tensor], Tensor], why: str, tmp_path: Path) -> None:
    """It was a bundle with a noise of NaN, which could not be read again, or a file called DIFFERENT."""
    with pytest.raises(BadInputError, match=f"output y of the module has NaN or infinite values {why}"):
        deploy(Made(function), X, out=tmp_path / "b", formats="onnx")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("example", [X, torch.ones_like(X)], ids=["noise", "ones"])
def test_a_cast_to_float32_inside(example: Tensor, tmp_path: Path) -> None:
    """The example hides it where its own sum is exact in float32; the module was then the oracle of other cases."""
    made = deploy(Made(lambda x: x * 2 + x.float().mean()), example, out=tmp_path / "b", formats="onnx")
    assert made.passed, made.parity_at_export.rows()


@pytest.mark.parametrize("name", ["onnx", "tflite", "coreml"])
def test_an_output_without_dimensions(name: str, tmp_path: Path) -> None:
    """coremltools makes nothing of a reshape to no dimension."""
    made = deploy(Made(lambda x: x.amax(-1, keepdim=True).norm()), X, out=tmp_path / "b", formats=name)
    assert made.passed, made.parity_at_export.rows()
    assert made.artifact(name).outputs[0].shape == ()


def test_cases_whose_output_is_empty_are_left_out(tmp_path: Path) -> None:
    made = deploy(Made(lambda x: x.nonzero().amax(-1, keepdim=True) + 0.0), X, out=tmp_path / "b", formats="onnx")
    assert made.passed, made.parity_at_export.rows()
    assert made.data.manifest.cases_omitted["zero"] == "the reference gives an empty output for it"


def test_the_exporters_first_error_is_told(tmp_path: Path) -> None:
    """Not "An error occurred at step 0", in which it is wrapped."""
    with pytest.raises(ConversionError, match=r"Round.*unsupported type: tensor\(int64\)"):
        deploy(Made(lambda x: x.long().round()), X, out=tmp_path / "b", formats="onnx")


ONE = torch.tensor([[-0.7]])
OF_ONE: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "normalised": (lambda x: nn.functional.normalize(x, dim=1), ONE),
    "the norm": (lambda x: x.norm(dim=1) + x.sum(), ONE),
    "a sum in a row": (lambda x: x.cumsum(-1) * 2, torch.tensor(0.3)),
    "a softmax": (lambda x: x.softmax(-1) * x, torch.tensor(0.3)),
    "a log_softmax": (lambda x: x.log_softmax(-1) + x, torch.tensor(-0.3)),
    "a logsumexp": (lambda x: x.logsumexp(1) * 2, ONE),
    "the largest": (lambda x: x.amax(1) * 2, ONE),
}


@pytest.mark.parametrize("name", OF_ONE)
def test_one_value_or_no_dimension(name: str, tmp_path: Path) -> None:
    """The norm of one value is its size, and not itself."""
    function, x = OF_ONE[name]
    made = deploy(Made(function), x, out=tmp_path / "b", formats=("onnx", "tflite"))
    assert made.passed, made.parity_at_export.rows()


@pytest.mark.parametrize("lowering", [True, False])
def test_poolings_without_a_stride_in_core_ml(lowering: bool, tmp_path: Path) -> None:
    """F.max_pool2d(x, 2): coremltools wants the stride, too."""
    pools = nn.functional

    def forward(x: Tensor) -> Tensor:
        y = pools.max_pool2d(x, 2) + pools.avg_pool2d(x, 2) + pools.max_pool2d(x, 2, padding=0, ceil_mode=True)
        return pools.max_pool1d(y.flatten(2), 2)

    made = deploy(Made(forward), X, out=tmp_path / "b", formats="coreml", lowering=lowering)
    assert made.passed, made.parity_at_export.rows()
    with_indices = Made(lambda x: pools.max_pool2d(x, 2, return_indices=True)[0])
    assert deploy(with_indices, X, out=tmp_path / "c", formats="coreml", lowering=lowering).passed


@pytest.mark.parametrize("name", ["onnx", "tflite", "coreml"])
def test_powers_of_five_axes(name: str, tmp_path: Path) -> None:
    """litert-torch refuses a power of a tensor with more than four axes, x.square() among them."""

    def forward(x: Tensor) -> Tensor:
        y = x.reshape(1, 3, 2, 4, 8).transpose(1, 2)
        y = y.square() + y**3 + (y * y + 1) ** 0.5 + (y * y + 1) ** -0.5 + y**1
        return (y + 2.0 ** y.tanh()).sum(2)

    made = deploy(Made(forward), X, out=tmp_path / "b", formats=name)
    assert made.passed, made.parity_at_export.rows()


REPEATED: dict[str, Callable[[Tensor], Tensor]] = {
    "in front": lambda x: (x.relu() + 1).expand(2, *x.shape),
    "in front, of three": lambda x: (x.mT.relu() + 1).expand(2, *x.mT.shape),
    "between": lambda x: (x.relu() + 1)[:, None].expand(-1, 4, -1, -1),
    "behind": lambda x: (x.relu() + 1)[..., None].expand(-1, -1, -1, 4),
    "samples": lambda x: (x[None].relu() + 1).repeat(2, 1, 1, 1),
    "samples, normalised": lambda x: nn.functional.normalize(x[None].flip(-1).repeat(2, 1, 1, 1), dim=1),
    "channels": lambda x: x[None].relu().repeat(1, 2, 1, 1),
    "rows and columns": lambda x: x[None].relu().repeat(1, 1, 2, 3),
    "each sample": lambda x: x[None].relu().repeat_interleave(2, 0),
    "each channel": lambda x: x[None].relu().repeat_interleave(2, 1) * 2,
    "each column": lambda x: x[None].relu().repeat_interleave(3, -1),
    "all": lambda x: x.relu().repeat(2, 2, 2, 2),
    "tokens": lambda x: x.flatten(1).T.relu().tile(2, 3),
}


@pytest.mark.parametrize("name", REPEATED)
def test_an_output_that_is_repeated(name: str, tmp_path: Path) -> None:
    """LiteRT refused the file that was lowered, and took the one that was not."""
    made = deploy(Made(REPEATED[name]), X[0], out=tmp_path / "b", formats="tflite")
    assert made.passed, made.parity_at_export.rows()


KERNEL = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(2))
STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "half inside": lambda x: nn.functional.conv2d(x, KERNEL.to(x.dtype), padding=1).half().float(),
    "rounded": lambda x: ((x @ x.mT) * 8).round() / 8,
    "a threshold": lambda x: torch.where(x @ x.mT > 0.5, 1.0, x),
    "floors": lambda x: (x @ x.mT) // 0.25 + x,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_rounding_decides_is_no_difference(name: str, tmp_path: Path) -> None:
    """Fake quantisation, and half precision inside: one step up or down, where a sum is between two."""
    x = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    made = deploy(Made(STEPS[name]), x, out=tmp_path / "b", formats=("onnx", "tflite"))
    assert made.passed, [row for row in made.parity_at_export.rows() if not row["passed"]]


def test_a_shape_that_rounding_decides_is_refused(tmp_path: Path) -> None:
    def forward(x: Tensor) -> Tensor:
        return (x * 0.1 + x * 0.2 - x * 0.3).nonzero()

    with pytest.raises(BadInputError, match="shape of output y of the module depends on the values"):
        deploy(Made(forward), X, out=tmp_path / "b", formats="onnx")


def test_a_value_that_is_asked_for(tmp_path: Path) -> None:
    """In TFLite it was a traceback; the others compute it."""
    asked = Made(lambda x: x * x.sum().item())
    with pytest.raises(ConversionError, match="litert-torch refuses the module"):
        deploy(asked, X, out=tmp_path / "b", formats="tflite")
    assert deploy(asked, X, out=tmp_path / "b", formats=("onnx", "coreml")).passed


@pytest.mark.parametrize(
    "gate", [nn.functional.silu, nn.functional.gelu, nn.functional.mish, lambda x: x * x.sigmoid()]
)
def test_what_a_runtimes_sigmoid_leaves_is_no_difference(gate: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    """Of large negative values a norm makes the most: onnxruntime's sigmoid of -100 is 1.5e-8."""

    def forward(x: Tensor) -> Tensor:
        return nn.functional.layer_norm(gate(x.permute(0, 2, 3, 1) * 100), (3,)) + x.mean()

    made = deploy(Made(forward), X, out=tmp_path / "b", formats=("onnx", "tflite"))
    assert made.passed, [row for row in made.parity_at_export.rows() if not row["passed"]]


OF_INTEGERS: dict[str, Callable[[Tensor], Tensor]] = {
    "logsumexp": lambda x: x.logsumexp(-1) % 3,
    "tanh": lambda x: torch.tanh(x) / 3,
    "sigmoid": lambda x: x.sigmoid().mean(1),
    "a root": lambda x: x.abs().sqrt() + 1.5,
    "a threshold": lambda x: torch.tanh(x > 3) * 2,
    "exp": lambda x: (x - 8).exp().sum(-1),
}


@pytest.mark.parametrize("name", ["onnx", "tflite", "coreml"])
@pytest.mark.parametrize("function", OF_INTEGERS)
def test_functions_of_integers_that_give_floats(function: str, name: str, tmp_path: Path) -> None:
    """coremltools refused them, or computed with integers."""
    x = torch.randint(0, 9, (1, 3, 8, 8), generator=torch.Generator().manual_seed(0)).int()
    made = deploy(Made(OF_INTEGERS[function]), x, out=tmp_path / "b", formats=name)
    assert made.passed, [row for row in made.parity_at_export.rows() if not row["passed"]]
