"""Core AI: converted, read back and run by Apple's own packages, which are a beta."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeattn import formats
from edgeattn.bundle import manifest as bundles
from edgeattn.errors import ArtifactError, ConversionError, RefusedError
from edgeattn.formats import FORMATS, Job
from edgeattn.formats.aimodel import asset
from edgeattn.inspection import inspect as inspection
from edgeattn.inspection import sandbox
from edgeattn.parity import selftest
from edgeattn.parity.mutation import EDITORS
from edgeattn.runtimes import RUNTIMES
from edgeattn.system import plugins

Command = Callable[..., Any]

FORMAT, RUNTIME = FORMATS.get("coreai"), RUNTIMES.get("coreai")
LAYER = ["embed_dim=64", "pixels=4", "patches=16"]


class Net(nn.Module):
    """It has a composite, whose name is at random, large weights, and one that is transposed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 64, 3), nn.GroupNorm(1, 64), nn.ReLU(), nn.Conv2d(64, 64, 1))
        self.head = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def converted(module: nn.Module, inputs: dict[str, Tensor], path: Path, *outputs: str, **options: Any) -> Path:
    FORMAT.convert(Job(module.eval(), inputs, outputs or ("y",), **options), path)
    return path


def ran(path: Path, **inputs: Any) -> dict[str, Any]:
    with RUNTIME.open(path) as session:
        return dict(session.run(inputs))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return converted(Net(), {"x": torch.randn(1, 3, 8, 8)}, tmp_path / "net.aimodel", metadata={"a key": "its text"})


ONCE = """
import sys, torch
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_coreai import Net, converted
path = Path(sys.argv[1])
converted(Net(), {"x": torch.zeros(1, 3, 8, 8)}, path, metadata={"b": "2", "a": "1"})
from edgeattn.formats.aimodel import asset
if len(sys.argv) > 3:
    from coreai_torch import TorchConverter, get_decomp_table
    program = torch.export.export(Net().eval(), (torch.zeros(1, 3, 8, 8),)).run_decompositions(get_decomp_table())
    TorchConverter().add_exported_program(program).to_coreai().save_asset(path.with_name("theirs.aimodel"))
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Apple's own bytes differ from one process to the next, so that this could fail."""
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-W", "ignore", "-c", ONCE, str(tmp_path / name / "our.aimodel")]
        subprocess.run([*command, str(Path(__file__).parent), "too"], check=True, capture_output=True)
    contents = {
        whose: [{f.name: f.read_bytes() for f in (tmp_path / n / f"{whose}.aimodel").iterdir()} for n in ("1", "2")]
        for whose in ("our", "theirs")
    }
    assert contents["our"][0] == contents["our"][1]
    assert contents["theirs"][0]["main.mlirb"] != contents["theirs"][1]["main.mlirb"]
    own = contents["our"][0]
    assert str(Path(__file__).parent).encode() not in own["main.mlirb"]
    assert str(Path(__file__).parent).encode() in contents["theirs"][0]["main.mlirb"]
    assert json.loads(own["metadata.json"])["creatorDefinedMetadata"] == {"a": "1", "b": "2"}
    assert "creationDate" not in json.loads(own["metadata.json"])


def test_the_image_preprocessing_is_in_the_file(edgeattn: Command, tmp_path: Path) -> None:
    answer = edgeattn("export", "digits", "--format", "coreai", "--out", tmp_path / "b")
    assert answer.code == 0
    found = inspection.inspect(tmp_path / "b" / "digits-fp32.aimodel")
    assert "mean" in found.details["metadata"]["edgeattn.preprocessing"]


def test_a_weight_is_transposed_here_and_not_in_the_file(net: Path) -> None:
    found = inspection.inspect(net)
    assert "transpose" not in found.operators
    assert found.details["metadata"] == {"a key": "its text"}
    x = torch.randn(1, 3, 8, 8)
    assert np.allclose(ran(net, x=x.numpy())["y"], Net().eval()(x).detach().numpy(), atol=1e-5)


def test_outputs_keep_their_names_where_they_are_one_value(tmp_path: Path) -> None:
    class Several(nn.Module):
        def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
            y = x.relu()
            return y, y, x, n + 1, n

    inputs = {"x": torch.randn(1, 4), "n": torch.arange(3)}
    path = converted(Several(), inputs, tmp_path / "s.aimodel", "a", "b", "c", "d", "e")
    assert [t.dtype for t in FORMAT.read(path).inputs] == ["float32", "int32"]
    got = ran(path, x=inputs["x"].numpy(), n=np.arange(3, dtype=np.int32))
    want = dict(zip("abcde", Several()(*inputs.values()), strict=True))
    assert got.keys() == want.keys()
    assert all(np.array_equal(got[name], want[name].numpy()) for name in want)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.bool, torch.float64])
