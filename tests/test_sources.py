"""What can be exported: modules of any float type, wrapped modules, and how their inputs and outputs are named."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Answer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from edgeattn import deploy, lower
from edgeattn.errors import BadInputError
from edgeattn.export import source

Command = Callable[..., Answer]

MODELS = """
import warnings
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
    def forward(self, image, mask=None, *, bias=None):
        y = self.norm(self.conv(image))
        y = y if mask is None else y * mask
        return torch.relu(y if bias is None else y + bias)

IMAGE = torch.randn(1, 3, 16, 16)
BIAS = torch.randn(1, 8, 16, 16)
def plain(): return Net(), IMAGE
def bfloat16(): return Net().bfloat16(), IMAGE.bfloat16()
def by_keyword(): return Net(), {"bias": BIAS, "image": IMAGE}
def misspelled(): return Net(), {"image": IMAGE, "bais": BIAS}
def left_out(): return Net(), {"bias": BIAS}
def compiled(): return nn.Sequential(torch.compile(Net()), nn.ReLU()), IMAGE
def scripted(): return torch.jit.script(nn.ReLU()), IMAGE
def traced_part(): return nn.Sequential(nn.ReLU(), torch.jit.trace(nn.ReLU(), IMAGE)), IMAGE
def quantised():
    with warnings.catch_warnings(action="ignore"):
        net = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}), IMAGE
class Number(nn.Module):
    def forward(self, x): return {"y": x, "n": [3]}
def number(): return Number(), IMAGE
class Nothing(nn.Module):
    def forward(self, x): return None, []
def nothing(): return Nothing(), IMAGE
"""
X = torch.randn(1, 3, 4, 5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "m.py").write_text(MODELS)
    return tmp_path


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """Of this process alone: DistributedDataParallel needs one."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
    os.remove(tmp_path / "store")


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1).half()
        self.register_buffer("scale", torch.tensor(0.5, dtype=torch.float64))
        self.head = nn.Conv2d(2, 2, 1)
        self.embedding = nn.Embedding(4, 5)

    def forward(self, image: Tensor, ids: Tensor) -> Tensor:
        y: Tensor = self.head(self.conv(image.to(self.conv.weight.dtype)).float() * self.scale.float())
        return y + self.embedding(ids)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_is_exported_in_float32(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).to(dtype)
    made = source.from_module(net, X.to(dtype))
    kind = str(dtype).removeprefix("torch.")
    assert made.notes == (f"the model is in {kind}: it is exported in float32, and takes float32",)
    assert {t.dtype for t in (*made.inputs.values(), *made.outputs.values(), *made.module.parameters())} == {
        torch.float32
    }
    assert torch.equal(made.inputs["input"], X.to(dtype).float())
    assert next(net.parameters()).dtype == dtype, "the user's own module stays as it is"
    assert torch.equal(next(made.module.parameters()), next(net.parameters()).float())


def test_mixed_types_and_integers() -> None:
    ids = torch.tensor([[[[0, 1, 2, 3]]]])
    made = source.from_module(Mixed(), (torch.randn(1, 3, 4, 1), ids[0, 0]))
    assert made.notes == ("the model is partly in float16 and float64: it is exported in float32, and takes float32",)
    assert made.inputs["ids"].dtype == torch.int64
    assert made.module.scale.dtype == torch.float32
    inputs_alone = source.from_module(nn.Conv2d(3, 1, 1), X.double())
    assert inputs_alone.notes == (
        "the example inputs are in float64: the model is exported in float32, and takes float32",
    )
    assert source.from_module(nn.Conv2d(3, 1, 1), X).notes == ()


