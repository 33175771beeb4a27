"""mil_reference on whole models, on damaged packages and on what it does not know; Core ML's compute units."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Answer
from foreign import CvnetsBlock, TimmBlock
from mil_programs import Array, save
from test_export import replace_hash
from test_models import TransformersModel, lively
from torch import Tensor, nn

from edgeattn import LinearSelfAttention, lower
from edgeattn.bundle import manifest as bundles
from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.formats.mil.package import model_file, read_spec
from edgeattn.formats.mil.registry import OPS
from edgeattn.parity import check
from edgeattn.runtimes import coreml, mil_reference
from edgeattn.sample_models.mobilevitv2 import MobileViTv2
from edgeattn.system.output import quiet

DOCS = Path(__file__).parent.parent / "docs/coreml-without-a-mac.md"
PACKAGE = "attention-fp32.mlpackage"


def sqnr_db(expected: Array, found: Array) -> float:
    error = np.square(expected - found.astype(np.float64)).sum()
    return float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / error))


def convert(module: nn.Module, x: Tensor, path: Path, *, half: bool = False, traced: bool = False) -> Path:
    """A stock conversion by coremltools, none of ours."""
    with quiet():
        import coremltools as ct

        program = torch.jit.trace(module, x) if traced else torch.export.export(module, (x,)).run_decompositions({})
        model = ct.convert(
            program,
            convert_to="mlprogram",
            inputs=[ct.TensorType(name="x", shape=x.shape)],
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS18 if half else ct.target.iOS16,
        )
        model.save(str(path))
    return path


def run(path: Path, x: Tensor) -> Array:
    with mil_reference.opened(path) as session:
        (result,) = session.run({"x": x.numpy()}).values()
    return np.asarray(result)


def lowered(module: nn.Module, x: Tensor) -> nn.Module:
    return lower(module, layout="channels_first", inputs=(x,)).module


def small(block: Callable[[int, int], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 1), block(8, 12), nn.ReLU())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "transformers": (lambda: TransformersModel(0.5), (1, 3, 64, 64)),
    "ours": (lambda: MobileViTv2(0.5, 10), (1, 3, 64, 64)),
    "timm": (lambda: small(TimmBlock), (1, 3, 8, 8)),
    "timm, resized": (lambda: small(TimmBlock), (1, 3, 7, 7)),
    "CVNets": (lambda: small(CvnetsBlock), (1, 3, 8, 8)),
    "attention": (lambda: LinearSelfAttention(32), (1, 32, 4, 16)),
}
SINGLE = (*MODELS, "ours, lowered", "attention, lowered")
HALF = ("transformers", "timm, resized", "ours, lowered", "attention, lowered")


@pytest.mark.parametrize(("name", "half"), [*((n, False) for n in SINGLE), *((n, True) for n in HALF)])
def test_whole_models(name: str, half: bool, tmp_path: Path) -> None:
    make, shape = MODELS[name.removesuffix(", lowered")]
    module, x = lively(make()), torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module(x.double()).numpy()
    module = lowered(module, x.double()) if name.endswith(", lowered") else module
    found = run(convert(module.float(), x, tmp_path / "m.mlpackage", half=half), x)
    assert found.dtype == (np.float16 if half else np.float32)
    # Rounding alone gives some 70 dB an op in fp16 and 150 in fp32; 49 and 100 were seen after hundreds of ops.
    assert sqnr_db(expected, found) > (40 if half else 90)


def test_a_traced_module(tmp_path: Path) -> None:
    """Whole models cannot be traced (coremltools fails on their shapes with NumPy 2.4); a plain net can."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.SiLU(), nn.MaxPool2d(2),
                        nn.Upsample(scale_factor=2), nn.ConvTranspose2d(8, 4, 2, 2), nn.GELU())  # fmt: skip
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = lively(net).float()(x).numpy()
    assert sqnr_db(expected, run(convert(net, x, tmp_path / "m.mlpackage", traced=True), x)) > 100


def test_every_value_is_seen_and_only_the_outputs_are_kept(made_bundle: Path) -> None:
    seen: list[mil_reference.Observed] = []
    with mil_reference.opened(made_bundle / PACKAGE) as session:
        x = np.random.default_rng(0).standard_normal((1, 32, 4, 16)).astype(np.float32)
        outputs = session.run_observed({"x": x}, seen.append)
        again = session.run({"x": x})
        assert [(v.name, v.op) for v in seen] == [(n, s.op) for s in session.program.steps for n in s.outputs]
        freed = [name for step in session.program.steps for name in step.frees]
        assert len(freed) == len(set(freed))
        assert set(freed) == {"x", *(v.name for v in seen)} - {"y"}
    assert outputs.keys() == {"y"}
    np.testing.assert_array_equal(outputs["y"], again["y"])
    np.testing.assert_array_equal(outputs["y"], seen[-1].value)