def test_types_at_the_edges(dtype: torch.dtype, tmp_path: Path) -> None:
    class Float(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float() * 2

    x = torch.tensor([[0, 1, 1]]).to(dtype)
    path = converted(Float(), {"x": x}, tmp_path / "t.aimodel")
    kind = FORMAT.read(path).inputs[0].dtype
    assert kind == ("float32" if dtype == torch.float64 else str(dtype).removeprefix("torch."))
    assert ran(path, x=x.numpy().astype(kind))["y"].tolist() == [[0, 2, 2]]


def test_what_is_inside_a_branch_is_counted(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.sum() > 0, lambda y: y.sin(), lambda y: y @ y, (x,))

    path = converted(Branching(), {"x": torch.randn(4, 4)}, tmp_path / "c.aimodel")
    found = inspection.inspect(path)
    assert {"if", "sin", "broadcasting_batch_matmul"} <= found.operators.keys()
    assert found.macs == 4 * 4 * 4
    for x in (np.ones((4, 4), np.float32), -np.ones((4, 4), np.float32)):
        assert np.allclose(ran(path, x=x)["y"], np.sin(x) if x.sum() > 0 else x @ x)


def test_a_free_batch(tmp_path: Path) -> None:
    x = torch.randn(3, 3, 8, 8)
    path = converted(Net(), {"x": x[:1]}, tmp_path / "d.aimodel", dynamic_batch=True)
    with RUNTIME.open(path) as session:
        assert session.signature.inputs == {"x": (None, 3, 8, 8)}
        for batch in (x, x[:1]):
            assert np.allclose(session.run({"x": batch.numpy()})["y"], Net().eval()(batch).detach().numpy(), atol=1e-5)
    assert FORMAT.read(path).inputs[0].shape == (None, 3, 8, 8)


def test_what_it_cannot_convert_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    class Folding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.fold(nn.functional.unfold(x, 3), (8, 8), 3)

    with pytest.raises(ConversionError, match=r"^coreai-torch refuses the module: .*accumulate=True") as error:
        converted(Folding(), {"x": torch.randn(1, 3, 8, 8)}, tmp_path / "f.aimodel")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["main.mlirb", "main.hash", "metadata.json"])