def test_what_comes_with_it_is_in_the_type_of_its_inputs() -> None:
    """Labelled and calibration inputs must be like the example, which is turned to float32 with them."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 4)).bfloat16()
    more, labels = torch.randn(6, 3, 4, 5), torch.tensor([0, 1, 2, 3, 0, 1])
    low = more.bfloat16()
    made = source.from_module(net, X.bfloat16(), evaluation=(low, labels), calibration=low, cases={"c": low[:1]})
    assert made.evaluation is not None
    assert made.calibration is not None
    assert made.evaluation.inputs.dtype == made.calibration.dtype == torch.float32
    with pytest.raises(BadInputError, match=r"torch.float32 each, but the model takes .* torch.bfloat16"):
        source.from_module(net, X.bfloat16(), evaluation=(more, labels))


def test_weights_from_a_file_keep_their_digits(folder: Path) -> None:
    """They are loaded into the model in float32, and not first rounded to its own type."""
    weights = {name: torch.rand_like(x) for name, x in source.load("m.py:plain").module.state_dict().items()
               if x.is_floating_point()}  # fmt: skip
    save_file(weights, folder / "w.safetensors")
    made = source.load("m.py:bfloat16", weights=folder / "w.safetensors")
    assert len(made.notes) == 1
    assert all(torch.equal(made.module.state_dict()[name], x) for name, x in weights.items())


class Casts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.conv(image.bfloat16())
        return result


def test_a_module_that_makes_another_type_itself_stays_as_it_is() -> None:
    with pytest.raises(
        BadInputError, match=r"the module in float32 fails on its example inputs \(image \[1, 3, 4, 5\]"
    ):
        source.from_module(Casts().bfloat16(), X)


def test_a_note_is_shown_and_in_the_document(folder: Path, edgeattn: Command) -> None:
    note = "the model is in bfloat16: it is exported in float32, and takes float32"
    answer = edgeattn("export", "m.py:bfloat16", "--format", "onnx", "--out", "b", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["notes"] == [note]
    assert answer.document["manifest"]["inputs"][0]["dtype"] == "float32"
    answer = edgeattn("export", "m.py:bfloat16", "--format", "onnx", "--out", "b", "--force")
    assert f"Note: {note}\n" in answer.out
    assert "Note: " not in edgeattn("export", "m.py:plain", "--format", "onnx", "--out", "c").out
    bundle = deploy(nn.Conv2d(3, 1, 1).half(), X.half(), out="d", formats="onnx")
    assert bundle.passed
    assert "float16" in bundle.notes[0]
    assert bundle.notes[0] in str(bundle)


def test_wrappers_inside_are_taken_off(process_group: None) -> None:
    conv = nn.Conv2d(3, 3, 1)
    parallel = nn.parallel.DistributedDataParallel(torch.compile(conv))
    model = nn.Sequential(torch.compile(nn.Sequential(parallel, nn.DataParallel(nn.ReLU()))), conv)
    made = source.from_module(model, X)
    assert [name for name, _ in made.module.named_modules()] == ["", "0", "0.0", "0.1"]
    assert made.module[0][0] is made.module[1], "a shared part stays shared"
    assert made.module[1] is not conv
    assert isinstance(model[0], torch._dynamo.OptimizedModule), "the user's own module stays as it is"
    assert torch.equal(made.outputs["y"], conv(torch.relu(conv(X))))


class CompiledForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    @torch.compile(fullgraph=True)
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + 1


def test_compiled_methods_are_run_as_they_were_written() -> None:
    """Without a compiler of C++, and on the copy's own weights."""
    in_place, assigned = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
    in_place.compile()
    assigned.forward = torch.compile(assigned.forward)
    for module in (in_place, assigned, CompiledForward()):
        made = source.from_module(module, X)
        with torch.no_grad():
            for parameter in made.module.parameters():
                parameter.zero_()
        assert not torch.equal(source.run(made.module, made.inputs)[0], made.outputs["y"])


class Named(nn.Module):
    """Says where each input arrived."""

    def forward(self, image: Tensor, mask: Tensor | None = None, *, bias: Tensor | None = None) -> Tensor:
        return image + (0 if mask is None else 10 * mask) + (0 if bias is None else 100 * bias)


class KeywordOnly(nn.Module):
    def forward(self, *, image: Tensor, mask: Tensor) -> Tensor:
        return image + 10 * mask


class Open(nn.Module):
    def forward(self, **inputs: Tensor) -> Tensor:
        return inputs["image"] + 10 * inputs["mask"]


ONE, TWO, THREE = (torch.full((1, 2), float(i)) for i in (1, 2, 3))


