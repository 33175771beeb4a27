"""ExecuTorch: its files, made, read, run and damaged by its own package."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Answer
from torch import Tensor, nn

from edgeattn.bundle import manifest
from edgeattn.bundle.golden import golden_cases
from edgeattn.errors import ArtifactError, ConversionError, EdgeAttnError
from edgeattn.export import pipeline, quantize, single, source
from edgeattn.export.quantize import QUANTIZERS
from edgeattn.formats import FORMATS, Job, _pte
from edgeattn.formats.graph import count, in_category
from edgeattn.lowering import in_layout, lower
from edgeattn.parity.mutation import EDITORS
from edgeattn.precision import FP16, FP32, INT8, INT8_DYNAMIC
from edgeattn.runtimes import RUNTIMES

Command = Callable[..., Answer]
FORMAT, RUNTIME = FORMATS.get("executorch"), RUNTIMES.get("executorch")
MODELS = {
    "attention": ("attention", ["embed_dim=32", "pixels=4", "patches=16"]),
    "mobilevitv2": ("mobilevitv2", ["width=0.5", "image_size=64"]),
    "digits": ("digits", []),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A bundle of a model, exported once; digits in all precisions."""
    made: dict[str, Path] = {}

    def bundle(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("pte") / name
            precisions = (FP32, FP16, INT8, INT8_DYNAMIC) if name == "digits" else (FP32,)
            options = pipeline.Options(formats=("executorch",), precisions=tuple(p.name for p in precisions))
            assert pipeline.export(source.load(*MODELS[name]), options, made[name]).report.passed
        return made[name]

    return bundle


def artifact(folder: Path) -> Path:
    return next(folder.glob("*-fp32.pte"))


@pytest.mark.parametrize("name", MODELS)
def test_one_delegate_takes_all_of_it(name: str, bundles: Callable[[str], Path], edgeattn: Command) -> None:
    path = artifact(bundles(name))
    answer = edgeattn("inspect", path, "--max-partitions", 1, "--max-fallback", "executorch=0", "--json")
    assert answer.code == 0, answer.err
    document = answer.document
    assert document["layout_ops"] == {}
    assert document["details"]["delegates"] == [_pte.XNNPACK]
    (share,) = document["backends"]
    assert (share["left"], share["partitions"]) == ([], 1)
    assert share["taken"] == sum(document["operators"].values()) > 10


def test_every_damaged_copy_is_caught(bundles: Callable[[str], Path], edgeattn: Command) -> None:
    answer = edgeattn("parity", bundles("attention"), "--self-test", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["kill_rates"] == {"executorch": 1.0}
    assert {trial["runtime"] for trial in answer.document["trials"]} == {"executorch"}
    kinds = {trial["mutation"] for trial in answer.document["trials"]}
    assert {"softmax over another axis", "relu dropped", "weight rounded to fp16", "stale weight"} <= kinds


@pytest.mark.parametrize("name", ["attention", "mobilevitv2"])
def test_the_layers_inside(name: str, bundles: Callable[[str], Path], edgeattn: Command) -> None:
    answer = edgeattn("parity", bundles(name), "--layers", "--json")
    assert answer.code == 0, answer.err
    [depth] = answer.document["layers"]["depths"]
    assert depth["runtime"] == "executorch"
    assert len(depth["rows"]) > (300 if name == "mobilevitv2" else 10)


def test_the_reference_form_is_worse(tmp_path: Path) -> None:
    """What the lowering is for: the same module as it is has transposes, and more than one delegate."""
    loaded = source.load(*MODELS["mobilevitv2"])
    stock, ours = tmp_path / "stock.pte", tmp_path / "ours.pte"
    single.convert(loaded.module, loaded.inputs, "executorch", stock, lowered=False)
    single.convert(loaded.module, loaded.inputs, "executorch", ours, lowered=True)
    shares = {path.stem: RUNTIME.share(path, "") for path in (stock, ours)}  # type: ignore[misc]
    assert shares["ours"].partitions == 1
    assert shares["stock"].partitions > 10  # type: ignore[operator]
    assert any("XNNPACK" in left.reason or "only" in left.reason for left in shares["stock"].left)
    assert in_category(FORMAT.read(stock).ops, "layout")


def test_precisions(bundles: Callable[[str], Path]) -> None:
    folder = bundles("digits")
    files = {a.precision: folder / a.file.path for a in manifest.load(folder).manifest.artifacts}
    assert list(files) == ["fp32", "fp16", "int8", "int8-dynamic"]
    kinds = {
        name: {value["datatype"] for graph in _pte.unpack(path.read_bytes()).graphs for value in _values(graph)}
        for name, path in files.items()
    }
    assert kinds["fp32"] == {"xnn_datatype_fp32"}
    assert "xnn_datatype_fp16" in kinds["fp16"]
    assert {"xnn_datatype_qint8", "xnn_datatype_qcint8"} <= kinds["int8"]
    assert {"xnn_datatype_qdint8", "xnn_datatype_qcint8"} <= kinds["int8-dynamic"]
    assert all(RUNTIME.share(path, "").partitions == 1 for path in files.values())  # type: ignore[misc]
    assert files["int8"].stat().st_size < 0.8 * files["fp32"].stat().st_size


def test_products_of_int8_are_int8_in_the_file(bundles: Callable[[str], Path]) -> None:
    """Also those before a ReLU, which the quantiser takes together with it or not at all."""
    folder = bundles("digits")
    made = next(a for a in manifest.load(folder).manifest.artifacts if a.precision == "int8")
    kinds = ("Conv2d", "DepthwiseConv2d", "FullyConnected")
    products = [op for op in FORMAT.read(folder / made.file.path).ops if op.kind in kinds]
    assert sum(op.inputs[1].dtype == "int8" for op in products) == made.details.static_ops


def _values(graph: dict[str, object] | None) -> list[dict[str, object]]:
    assert graph is not None
    return [_pte.tensor(value) for value in graph["xvalues"]]  # type: ignore[attr-defined]


def test_edges_in_halves(tmp_path: Path) -> None:
    options = pipeline.Options(formats=("executorch",), precisions=("fp32", "fp16"), edge_type="own")
    assert pipeline.export(source.load(*MODELS["attention"]), options, tmp_path / "b").report.passed
    graph = FORMAT.read(tmp_path / "b" / "attention-fp16.pte")
    assert [tensor.dtype for tensor in (*graph.inputs, *graph.outputs)] == ["float16", "float16"]


def test_operators_stay_in_float_by_name(bundles: Callable[[str], Path], tmp_path: Path) -> None:
    loaded = source.load(*MODELS["digits"])
    names = [name for _, name in QUANTIZERS.get("executorch").candidates(artifact(bundles("digits")))]
    options = pipeline.Options(formats=("executorch",), precisions=("int8",), keep=tuple(names[:3]))
    result = pipeline.export(loaded, options, tmp_path / "b")
    (made,) = result.bundle.manifest.artifacts
    assert made.details.kept_by_name == tuple(names[:3])
    whole = next(a for a in manifest.load(bundles("digits")).manifest.artifacts if a.precision == "int8")
    assert made.details.static_ops == (whole.details.static_ops or 0) - 3


def test_its_quantiser_needs_the_module(bundles: Callable[[str], Path], tmp_path: Path) -> None:
    job = quantize.Job(artifact(bundles("attention")), tmp_path / "x.pte", INT8)
    with pytest.raises(ConversionError, match="begins at the module"):
        QUANTIZERS.get("executorch").make(job)


def test_bytes_are_the_same_every_time(bundles: Callable[[str], Path], tmp_path: Path) -> None:
    loaded = source.load(*MODELS["attention"])
    path = tmp_path / "again.pte"
    job_inputs = {name: in_layout(x, FORMAT.layout) for name, x in loaded.inputs.items()}
    module = lower(loaded.module, layout=FORMAT.layout, inputs=tuple(loaded.inputs.values())).with_edges(FORMAT.layout)
    FORMAT.convert(Job(module, job_inputs, tuple(loaded.outputs)), path)
    content = path.read_bytes()
    assert content == artifact(bundles("attention")).read_bytes()
    assert _pte.pack(_pte.unpack(content)) == content


def test_names_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "m.pte"
    job = Job(nn.Conv2d(3, 4, 1).eval(), {"image": torch.randn(1, 3, 4, 4)}, ("map",), metadata={"by": "us: {}"})
    FORMAT.convert(job, path)
    graph = FORMAT.read(path)
    assert [(t.name, t.shape) for t in (*graph.inputs, *graph.outputs)] == [
        ("image", (1, 3, 4, 4)),
        ("map", (1, 4, 4, 4)),
    ]
    assert graph.details["metadata"] == {"by": "us: {}"}
    with RUNTIME.open(path) as session:
        assert session.signature.outputs == ("map",)


class Beside(nn.Module):
    """What XNNPACK does not take, between and behind what it takes; and a map of one channel between two delegates."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 1, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.first(x)
        gate = self.one(y).cumsum(3)
        y = self.last(torch.roll(y.softmax(1), 1, 3) * gate)
        return y, y.flatten(1).cumsum(1)


@pytest.mark.parametrize("lowered", [True, False])
def test_beside_the_delegates(lowered: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x, path = Beside().eval(), torch.randn(1, 3, 8, 6), tmp_path / "m.pte"
    if lowered:
        single_inputs = {"x": x}
        FORMAT.convert(_lowered_job(module, single_inputs), path)
    else:
        FORMAT.convert(Job(module, {"x": in_layout(x, FORMAT.layout)}, ("y", "z")), path)
    with torch.no_grad(), RUNTIME.open(path) as session:
        for result, expected in zip(session.run({"x": x.numpy()}).values(), module(x), strict=True):
            assert np.allclose(result, expected.numpy(), atol=1e-5)
    share = RUNTIME.share(path, "")  # type: ignore[misc]
    left = {each.kind: each for each in share.left}
    assert {"cumsum", "_softmax"} <= left.keys()
    assert left["_softmax"].reason.startswith("dim must be the last dim")
    assert left["cumsum"].reason == "XNNPACK has no such operator"


def _lowered_job(module: nn.Module, inputs: dict[str, Tensor]) -> Job:
    form = lower(module, layout=FORMAT.layout, inputs=tuple(inputs.values())).with_edges(FORMAT.layout)
    return Job(form, {name: in_layout(x, FORMAT.layout) for name, x in inputs.items()}, ("y", "z"))


def test_where_an_operator_is_left_is_the_users_line(tmp_path: Path, edgeattn: Command) -> None:
    model = tmp_path / "left.py"
    model.write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return x.cumsum(1) * 2\n\n\n"
        "def build():\n    return Net().eval(), torch.randn(1, 3, 4, 4)\n"
    )
    assert edgeattn("export", f"{model}:build", "--format", "executorch", "--out", tmp_path / "b").code == 0
    answer = edgeattn("inspect", next((tmp_path / "b").glob("*.pte")), "--max-fallback", "executorch=0", "--json")
    assert answer.code == 1
    (left,) = [x for x in answer.document["backends"][0]["left"] if x["kind"] == "cumsum"]
    assert "left.py:6" in left["name"]


def test_a_map_that_lies_otherwise_is_put_right(bundles: Callable[[str], Path]) -> None:
    """ExecuTorch takes the numbers of another order without a word: the session must not."""
    path = artifact(bundles("attention"))
    cases = golden_cases(manifest.load(bundles("attention")))
    x = cases["example"].inputs["x"]
    with RUNTIME.open(path) as session:
        first = session.run({"x": x})["y"]
        again = session.run({"x": np.asfortranarray(x)})["y"]
    assert np.array_equal(first, again)
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    (wrong,) = program.load_method("forward").execute((torch.from_numpy(x).contiguous(),))
    assert not np.allclose(wrong.numpy(), first, atol=1e-3)


def test_threads_are_those_asked_for(bundles: Callable[[str], Path]) -> None:
    from executorch.extension.pybindings import portable_lib

    for threads in (2, 1):
        with RUNTIME.open(artifact(bundles("attention")), threads):
            assert portable_lib._threadpool_get_thread_count() == threads


@pytest.mark.parametrize("content", [b"", b"ET12", b"garbage" * 99, None])
def test_a_damaged_file_is_one_sentence(content: bytes | None, bundles: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "bad.pte"
    path.write_bytes(artifact(bundles("attention")).read_bytes()[:-4000] if content is None else content)
    with pytest.raises(ArtifactError, match=r"bad\.pte is not a readable ExecuTorch program"):
        FORMAT.read(path)
    with pytest.raises(EdgeAttnError, match=r"bad\.pte"), RUNTIME.open(path):
        pass


def test_inputs_of_another_shape_are_refused(bundles: Callable[[str], Path]) -> None:
    with RUNTIME.open(artifact(bundles("attention"))) as session, pytest.raises(EdgeAttnError, match="has the shape"):
        session.run({"x": np.zeros((1, 32, 4, 8), np.float32)})


def test_a_module_that_cannot_be_traced_is_one_sentence(tmp_path: Path) -> None:
    class Loop(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            while x.sum() > 0:
                x = x - 1
            return x

    with pytest.raises(ConversionError, match="ExecuTorch refuses the module"):
        FORMAT.convert(Job(Loop().eval(), {"x": torch.randn(1, 3, 4, 4)}, ("y",)), tmp_path / "x.pte")
    assert not list(tmp_path.iterdir())


def test_what_is_put_in_place_of_a_weight_changes_no_other(bundles: Callable[[str], Path], tmp_path: Path) -> None:
    editor, path, copy = EDITORS.get("executorch"), artifact(bundles("attention")), tmp_path / "copy.pte"
    before = {weight.name: weight.value for weight in editor.weights(path)}
    name = next(iter(before))
    editor.write(path, copy, {name: before[name] * 2})
    after = {weight.name: weight.value for weight in editor.weights(copy)}
    assert np.array_equal(after[name], before[name] * 2)
    assert all(np.array_equal(after[other], before[other]) for other in before if other != name)
    assert count(FORMAT.read(copy).ops) == count(FORMAT.read(path).ops)


def test_two_formats_compare(
    bundles: Callable[[str], Path], made_bundle: Path, tmp_path: Path, edgeattn: Command
) -> None:
    shutil.copy(artifact(bundles("attention")), tmp_path / "a.pte")
    shutil.copy(next(made_bundle.glob("*-fp32.onnx")), tmp_path / "b.onnx")
    answer = edgeattn("compare", tmp_path / "a.pte", tmp_path / "b.onnx", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)
