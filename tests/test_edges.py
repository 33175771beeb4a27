"""The edges of a model: outputs of every kind, names, types and shapes; what one format cannot take costs it alone."""

import keyword
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeattn import deploy
from edgeattn.bundle import manifest
from edgeattn.bundle.manifest import Tensor as Described
from edgeattn.bundle.tensors import exactly, from_edge, to_edge
from edgeattn.errors import BadInputError, ConversionError, RefusedError
from edgeattn.export import source
from edgeattn.export.source import names
from edgeattn.parity.check import verify
from edgeattn.runtimes import Session, litert

X = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)


class Returns(nn.Module):
    """A convolution, and what ``make`` gives of its result, its input and itself."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.make = nn.Conv2d(3, 4, 3, padding=1), make
        self.register_buffer("table", torch.arange(6.0).reshape(2, 3))

    def forward(self, image: Tensor) -> Any:
        return self.make(self.conv(image), image, self)


class Pair(NamedTuple):
    logits: Tensor
    hidden: Tensor


@dataclass
class Answer:
    logits: Tensor
    aux: Tensor | None


# What is given back, and the names of the outputs in all files.
OUTPUTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "thrice": (lambda y, x, m: (y, y, nn.functional.dropout(y, 0.5, False)), ("y_0", "y_1", "y_2")),
    "an input": (lambda y, x, m: (x, y, x), ("y_0", "y_1", "y_2")),
    "only an input": (lambda y, x, m: x, ("y",)),
    "a constant": (lambda y, x, m: (y, m.table, m.conv.weight), ("y_0", "y_1", "y_2")),
    "a view": (lambda y, x, m: (y, y.flatten(1), y.permute(0, 2, 3, 1)), ("y_0", "y_1", "y_2")),
    "a number and nothing": (lambda y, x, m: {"mean": y.mean(), "none": None, "empty": y[:, :0]}, ("mean", "empty")),
    "keys": (
        lambda y, x, m: {"image": y, "a/b": [y + 1, (y - 1,)], "class": y * 2},
        ("image_1", "a_b_0", "a_b_1_0", "x_class"),
    ),
    "clashes": (
        lambda y, x, m: {"conv.weight": y, "conv_weight": y + 1, "conv2d": y - 1},
        ("conv_weight_1", "conv_weight", "conv2d"),
    ),
    "a named tuple": (lambda y, x, m: Pair(y, y + 1), ("logits", "hidden")),
    "a dataclass": (lambda y, x, m: (Answer(y, None), [y + 1]), ("logits", "y_1_0")),
    "lists": (lambda y, x, m: (y, None, [y + 1, (y - 1, None, y * 2)]), ("y_0", "y_1_0", "y_1_1_0", "y_1_1_1")),
    "integers": (lambda y, x, m: (y.argmax(1), y > 0, (y.sigmoid() * 255).to(torch.uint8)), ("y_0", "y_1", "y_2")),
    "other floats": (lambda y, x, m: (y.double(), y), ("y_0", "y_1")),
}  # fmt: skip


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_output_is_in_every_file_by_its_name(kind: str, tmp_path: Path) -> None:
    make, expected = OUTPUTS[kind]
    bundle = deploy(Returns(make), X, out=tmp_path / "b")
    assert bundle.refused == {}
    assert bundle.parity_at_export.passed, [row for row in bundle.parity_at_export.rows() if not row["passed"]]
    assert tuple(output.name for output in bundle.data.manifest.outputs) == expected
    for artifact in bundle.data.manifest.artifacts:
        assert tuple(output.name for output in artifact.outputs) == expected, artifact.format


def test_outputs_in_lower_precisions_keep_their_names(tmp_path: Path) -> None:
    make, expected = OUTPUTS["thrice"]
    bundle = deploy(Returns(make), X, out=tmp_path / "b", precisions=("fp16", "int8"))
    assert bundle.refused.keys() <= {"tflite int8"}  # LiteRT does not run what the quantiser writes of it
    assert len(bundle.data.manifest.artifacts) >= 5
    for artifact in bundle.data.manifest.artifacts:
        assert sorted(output.name for output in artifact.outputs) == sorted(expected), artifact.file.path


def test_a_file_that_lacks_an_output_fails(tmp_path: Path) -> None:
    bundle = deploy(Returns(OUTPUTS["a view"][0]), X, out=tmp_path / "b", formats="onnx")
    (artifact,) = bundle.data.manifest.artifacts
    damaged = replace(artifact, outputs=artifact.outputs[1:])
    report = verify(replace(bundle.data, manifest=replace(bundle.data.manifest, artifacts=(damaged,))))
    assert not report.passed
    (row,) = [row for row in report.rows if not row.passed]
    assert (row.output, row.reason) == ("y_0", "the file has no such output")


@contextmanager
def refusing(path: Path, threads: int = 1, variant: str = "") -> Iterator[Session]:
    raise RefusedError(f"LiteRT refuses {path}: no kernel")
    yield


def test_what_a_runtime_refuses_costs_its_format_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert.RUNTIME, "open", refusing)
    module = Returns(lambda y, x, m: y)
    bundle = deploy(module, X, out=tmp_path / "b", name="net")
    assert bundle.refused == {
        "tflite": "litert does not run what was written: LiteRT refuses net-fp32.tflite: no kernel"
    }
    assert [artifact.format for artifact in bundle.artifacts] == ["coreai", "coreml", "executorch", "onnx"]
    assert not bundle.passed
    assert not list((tmp_path / "b").glob("*.tflite"))
    with pytest.raises(ConversionError, match=r"LiteRT refuses net-fp32\.tflite: no kernel$"):
        deploy(module, X, out=tmp_path / "c", name="net", formats=("onnx", "tflite"))
    assert not (tmp_path / "c").exists()


def test_in_parity_it_fails_its_own_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = deploy(Returns(lambda y, x, m: y), X, out=tmp_path / "b", formats=("onnx", "tflite"))
    monkeypatch.setattr(litert.RUNTIME, "open", refusing)
    report = verify(manifest.load(tmp_path / "b"))
    failed = [row for row in report.rows if not row.passed]
    assert [(row.candidate.rpartition(".")[2], "no kernel" in row.reason) for row in failed] == [("tflite", True)]
    assert {row.candidate for row in report.rows if row.runtime == "onnxruntime"} == {
        artifact.file.path for artifact in bundle.data.manifest.artifacts if artifact.format == "onnx"
    }


class Typed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.conv = nn.Embedding(10, 4), nn.Conv2d(3, 4, 1)

    def forward(self, image: Tensor, ids: Tensor, mask: Tensor, factor: Tensor) -> Tensor:
        y: Tensor = self.conv(image.float()) * mask + self.embedding(ids.long())[0, 0][:, None, None]
        return y * factor


TYPES = [
    (torch.uint8, torch.int64, torch.bool, torch.tensor(0.5)),
    (torch.int8, torch.int32, torch.int64, torch.tensor(3)),
    (torch.int16, torch.int16, torch.float32, torch.tensor([0.5])),
    (torch.uint16, torch.uint32, torch.float16, torch.tensor(2.5)),
]


@pytest.mark.parametrize("types", TYPES)
def test_inputs_of_any_type_and_numbers_without_dimensions(types: tuple[Any, ...], tmp_path: Path) -> None:
    image, ids, mask, factor = types
    inputs = {
        "image": (X * 100).abs().to(image),
        "ids": torch.tensor([[1, 9, 4]]).to(ids),
        "mask": (X[:, :1] > 0).to(mask),
        "factor": factor,
    }
    bundle = deploy(Typed(), inputs, out=tmp_path / "b")
    assert bundle.refused == {}
    assert bundle.passed, [row for row in bundle.parity_at_export.rows() if not row["passed"]]
    described = {tensor.name: tensor.dtype for tensor in bundle.data.manifest.inputs}
    assert described["image"] == str(image).removeprefix("torch.")
    assert {t.name: t.dtype for t in bundle.artifact("coreml").inputs}["ids"] == "int32"


class Indexed(nn.Module):
    def forward(self, image: Tensor, offset: Tensor) -> Tensor:
        return image.argmax(1) + offset


def test_integers_that_a_file_cannot_hold_are_refused_by_that_format(tmp_path: Path) -> None:
    big = torch.full((1, 4, 4), 2**40)
    bundle = deploy(Indexed(), (X, big), out=tmp_path / "b")
    said = "offset is int32 in the file and int64 in the model, with the value 1099511627776"
    assert bundle.refused == {"coreai": said, "coreml": said, "tflite": said}
    assert bundle.parity_at_export.passed
    # Of a case alone: it is not run where it does not fit.
    small = deploy(Indexed(), (X, big // 2**39), out=tmp_path / "c", cases={"big": (X, -big)}, formats="coreml")
    assert small.data.manifest.artifacts[0].beyond == {"big": said.replace("1099", "-1099")}
    assert small.parity_at_export.passed


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1), st.sampled_from(["int8", "int32", "uint8", "bool"]))
def test_a_narrower_integer_is_the_same_value_or_it_stays(values: list[int], kind: str) -> None:
    wide, narrow = np.array(values), np.dtype(kind)
    result = exactly(wide, narrow)
    limits = (0, 1) if kind == "bool" else (np.iinfo(narrow).min, np.iinfo(narrow).max)
    if all(limits[0] <= value <= limits[1] for value in values):
        assert result.dtype == narrow
    else:
        assert result.dtype == wide.dtype
    assert np.array_equal(result.astype(wide.dtype), wide)


def test_values_decide_and_not_the_width_of_their_type() -> None:
    wide, steps = np.dtype("int64"), Described("y", (2,), "int32")
    assert from_edge(np.array([1, 2], np.int32), steps, wide).dtype == wide
    # Core ML has booleans as numbers: 0.5 is none.
    yes = Described("y", (2,), "float32")
    assert from_edge(np.array([0, 1], np.float32), yes, np.dtype(bool)).tolist() == [False, True]
    assert from_edge(np.array([0, 0.5], np.float32), yes, np.dtype(bool)).dtype == np.float32
    assert from_edge(np.array([0, np.nan], np.float32), yes, wide).dtype == np.float32
    # Of another type than the file declares: nothing is done with it.
    assert from_edge(np.array([1, 2], np.int16), steps, wide).dtype == np.int16
    assert to_edge(np.array(3), Described("x", (1,), "int32")).shape == (1,)


@given(st.lists(st.text(max_size=8), unique=True, max_size=6), st.sets(st.sampled_from(["a", "y", "x_", "_"])))
def test_every_name_becomes_one_that_files_can_hold(given_names: list[str], taken: set[str]) -> None:
    safe = names.safe(given_names, taken)
    assert len(set(safe)) == len(safe) == len(given_names)
    assert not set(safe) & taken
    for old, new in zip(given_names, safe, strict=True):
        assert new.isidentifier()
        assert new.isascii()
        assert not keyword.iskeyword(new)
        usable = old.isidentifier() and old.isascii() and not keyword.iskeyword(old) and old != "self"
        assert (new == old) == (usable and old not in taken)


class Own(nn.Module):
    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return {"größe": inputs["input.1"] + 1}


def test_the_models_own_names_are_in_the_manifest(tmp_path: Path) -> None:
    bundle = deploy(Own(), {"input.1": X}, out=tmp_path / "b", formats="onnx")
    (taken,), (result,) = bundle.data.manifest.inputs, bundle.data.manifest.outputs
    assert (taken.name, taken.own_name) == ("input_1", "input.1")
    assert (result.name, result.own_name) == ("gr__e", "größe")
    assert manifest.load(tmp_path / "b").manifest.outputs == bundle.data.manifest.outputs


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda: X.to("meta"), "is on the meta device"),
        (lambda: X.to(torch.complex64), "is complex: give its real and imaginary part"),
        (lambda: X.to_sparse(), "is sparse: give it as a dense tensor"),
        (lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8), "is quantised already"),
        (lambda: X * torch.nan, "has NaN values"),
        (lambda: X[:0], r"is empty: its shape is \[0, 3, 4, 4\]"),
    ],
)
def test_tensors_that_no_file_can_stand_for(value: Any, said: str) -> None:
    with pytest.raises(BadInputError, match=rf"^the example input 0 of ReLU {said}"):
        source.from_module(nn.ReLU(), value())


def test_modules_with_such_tensors() -> None:
    with pytest.raises(BadInputError, match=r"^table is on the meta device"):
        source.from_module(Returns(lambda y, x, m: y).to("meta"), X)
    with pytest.raises(BadInputError, match=r"^output 1 of the module is complex"):
        source.from_module(Returns(lambda y, x, m: (y, torch.complex(y, y))), X)


def test_other_float_types_of_outputs_are_said() -> None:
    made = source.from_module(Returns(lambda y, x, m: {"low": y.bfloat16(), "plain": y}), X)
    assert made.notes == ("the output low is in bfloat16: it is float32 in the files",)
    assert {y.dtype for y in made.outputs.values()} == {torch.float32}
    assert torch.equal(made.module(X)[0], made.outputs["low"])


@pytest.mark.parametrize(
    "example", [X.to(memory_format=torch.channels_last), X.transpose(2, 3), X[:, :1].expand(1, 3, 4, 4)]
)
def test_examples_in_any_order_in_memory(example: Tensor, tmp_path: Path) -> None:
    module = Returns(lambda y, x, m: y).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    bundle = deploy(module, example, out=tmp_path / "b", formats=("onnx", "coreml"))
    assert bundle.passed


def test_a_free_batch_of_more_than_one_sample(tmp_path: Path) -> None:
    bundle = deploy(
        Returns(lambda y, x, m: y), X.repeat(4, 1, 1, 1), out=tmp_path / "b", formats="onnx", dynamic_batch=True
    )
    assert bundle.passed
    assert any(row["case"].endswith(", one by one") for row in bundle.parity_at_export.rows())


class Optional(nn.Module):
    def forward(self, image: Tensor, mask: Tensor | None = None, *, bias: Tensor | None = None) -> dict[str, Tensor]:
        image = image if mask is None else image * mask
        return {"sum": image if bias is None else image + bias}


@pytest.mark.parametrize(
    "inputs",
    [
        {"bias": X + 1, "image": X},
        {"bias": X + 1, "mask": None, "image": X},
        (X, None),
        (X, X + 1),
        (X, None, X + 1),
    ],
)
def test_optional_inputs_with_gaps(inputs: Any) -> None:
    if isinstance(inputs, tuple) and len(inputs) == 3:  # bias is no third one
        with pytest.raises(BadInputError):
            source.from_module(Optional(), inputs)
        return
    made = source.from_module(Optional(), inputs)
    expected = Optional()(**inputs) if isinstance(inputs, dict) else Optional()(*inputs)
    assert torch.equal(made.outputs["sum"], expected["sum"])
    assert torch.equal(source.run(made.module, made.inputs)[0], expected["sum"])
    assert all(isinstance(x, Tensor) for x in made.inputs.values())


class Scaled(nn.Module):
    def forward(self, image: Tensor, scale: Tensor) -> Tensor:
        return image * scale


def test_a_batch_that_a_model_does_not_have_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "b"
    with pytest.raises(BadInputError, match=r"twice the samples in every input \(image \[2, 3, 4, 4\], scale \[2\]\)"):
        deploy(Scaled(), (X, torch.tensor([0.5])), out=out, formats="onnx", dynamic_batch=True)
    for make in (lambda y, x, m: y.mean(), lambda y, x, m: (y, m.table)):
        with pytest.raises(BadInputError, match=r"the output y(_1)? has no batch"):
            deploy(Returns(make), X, out=out, formats="onnx", dynamic_batch=True)
    assert not out.exists()