def test_opening_and_running_write_nothing_and_keep_the_threads(bundle: Path) -> None:
    package, threads = bundle / PACKAGE, torch.get_num_threads()
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in package.rglob("*") if p.is_file()}
    with mil_reference.opened(package, threads=1) as session:
        session.run({"x": np.ones((1, 32, 4, 16), np.float32)})
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in package.rglob("*") if p.is_file()}
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("inputs", "sentence"), [
    ({"x": np.zeros((1, 32, 4, 15), np.float32)}, "the program takes"),
    ({"z": np.zeros((1, 32, 4, 16), np.float32)}, "the program takes"),
    ({"x": np.zeros((1, 32, 4, 16), np.complex64)}, "complex64, but the program takes fp32"),
])  # fmt: skip
def test_wrong_inputs(inputs: dict[str, Array], sentence: str, made_bundle: Path) -> None:
    with mil_reference.opened(made_bundle / PACKAGE) as session, pytest.raises(BadInputError, match=sentence):
        session.run(inputs)


def edit(package: Path, change: Callable[[Any], None]) -> Path:
    """Change the program of a package."""
    spec = read_spec(package)
    function = spec.mlProgram.functions["main"]
    change(function.block_specializations[function.opset])
    model_file(package).write_bytes(spec.SerializeToString())
    return package


def first(block: Any, kind: str) -> Any:
    return next(op for op in block.operations if op.type == kind)


def cut(weights: bytearray) -> None:
    del weights[len(weights) // 2 :]


def no_sentinel(weights: bytearray) -> None:
    weights[64:68] = bytes(4)


def another_size(weights: bytearray) -> None:
    struct.pack_into("<Q", weights, 72, 12)


@pytest.mark.parametrize(("change", "sentence"), [
    (cut, "is cut"), (no_sentinel, "is damaged"), (another_size, "has 12 bytes"), (bytearray.clear, "empty"),
])  # fmt: skip
def test_a_damaged_weight_file(change: Callable[[bytearray], None], sentence: str, bundle: Path) -> None:
    file = bundle / PACKAGE / "Data/com.apple.CoreML/weights/weight.bin"
    weights = bytearray(file.read_bytes())
    change(weights)
    file.write_bytes(weights)
    with (
        pytest.raises(ArtifactError, match=f"is not a readable Core ML package: .*{sentence}") as error,
        mil_reference.opened(bundle / PACKAGE),
    ):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["an input is missing", "an unknown name", "no value for an output"])
def test_a_damaged_program(how: str, bundle: Path) -> None:
    def change(block: Any) -> None:
        if how == "an input is missing":
            del first(block, "softmax").inputs["x"]
        elif how == "an unknown name":
            first(block, "softmax").inputs["x"].arguments[0].name = "nowhere"
        else:
            block.outputs[0] = "nowhere"

    sentences = {"an input is missing": "softmax has no x", "an unknown name": "uses nowhere",
                 "no value for an output": "its output nowhere"}  # fmt: skip
    with pytest.raises(ArtifactError, match=sentences[how]), mil_reference.opened(edit(bundle / PACKAGE, change)):
        pass


def test_another_shape_than_declared_is_seen(bundle: Path) -> None:
    def change(block: Any) -> None:
        first(block, "softmax").outputs[0].type.tensorType.dimensions[3].constant.size = 7

    with (
        mil_reference.opened(edit(bundle / PACKAGE, change)) as session,
        pytest.raises(ArtifactError, match="the program declares"),
    ):
        session.run({"x": np.zeros((1, 32, 4, 16), np.float32)})


def test_an_op_that_is_not_known_is_named(tmp_path: Path) -> None:
    def build(mb: Any, v: SimpleNamespace) -> Any:
        sampled = mb.random_normal(shape=[1, 2], seed=1)
        mb.crop_resize(x=v.x, boxes=np.zeros((1, 4), np.float32))
        return mb.add(x=sampled, y=np.float32(1))

    path = save(tmp_path / "m.mlpackage", {"x": np.zeros((1, 2, 3, 4), np.float32)}, build)
    with pytest.raises(MissingError, match="crop_resize, random_normal") as error, mil_reference.opened(path):
        pass
    assert error.value.exit_code == 3


def test_a_parameter_that_is_not_known_is_named(bundle: Path) -> None:
    def change(block: Any) -> None:
        softmax = first(block, "softmax")
        softmax.inputs["temperature"].CopyFrom(softmax.inputs["axis"])

    package = edit(bundle / PACKAGE, change)
    with pytest.raises(MissingError, match="softmax with temperature"), mil_reference.opened(package):
        pass


