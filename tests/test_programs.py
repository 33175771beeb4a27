"""Programs of torch.export as the model: from memory, from a factory, and from a .pt2 file."""

import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Answer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from edgeattn import deploy
from edgeattn.errors import BadInputError
from edgeattn.export import source

Command = Callable[..., Answer]

IMAGE, MASK = torch.randn(1, 3, 8, 8), torch.rand(1, 1, 8, 8)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))

    def forward(self, image: Tensor, *, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        y: Tensor = self.body(image) * mask
        return y if bias is None else y + bias


@pytest.fixture(scope="module")
def net() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def program(net: Net) -> ExportedProgram:
    return torch.export.export(net, (IMAGE,), {"mask": MASK, "bias": None})


@pytest.fixture
def file(program: ExportedProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.export.save(program, tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def test_a_program_is_a_module_like_any_other(net: Net, program: ExportedProgram) -> None:
    made = source.from_module(program)
    assert made.name == "Net"
    assert list(made.inputs) == ["image", "mask"]
    assert torch.equal(made.inputs["image"], IMAGE)
    assert torch.allclose(made.outputs["y"], net(IMAGE, mask=MASK))
    assert not any(part.training for part in made.module.modules())
    # What is computed from it in float64 meets no check of types.
    double = {name: x.double() for name, x in made.inputs.items()}
    assert source.run(made.module.double().eval(), double)[0].dtype == torch.float64
    others = source.from_module(program, {"mask": MASK + 1, "image": IMAGE})
    assert torch.allclose(others.outputs["y"], net(IMAGE, mask=MASK + 1))
    assert source.from_module(program, (IMAGE, MASK)).inputs.keys() == made.inputs.keys()
    assert source.from_module(program.module(), (IMAGE, MASK)).inputs.keys() == made.inputs.keys()


def test_torchs_own_warnings_are_kept_from_the_user(program: ExportedProgram) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        source.from_module(program)
    assert [str(warning.message) for warning in shown] == []


def test_a_program_can_be_a_part(net: Net) -> None:
    part = torch.export.export(net.body, (IMAGE,)).module()
    made = source.from_module(nn.Sequential(part, nn.ReLU()), IMAGE)
    assert torch.allclose(made.outputs["y"], torch.relu(net.body(IMAGE)))


class Typed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        scores = self.conv(image.to(self.conv.weight.dtype)).softmax(1, dtype=torch.float32).type_as(image)
        return self.conv(image) * scores + torch.ones(4, 1, 1, dtype=image.dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_types_that_a_program_took_from_its_weights_are_no_constants(dtype: torch.dtype) -> None:
    module = Typed().to(dtype).eval()
    made = source.from_module(torch.export.export(module, (IMAGE.to(dtype),)))
    assert torch.allclose(made.outputs["y"], module.float()(IMAGE.to(dtype).float()), atol=1e-6)
    assert made.outputs["y"].dtype == torch.float32


def test_a_program_in_another_type_is_exported_in_float32() -> None:
    low = torch.export.export(nn.Conv2d(3, 4, 1).bfloat16(), (IMAGE.bfloat16(),))
    made = source.from_module(low)
    assert made.notes == ("the model is in bfloat16: it is exported in float32, and takes float32",)
    assert made.outputs["y"].dtype == torch.float32


def test_a_program_is_deployed(program: ExportedProgram, tmp_path: Path) -> None:
    bundle = deploy(program, out=tmp_path / "b", formats="onnx")
    assert bundle.passed
    assert [tensor.name for tensor in bundle.artifact("onnx").inputs] == ["image", "mask"]
    with pytest.raises(BadInputError, match="ReLU is a module without example inputs"):
        deploy(nn.ReLU(), out=tmp_path / "c")


def test_a_file_is_exported(file: Path, edgeattn: Command) -> None:
    answer = edgeattn("export", "net.pt2", "--format", "onnx", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["bundle"] == "net-bundle"
    assert answer.document["manifest"]["model"] == "net"
    assert (file.parent / "net-bundle" / "net-fp32.onnx").is_file()


def test_a_factory_may_return_one(net: Net, file: Path, edgeattn: Command) -> None:
    (file.parent / "m.py").write_text(
        "import torch\ndef alone(): return torch.export.load('net.pt2')\n"
        "def pair(): return alone(), {'mask': torch.zeros(1, 1, 8, 8), 'image': torch.ones(1, 3, 8, 8)}\n"
    )
    alone, pair = source.load("m.py:alone"), source.load("m.py:pair")
    assert torch.allclose(alone.outputs["y"], net(IMAGE, mask=MASK))
    assert not pair.outputs["y"].any()


def trained(module: nn.Module) -> ExportedProgram:
    return torch.export.export(module.train(), (IMAGE,))


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("module", [nn.Dropout(0.5), nn.BatchNorm2d(3)])
def test_a_program_in_training_mode_is_refused(module: nn.Module, decomposed: bool) -> None:
    made = trained(module)
    if decomposed:
        made = made.run_decompositions()
    with pytest.raises(BadInputError, match=r"exported in training mode .*: call model\.eval\(\) before"):
        source.from_module(made)


@pytest.mark.parametrize("module", [nn.Dropout(0.0), nn.BatchNorm2d(3, track_running_stats=False), nn.GroupNorm(1, 3)])
def test_what_is_the_same_in_training_mode_is_not(module: nn.Module) -> None:
    assert torch.allclose(source.from_module(trained(module)).outputs["y"], module.eval()(IMAGE), atol=1e-6)


class Times(nn.Module):
    def forward(self, x: Tensor, number: int) -> Tensor:
        return x * number


class Listed(nn.Module):
    def forward(self, images: list[Tensor]) -> Tensor:
        return images[0] + images[1]


def test_other_sizes_are_refused_where_the_program_has_fixed_them(net: Net) -> None:
    body = nn.Sequential(net.body)
    fixed = torch.export.export(body, (IMAGE,))
    with pytest.raises(BadInputError, match=r"exported for input \[1, 3, 8, 8\], not \[1, 3, 16, 16\]"):
        source.from_module(fixed, torch.randn(1, 3, 16, 16))
    free = torch.export.export(body, (IMAGE,), dynamic_shapes={"input": {2: Dim("h"), 3: Dim("w")}})
    assert source.from_module(free, torch.randn(1, 3, 16, 12)).outputs["y"].shape == (1, 4, 16, 12)
    with pytest.raises(BadInputError, match=r"exported for input \[1, 3, 'any', 'any'\], not \[2, 3, 8, 8\]"):
        source.from_module(free, torch.randn(2, 3, 8, 8))
    with pytest.raises(BadInputError, match="takes a dict or a list of inputs"):
        source.from_module(torch.export.export(Listed(), ([MASK, MASK],)))
    times = torch.export.export(Times(), (IMAGE, 3), dynamic_shapes={"x": None, "number": Dim.DYNAMIC})
    with pytest.raises(BadInputError, match="takes number, a number that may change: export it with a fixed one"):
        source.from_module(times)
    assert list(source.from_module(torch.export.export(Times(), (IMAGE, 3))).inputs) == ["x"]


def test_without_its_examples_it_gets_random_ones(net: Net, program: ExportedProgram) -> None:
    free = torch.export.export(nn.Sequential(net.body), (IMAGE,), dynamic_shapes={"input": {2: Dim("h"), 3: Dim("w")}})
    for made in (free, torch.export.export(net, (IMAGE,), {"mask": MASK})):
        made.example_inputs = None
        assert source.from_module(made).inputs["input" if made is free else "image"].shape == IMAGE.shape
    ids = torch.export.export(nn.Embedding(4, 2), (torch.tensor([3]),))
    assert source.from_module(ids).inputs["input"].tolist() == [3]
    ids.example_inputs = None
    with pytest.raises(BadInputError, match=r"holds no example inputs, and input is torch\.int64: save it with them"):
        source.from_module(ids)


class Attack:
    """Pickled code that leaves a mark."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pwned",)


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, change(name, value))


def test_reading_a_file_may_run_its_code(file: Path) -> None:
    """As the docs say: torch reads example inputs with pickle. Once it does not, they may say something better."""
    buffer = file.parent / "x"
    torch.save(Attack(), buffer)
    payload = buffer.read_bytes()
    rewritten(file, lambda name, value: payload if "sample_inputs" in name else value)
    with pytest.raises(BadInputError):
        source.load("net.pt2")
    assert (file.parent / "pwned").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch.pt2"], "there is no file nosuch.pt2"),
        (["text.pt2"], "text.pt2 cannot be read as a program of torch.export.save: BadZipFile"),
        (["weights.pt2"], "weights.pt2 cannot be read as a program of torch.export.save: RuntimeError"),
        (["cut.pt2"], "cut.pt2 cannot be read as a program of torch.export.save"),
        (["net.pt2", "--arg", "width=2"], "net has no argument 'width'; it takes: none"),
        (["net.pt2", "--image-size", "16"], "the program was exported for image [1, 3, 8, 8], not [1, 3, 16, 16]"),
        (["net.pt2", "--input-shape", "1,3,8,8"], "missing 1 required positional argument: 'mask'"),
    ],
)
def test_files_are_refused(arguments: list[str], said: str, file: Path, edgeattn: Command) -> None:
    (file.parent / "text.pt2").write_text("no program")
    (file.parent / "cut.pt2").write_bytes(file.read_bytes()[:2000])
    torch.save({"w": torch.zeros(1)}, file.parent / "weights.pt2")
    before = {p.name for p in file.parent.iterdir()}
    answer = edgeattn("export", *arguments, "--format", "onnx")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("edgeattn: ")
    assert answer.err.count("\n") == 1
    assert said in answer.err
    assert {p.name for p in file.parent.iterdir()} == before
