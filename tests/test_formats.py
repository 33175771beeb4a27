"""What the readers see in files that we and others make."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeattn import LinearSelfAttention
from edgeattn.errors import ArtifactError, ConversionError
from edgeattn.formats import FORMATS, Job
from edgeattn.formats.tflite import unpack
from edgeattn.inspection import inspect as inspection
from edgeattn.runtimes import RUNTIMES

SUFFIXES = {name: FORMATS.get(name).suffix for name in FORMATS.names}
UNFOLD = torch.eye(12).reshape(12, 3, 2, 2)


class Shuffling(nn.Module):
    """One transpose, one constant gather, one pixel shuffle, one one-hot convolution, one slice, one matmul."""

    def __init__(self) -> None:
        super().__init__()
        self.unfold = nn.Conv2d(3, 12, 2, stride=2, bias=False)
        self.unfold.weight = nn.Parameter(UNFOLD)
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.mix = nn.Parameter(torch.randn(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pixel_shuffle(self.unfold(x), 2)
        x = x.index_select(1, self.order).relu()
        return torch.matmul(x.transpose(2, 3).relu()[:, :, 2:], self.mix)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(8, 4, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2)
        self.linear = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.up(self.grouped(x)))


def convert(name: str, module: nn.Module, x: Tensor, folder: Path) -> inspection.Inspection:
    path = folder / f"m{SUFFIXES[name]}"
    FORMATS.get(name).convert(Job(module.eval(), {"x": x}, ("y",)), path)
    return inspection.inspect(path)


@pytest.mark.parametrize("name", ["onnx", "coreml", "coreai"])
def test_layout_and_copy_ops_are_seen(name: str, tmp_path: Path) -> None:
    found = convert(name, Shuffling(), torch.randn(1, 3, 8, 8), tmp_path)
    assert sum(found.layout_ops.values()) == 4, found.operators
    assert sum(found.copy_ops.values()) == 1, found.operators
    assert found.layout_bytes == 4 * (192 * 4)
    assert found.copy_bytes == 4 * 3 * 6 * 8
    assert found.macs == 192 * 12 + 3 * 6 * 5 * 8
    assert found.inputs[0]["name"] == "x"
    assert found.outputs[0]["shape"] == (1, 3, 6, 5)


def test_layout_ops_are_seen_in_tflite(tmp_path: Path) -> None:
    class Turning(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.transpose(1, 2).sigmoid()[:, :, 1:] * 2).softmax(-1)

    found = convert("tflite", Turning(), torch.randn(1, 4, 6, 5), tmp_path)
    assert found.layout_ops == {"TRANSPOSE": 1}
    assert found.layout_bytes == 4 * 120
    assert sum(found.copy_ops.values()) == 1
    assert found.runtime["xnnpack_partitions"] >= 1


@pytest.mark.parametrize("name", ["onnx", "coreml", "coreai"])
def test_multiply_adds_of_convolutions(name: str, tmp_path: Path) -> None:
    found = convert(name, Convolutions(), torch.randn(1, 8, 8, 8), tmp_path)
    assert found.macs == 4 * 64 * 4 * 9 + 4 * 64 * 6 * 4 + 6 * 16 * 16 * 3
    assert found.parameters == sum(p.numel() for p in Convolutions().parameters())


@pytest.mark.parametrize("name", SUFFIXES)
def test_the_lowered_layer_has_no_layout_and_no_copy_op(name: str, made_bundle: Path) -> None:
    found = inspection.inspect(made_bundle / f"attention-fp32{SUFFIXES[name]}")
    assert not found.layout_ops
    assert not found.copy_ops
    assert found.worst_layout_ops == 0
    # The query's bias is dropped; ExecuTorch's sums are means times a number.
    assert found.parameters == 32 * 32 * 3 + 32 + 3 * 32 + 2 * (name == "executorch")
    channels, columns = 32, 64
    projections = 2 * channels * channels * columns + channels * channels * 4
    # The query is a matrix product but in TFLite; the context is a sum.
    numbers = 2 * columns if name == "executorch" else 0
    assert found.macs - projections - numbers == (0 if name == "tflite" else channels * columns)
    if name == "onnx":
        assert not found.runtime["layout_ops"]
        assert not found.runtime["copy_ops"]
    if name == "tflite":
        assert found.runtime["xnnpack_partitions"] == 1
        assert sum(found.operators.values()) <= 11  # two of them reshape a hundred numbers, which one pixel saves


def test_the_reference_form_is_not_so_clean(tmp_path: Path) -> None:
    layer, x = LinearSelfAttention(32).eval(), torch.randn(1, 32, 4, 16)
    assert convert("onnx", layer, x, tmp_path).copy_ops
    with pytest.raises(ConversionError, match=r"litert-torch refuses the module: .*broadcast-compatible"):
        convert("tflite", layer, x, tmp_path)
    assert not (tmp_path / "m.tflite").exists()


@pytest.mark.parametrize(("stride", "weight", "layout"), [(2, 1, True), (2, 2, False), (3, 1, False)])
def test_a_fold_by_a_transposed_convolution_is_a_layout_op(
    stride: int, weight: float, layout: bool, tmp_path: Path
) -> None:
    """As onnx2tf folds. Another weight computes, and a greater stride puts zeros between."""
    fold = nn.ConvTranspose2d(4, 1, 2, stride, bias=False).requires_grad_(False)
    fold.weight.copy_(weight * torch.eye(4).reshape(4, 1, 2, 2))
    graph = convert("tflite", fold.eval(), torch.randn(1, 4, 3, 3), tmp_path)
    assert graph.operators["TRANSPOSE_CONV"] == 1
    assert graph.layout_ops.get("TRANSPOSE_CONV", 0) == layout


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_module_that_cannot_be_traced_is_one_sentence(name: str, tmp_path: Path) -> None:
    class Fickle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(ConversionError) as error:
        convert(name, Fickle(), torch.randn(1, 2, 3, 4), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_onnx_keeps_no_path_of_this_machine(made_bundle: Path) -> None:
    content = (made_bundle / "attention-fp32.onnx").read_bytes()
    assert b"name_scopes" in content  # where each node comes from is kept
    assert b".py" not in content
    assert str(Path(torch.__file__).parent.parent).encode() not in content
    assert str(Path(__file__).parent.parent).encode() not in content


@pytest.mark.parametrize("size", [0, 1, 50, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_cut_file_is_refused(suffix: str, size: float, made_bundle: Path, tmp_path: Path) -> None:
    content = (made_bundle / f"attention-fp32{suffix}").read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: int(size if size in (0, 1, 50) else size * len(content))])
    with pytest.raises(ArtifactError, match="is not a readable"):
        inspection.inspect(cut)


@pytest.mark.parametrize(
    "part",
    ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"],
)
@pytest.mark.parametrize("how", ["missing", "cut", "rubbish"])
def test_a_damaged_package_is_refused(part: str, how: str, bundle: Path) -> None:
    package = bundle / "attention-fp32.mlpackage"
    content = (package / part).read_bytes()
    if how == "missing":
        (package / part).unlink()
    else:
        (package / part).write_bytes(content[: len(content) // 2] if how == "cut" else b"\7" * len(content))
    with pytest.raises(ArtifactError, match="is not a readable Core ML package") as error:
        inspection.inspect(package)
    if "weight" in part:
        assert {"missing": "is missing", "cut": "is cut", "rubbish": "is damaged"}[how] in str(error.value)


def test_inspect_writes_nothing(bundle: Path) -> None:
    package = bundle / "attention-fp32.mlpackage"
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in package.rglob("*") if p.is_file()}
    inspection.inspect(package)
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in package.rglob("*") if p.is_file()}


def test_every_runtime_gives_back_what_was_asked(made_bundle: Path) -> None:
    for name, suffix, shape in (
        ("onnxruntime", ".onnx", (1, 32, 4, 16)),
        ("litert", ".tflite", (1, 4, 16, 32)),
        ("mil_reference", ".mlpackage", (1, 32, 4, 16)),
    ):
        with RUNTIMES.get(name).open(made_bundle / f"attention-fp32{suffix}") as session:
            assert session.signature.inputs == {"x": shape}
            assert session.signature.accepts({"x": np.zeros(shape, np.float32)})
            assert not session.signature.accepts({"x": np.zeros((2, *shape[1:]), np.float32)})
            assert not session.signature.accepts({"z": np.zeros(shape, np.float32)})
            assert session.run({"x": np.zeros(shape, np.float32)})["y"].shape == shape


def test_tflite_names_its_tensors_by_modules_alone(made_bundle: Path) -> None:
    graph = unpack((made_bundle / "attention-fp32.tflite").read_bytes()).subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    assert len(set(names)) == len(names)
    assert any("Linear_qkv_proj" in name for name in names)
    assert not any("." in name or "NamedSignature/" in name for name in names)