def test_parity_lists_an_unknown_op_as_not_run(edgeattn: Callable[..., Answer], bundle: Path) -> None:
    def change(block: Any) -> None:
        first(block, "softmax").type = "softmax_of_tomorrow"

    edit(bundle / PACKAGE, change)
    replace_hash(bundle, PACKAGE)
    answer = edgeattn("parity", bundle, "--json")
    # The other artifacts are the same model; of this one it is not shown, which is no yes.
    assert answer.code == 1
    assert all(r["passed"] for r in answer.document["rows"])
    assert [n["candidate"] for n in answer.document["not_shown"]] == [PACKAGE]
    reasons = {n["runtime"]: n["reason"] for n in answer.document["not_run"] if n["candidate"] == PACKAGE}
    assert "softmax_of_tomorrow" in reasons["mil_reference"]
    # Alone, this one is an answer that nothing could be checked.
    document = json.loads((bundle / "manifest.json").read_text())
    document["artifacts"] = [a for a in document["artifacts"] if a["format"] == "coreml"]
    (bundle / "manifest.json").write_text(json.dumps(document))
    assert edgeattn("parity", bundle).code == 3


def test_parity_sees_a_wrong_weight(edgeattn: Callable[..., Answer], bundle: Path) -> None:
    file = bundle / PACKAGE / "Data/com.apple.CoreML/weights/weight.bin"
    weights = bytearray(file.read_bytes())
    _, _, size, offset = struct.unpack_from("<IIQQ", weights, 64)
    values = np.frombuffer(weights, np.float32, size // 4, offset)
    values *= np.float32(1.01)
    file.write_bytes(weights)
    replace_hash(bundle, PACKAGE)
    answer = edgeattn("parity", bundle, "--json")
    assert answer.code == 1
    assert {r["runtime"] for r in answer.document["rows"] if not r["passed"]} == {"mil_reference"}


def test_what_is_not_covered_is_what_the_docs_say() -> None:
    with quiet():
        from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
    # const is no op but a value; _const_symbolic is never written to a file.
    missing = set(SSAOpRegistry.core_ops) - set(OPS) - {"const", "_const_symbolic"}
    stated = re.search(r"Not covered: (.*?)\.\n", DOCS.read_text(), re.DOTALL)
    assert stated
    assert sorted(re.findall(r"`(\w+)`", stated[1])) == sorted(missing)
    assert set(OPS) <= set(SSAOpRegistry.core_ops)


class StandIn:
    """In the place of coremltools' MLModel: predicts with mil_reference, and may be wrong on one compute unit."""

    wrong_on = ""
    units: list[str] = []  # noqa: RUF012 - one list for all instances: what was asked for

    def __init__(self, path: str, compute_units: Any) -> None:
        self.path, self.unit = Path(path), compute_units.name
        self.units.append(self.unit)

    def get_spec(self) -> Any:
        spec = read_spec(self.path)
        (self.path / "Manifest.json").write_text("{}")  # as coremltools does, in its own way
        return spec

    def predict(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {name: value * np.float32(1.01 if self.unit == self.wrong_on else 1) for name, value in self.of(inputs)}

    def of(self, inputs: dict[str, Array]) -> Any:
        with mil_reference.opened(StandIn.original) as session:
            return session.run(inputs).items()

    original = Path()


@pytest.mark.parametrize("wrong_on", ["", "CPU_AND_NE"])
def test_core_ml_runs_once_for_each_compute_unit(
    wrong_on: str, made_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with quiet():
        import coremltools as ct

    monkeypatch.setattr(coreml.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(ct.models, "MLModel", StandIn)
    monkeypatch.setattr(StandIn, "wrong_on", wrong_on)
    monkeypatch.setattr(StandIn, "original", made_bundle / PACKAGE)
    monkeypatch.setattr(StandIn, "units", [])
    report = check.verify(bundles.load(made_bundle))
    assert StandIn.units == list(coreml.UNITS.values())
    rows = {r.runtime: r.passed for r in report.rows if r.candidate == PACKAGE}
    units = ("coreml, CPU only", "coreml, CPU and GPU", "coreml, CPU and Neural Engine", "coreml, all")
    assert rows == {
        "mil_reference": True,
        **{unit: unit != "coreml, CPU and Neural Engine" or not wrong_on for unit in units},
    }
    assert not [n for n in report.not_run if n.candidate == PACKAGE]
    assert set(units) <= report.runtimes.keys()
    bundles.load(made_bundle)  # its hashes still hold