@pytest.mark.parametrize("how", ["missing", "cut", "rubbish", "a pipe"])
def test_a_damaged_asset_is_one_sentence(part: str, how: str, net: Path) -> None:
    content = (net / part).read_bytes()
    (net / part).unlink()
    if how == "a pipe":
        os.mkfifo(net / part)
    elif how != "missing":
        (net / part).write_bytes(content[: len(content) // 2] if how == "cut" else b"\7" * len(content))
    with pytest.raises(ArtifactError) as error:
        inspection.inspect_apart(net)
    assert "is not a readable Core AI asset" in str(error.value)
    assert "\n" not in str(error.value)
    if part == "main.mlirb":
        with pytest.raises(ArtifactError, match=r"main\.mlirb"), RUNTIME.open(net):
            pass


def test_a_hostile_program_ends_its_own_process_alone(net: Path) -> None:
    """Apple's reader aborts on it: with the hash that fits, only a process of its own tells."""
    sandbox.check(net, run=True)
    content = (net / "main.mlirb").read_bytes()
    (net / "main.mlirb").write_bytes(cut := content[: len(content) // 2])
    (net / "main.hash").write_bytes(hashlib.sha256(cut).digest())
    for attempt in (lambda: inspection.inspect_apart(net), lambda: sandbox.check(net, run=True)):
        with pytest.raises(ArtifactError, match=r"is damaged or meant to harm.* ended that by SIG"):
            attempt()


def test_nothing_is_left_behind(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = {f.name: f.read_bytes() for f in net.iterdir()}

    def interrupted() -> None:
        with RUNTIME.open(net):
            assert [folder.suffix for folder in scratch.iterdir()] == [".aimodelx"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert RUNTIME.observe is not None
    RUNTIME.observe(net, {"x": np.zeros((1, 3, 8, 8), np.float32)}, lambda value: None)
    assert not list(scratch.iterdir())
    assert before == {f.name: f.read_bytes() for f in net.iterdir()}


def test_it_runs_where_a_loop_runs_as_in_a_notebook(net: Path) -> None:
    async def cell() -> Any:
        return ran(net, x=np.zeros((1, 3, 8, 8), np.float32))["y"]

    assert asyncio.run(cell()).shape == (1, 64)


def test_wrong_inputs_are_one_sentence(net: Path) -> None:
    with RUNTIME.open(net) as session:
        for wrong in ({"x": np.zeros((1, 3, 8, 9), np.float32)}, {"x": np.zeros((1, 3, 8, 8))}, {"z": np.zeros(1)}):
            with pytest.raises(RefusedError, match="Core AI cannot run the file on these inputs: ") as error:
                session.run(wrong)
            assert "\n" not in str(error.value)


def test_the_values_inside_are_those_that_its_own_logger_tells(net: Path) -> None:
    """As outputs they have names; the logger has none for them on Linux, and runs the file as it is."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import CompileIdentifiers, IntermediateLogger, NDArray

    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    logged: list[bytes] = []

    def log(values: list[Any], kind: str, _: Any) -> None:
        logged.extend(
            np.array(NDArray._wrap(v).numpy()).tobytes() for v in values if v is not None and kind == "output"
        )

    async def run() -> None:
        async with AIModelAsset.load(net).executable() as model:
            logger = IntermediateLogger([CompileIdentifiers(i) for i in range(2000)], log)
            await model.load_function("main", intermediate_logger=logger)({"x": NDArray(x)})

    asyncio.run(run())
    observed: list[Any] = []
    assert RUNTIME.observe is not None
    RUNTIME.observe(net, {"x": x}, observed.append)
    assert [value.name for value in observed] == [
        step.name for step in asset.load(net).steps() if step.kind != "constant"
    ]
    assert {"conv2d", "group_norm", "relu"} <= {value.op for value in observed}
    missing = [value.op for value in observed if value.value.tobytes() not in logged]
    assert missing == []


def test_every_damage_is_noticed(norm_bundle: Path) -> None:
    bundle = bundles.load(norm_bundle)
    only = tuple(a for a in bundle.manifest.artifacts if a.format == "coreai")
    result = selftest.self_test(bundles.Bundle(bundle.folder, replace(bundle.manifest, artifacts=only)))
    assert result.kill_rates == {"coreai": 1.0}
    kinds = {trial.mutation for trial in result.trials if trial.judgement.verdict in ("killed", "refused")}
    assert kinds >= {
        "weight scaled by 1.01", "weight rounded to fp16", "bias set to zero", "two weights exchanged",
        "softmax over another axis", "relu dropped", "addition became subtraction", "epsilon of a norm a hundredfold",
    }  # fmt: skip


def test_a_mutant_changes_what_it_says_and_nothing_else(net: Path, tmp_path: Path) -> None:
    editor = EDITORS.get("coreai")
    editor.write(net, same := tmp_path / "same.aimodel")
    assert {f.name: f.read_bytes() for f in same.iterdir()} == {f.name: f.read_bytes() for f in net.iterdir()}
    weight = editor.weights(net)[0]
    editor.write(net, other := tmp_path / "other.aimodel", {weight.name: weight.value * 2})
    after = {w.name: w.value for w in editor.weights(other)}
    for old in editor.weights(net):
        assert np.array_equal(after[old.name], old.value * (2 if old.name == weight.name else 1))


def test_it_agrees_with_core_mls_package(edgeattn: Command, tmp_path: Path) -> None:
    small = [word for argument in LAYER for word in ("--arg", argument)]
    assert (
        edgeattn(
            "export", "attention", *small, "--format", "coreai", "--format", "coreml", "--out", tmp_path / "b"
        ).code
        == 0
    )
    names = (tmp_path / "b" / "attention-fp32.mlpackage", tmp_path / "b" / "attention-fp32.aimodel")
    answer = edgeattn("compare", *names, "--json")
    assert answer.code == 0
    assert answer.document["rows"][0]["difference"]["max_abs"] < 1e-6


def test_another_version_is_named_where_something_fails(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asset, "_installed", lambda name: "9.9" if name == "coreai-core" else asset.VERSIONS[name])
    assert np.isfinite(ran(net, x=np.zeros((1, 3, 8, 8), np.float32))["y"]).all()  # nothing fails, and nothing is said
    monkeypatch.setitem(sys.modules, "coreai.authoring", None)
    told = r"here is coreai-core 9\.9, and edgeattn knows 1\.0\.0b3: pip install 'edgeattn\[coreai\]'\)$"
    with pytest.raises(ArtifactError, match=told):
        FORMAT.read(net)
    with pytest.raises(RefusedError, match=told), RUNTIME.open(net):
        pass


def test_the_versions_are_those_of_the_extra() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    pinned = dict(each.split("==") for each in project["optional-dependencies"]["coreai"] if "==" in each)
    assert pinned == asset.VERSIONS


def test_without_it_an_export_that_names_no_format_makes_the_others(
    edgeattn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert formats.by_default() == FORMATS.names
    real = plugins.find_spec
    monkeypatch.setattr(plugins, "find_spec", lambda name: None if name.startswith("coreai") else real(name))
    assert formats.by_default() == tuple(name for name in FORMATS.names if name != "coreai")
    answer = edgeattn("export", "attention", "--format", "coreai", "--out", tmp_path / "b")
    assert answer.code == 3
    assert "pip install 'edgeattn[coreai]'" in answer.err