@pytest.mark.parametrize(
    ("module", "inputs", "names", "value"),
    [
        (Named(), {"mask": TWO, "image": ONE}, ["image", "mask"], 21),
        (Named(), {"bias": TWO, "image": ONE}, ["image", "bias"], 201),
        (Named(), {"bias": THREE, "mask": TWO, "image": ONE}, ["image", "mask", "bias"], 321),
        (Named(), (ONE, TWO), ["image", "mask"], 21),
        (Named(), {"a": ONE, "b": TWO}, ["a", "b"], 21),
        (KeywordOnly(), {"mask": TWO, "image": ONE}, ["image", "mask"], 21),
        (Open(), {"mask": TWO, "image": ONE}, ["mask", "image"], 21),
    ],
)
def test_inputs_arrive_where_their_names_say(module: nn.Module, inputs: Any, names: list[str], value: float) -> None:
    made = source.from_module(module, inputs, cases={"more": inputs})
    assert list(made.inputs) == names
    assert made.outputs["y"].tolist() == [[value, value]]
    assert source.run(made.module, made.inputs)[0].tolist() == [[value, value]]
    assert made.cases["more"].keys() == made.inputs.keys()
    wrapped = isinstance(module, KeywordOnly | Open) or "bias" in names
    assert [name for name, _ in made.module.named_children()] == (["model"] if wrapped else [])


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("misspelled", "the module takes the inputs image, mask, bias; there is no bais"),
        ("left_out", "the module takes the inputs image, mask, bias; image is missing"),
        ("scripted", "the model is TorchScript: give the nn.Module that it was scripted or traced from"),
        ("traced_part", "the model's part 1 is TorchScript: give the nn.Module"),
        ("quantised", "the model's part 1 is quantised already: give the float module"),
        ("number", "must return a tensor, or a tuple or dict of tensors, not int"),
        ("nothing", "must return a tensor, or a tuple or dict of tensors; it returns none"),
    ],
)
def test_what_is_refused(factory: str, said: str, folder: Path, edgeattn: Command) -> None:
    answer = edgeattn("export", f"m.py:{factory}", "--format", "onnx", "--out", "b")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("edgeattn: ")
    assert answer.err.count("\n") == 1
    assert said in answer.err
    assert {p.name for p in folder.iterdir()} == {"m.py"}


@pytest.mark.parametrize("factory", ["by_keyword", "compiled"])
def test_they_are_exported(factory: str, folder: Path, edgeattn: Command) -> None:
    answer = edgeattn("export", f"m.py:{factory}", "--format", "onnx", "--out", "b", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["passed"]
    names = [tensor["name"] for tensor in answer.document["manifest"]["artifacts"][0]["inputs"]]
    assert names == (["image", "bias"] if factory == "by_keyword" else ["input"])


def test_names_that_files_cannot_hold_are_changed_and_said() -> None:
    made = source.from_module(nn.ReLU(), {"input.1": X})
    assert list(made.inputs) == ["input_1"]
    assert made.notes == ("the input input.1 is named input_1 in the files",)
    pair = source.from_module(Named(), {"x.y": ONE, "x_y": TWO})
    assert list(pair.inputs) == ["x_y_1", "x_y"]
    assert pair.outputs["y"].tolist() == [[21, 21]]
    for name, safe in (("0", "x_0"), ("größe", "gr__e"), ("class", "x_class"), ("", "x_")):
        assert list(source.from_module(nn.ReLU(), {name: X}).inputs) == [safe]
    assert source.from_module(nn.ReLU(), {"image": X}).notes == ()


def test_an_output_does_not_take_the_name_of_an_input() -> None:
    assert list(source.from_module(nn.ReLU(), {"y": X}).outputs) == ["out"]
    assert list(source.from_module(Pair(), {"y_1": X}).outputs) == ["out_0", "out_1"]
    taken = source.from_module(Nested(), {"a": X})
    assert list(taken.outputs) == ["a_1", "more_0", "more_1_0"]
    assert taken.own_names == {"a_1": "a"}
    assert "the output a is named a_1 in the files" in taken.notes


class Pair(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x, x + 1


class Nested(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return {"a": x, "none": None, "more": [x + 1, (x + 2, None)]}


def test_nested_outputs_are_flat_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    made = source.from_module(Nested(), X)
    assert list(made.outputs) == ["a", "more_0", "more_1_0"]
    assert torch.equal(made.outputs["more_1_0"], X + 2)
    assert isinstance(made.module(X), tuple)
    bundle = deploy(Nested(), X, out=tmp_path / "b", formats="onnx")
    assert bundle.passed
    assert [tensor.name for tensor in bundle.artifact("onnx").outputs] == ["a", "more_0", "more_1_0"]


@pytest.mark.parametrize(
    "dress",
    [
        torch.nn.utils.weight_norm,
        torch.nn.utils.spectral_norm,
        partial(prune.l1_unstructured, name="weight", amount=0.5),
    ],
    ids=["weight_norm", "spectral_norm", "pruned"],
)
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_weights_that_a_hook_computes(dress: Callable[[nn.Module], nn.Module]) -> None:
    """They have a history, with which they cannot be copied."""
    torch.manual_seed(0)
    module = nn.Sequential(dress(nn.Conv2d(3, 4, 1)), nn.ReLU()).eval()
    made = source.from_module(module, X)
    with torch.no_grad():
        assert torch.equal(made.outputs["y"], module(X))
    lowering = lower(made.module, layout="channels_first", inputs=(X,))
    assert not any("not lowered" in change.reason for change in lowering.changes)
    assert torch.allclose(lowering.module(X), made.outputs["y"], rtol=0, atol=1e-6)
