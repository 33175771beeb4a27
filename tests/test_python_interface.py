"""edgeattn from Python: what the commands do, without printing, and leaving the user's own things as they are."""

import ast
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, Answer
from reports import EMULATED, HOST, NOT_RUN
from test_summary import break_onnx
from torch import Tensor, nn

import edgeattn as package
from edgeattn import Bundle, assert_parity, deploy
from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.export import cases, pipeline, source
from edgeattn.interface.results import ParityResult, ProfileResult, SelfTestResult
from edgeattn.lowering import understand
from edgeattn.parity.selftest import Judgement, SelfTest, Trial
from edgeattn.parity.verdicts import NotChecked, Report, Row
from edgeattn.profile import devices
from edgeattn.profile.run import Profile
from edgeattn.sample_models import attention

Run = Callable[..., Answer]
ROOT = Path(__file__).parent.parent
HOSTILE = "<script>alert('&')</script>[red]"


@pytest.fixture(scope="module")
def layer() -> tuple[nn.Module, dict[str, Tensor]]:
    """As `edgeattn export attention` builds it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, inputs = attention.build(embed_dim=32, pixels=4, patches=16)
    return module.train(), inputs


@pytest.fixture(scope="module")
def deployed(layer: tuple[nn.Module, dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The layer in ONNX, made once; tests only read it."""
    module, inputs = layer
    return deploy(module, inputs, out=tmp_path_factory.mktemp("deployed") / "b", name="attention", formats="onnx")


@pytest.fixture
def broken(deployed: Bundle, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(deployed, tmp_path / "b"))


def test_it_writes_what_the_command_writes(deployed: Bundle, edgeattn: Run, tmp_path: Path) -> None:
    answer = edgeattn("export", "attention", *SMALL, "--format", "onnx", "--out", tmp_path / "b")
    assert answer.code == 0, answer.err
    theirs = Bundle.open(tmp_path / "b")
    assert [a.sha256 for a in deployed.artifacts] == [a.sha256 for a in theirs.artifacts]
    assert deployed.manifest.golden == theirs.manifest.golden
    assert deployed.manifest.layers == theirs.manifest.layers
    assert deployed.manifest.weights_sha256 == theirs.manifest.weights_sha256
    assert str(theirs) == answer.out.rstrip("\n")


def test_the_users_own_things_stay_as_they_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5))
    module[0].bias.requires_grad_(False)
    x = torch.randn(1, 2, 4, 5)
    module(x).sum().backward()
    x.requires_grad_()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    grads = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    here = os.getcwd()
    capfd.readouterr()
    with torch.inference_mode(), torch.autocast("cpu"):
        bundle = deploy(module, x, out=str(tmp_path / "b"), formats=["onnx"], cases={"dark": x / 100})
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert capfd.readouterr() == ("", "")
    assert bundle.passed
    assert bundle.manifest.cases["dark"] == "given as tensors"
    assert "dark" in {row["case"] for row in bundle.parity_at_export.rows() if row["hop"] == "conversion"}
    assert [part.training for part in module.modules()] == modes
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {n: p.requires_grad for n, p in module.named_parameters()}["0.bias"] is False
    assert all(torch.equal(dict(module.named_parameters())[name].grad, grad) for name, grad in grads.items())
    assert x.requires_grad
    now = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert now[:2] == states[:2]
    assert torch.equal(now[2], states[2])
    assert os.getcwd() == here


def test_what_a_bundle_answers(
    deployed: Bundle, edgeattn: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.open(deployed.path)
    capfd.readouterr()
    parity, inspection, layers = bundle.parity(), bundle.inspect(max_layout_ops=0), bundle.layers()
    timing = bundle.profile(runs=3, warmup=1, operators=False, out=tmp_path / "r.json")
    written = bundle.report(tmp_path / "report.md", timing, layers=False)
    assert capfd.readouterr() == ("", "")

    assert all(result.passed for result in (parity, inspection, layers, timing))
    assert {row["runtime"] for row in parity.rows()} == {"pytorch", "onnxruntime"}
    assert inspection.rows()[0]["layout_ops"] == 0
    assert not bundle.inspect(max_layout_ops=-1).passed
    assert layers.rows()[0]["runtime"] == "onnxruntime"
    (row,) = timing.rows()
    assert (row["artifact"], row["runs"], row["threads"]) == ("attention-fp32.onnx", 3, 1)
    assert row["p50_low_ms"] <= row["p50_ms"] <= row["p50_high_ms"]
    assert records.load(tmp_path / "r.json").records == timing.records
    assert "onnxruntime" in (tmp_path / "report.md").read_text()
    assert "has no record" not in (tmp_path / "report.md").read_text()
    assert written.rows()[0]["answer"] == "Yes"

    assert str(parity) == edgeattn("parity", bundle.path).out.rstrip("\n")
    artifact = bundle.artifact("onnx")
    assert str(bundle.inspect()) == edgeattn("inspect", artifact.path).out.rstrip("\n")
    again = edgeattn("parity", bundle.path, "--layers").out.rstrip("\n")
    assert again == f"{parity}\n\n{layers}"
    assert "\x1b" not in str(parity)


def test_what_a_bundle_holds(deployed: Bundle) -> None:
    (artifact,) = deployed.artifacts
    assert artifact == deployed.artifact("onnx", "fp32")
    assert artifact.path == deployed.path / "attention-fp32.onnx"
    assert artifact.size_bytes == artifact.path.stat().st_size
    assert [tensor.name for tensor in (*artifact.inputs, *artifact.outputs)] == ["x", "y"]
    assert deployed.rows() == [
        {
            "path": artifact.path,
            "format": "onnx",
            "precision": "fp32",
            "size_bytes": artifact.size_bytes,
            "sha256": artifact.sha256,
        }
    ]
    assert Path(deployed) == deployed.path
    assert deployed.passed
    assert deployed.refused == {}
    assert deployed.recommended()[0].artifact == "attention-fp32.onnx"
    with pytest.raises(BadInputError, match="no artifact in tflite fp32; it has onnx fp32"):
        deployed.artifact("tflite")


def test_an_assertion_says_what_differs(broken: Path) -> None:
    assert assert_parity(Bundle.open(broken)).passed
    break_onnx(broken)
    bundle = Bundle.open(broken)
    with pytest.raises(AssertionError, match=r"attention-fp32\.onnx\.onnxruntime: example, y: .*noise floor") as caught:
        assert_parity(bundle)
    assert str(caught.value).startswith(f"{broken} is not the same model")
    parity = bundle.parity()
    assert not parity.passed
    assert "DIFFERENT" in str(parity)
    assert "color: " in parity._repr_html_()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"module": "a"}, "'a' is no torch.nn.Module"),
        ({"inputs": None}, "Conv2d is a module without example inputs; give them too"),
        ({"inputs": [1]}, "as a tensor, or a tuple or dict of tensors"),
        ({"inputs": {}}, "as a tensor, or a tuple or dict of tensors"),
        ({"inputs": torch.randn(1, 3, 4, 5)}, "fails on its example inputs (input [1, 3, 4, 5])"),
        ({"name": "../a"}, "'../a' cannot name a file"),
        ({"name": ""}, "'' cannot name a file"),
        ({"cases": {"a/b": torch.randn(1, 2, 3, 4)}}, "'a/b' cannot name a file"),
        ({"evaluation": torch.randn(2)}, "evaluation takes two tensors"),
        ({"evaluation": (torch.randn(2, 2, 3, 4), torch.zeros(2))}, "label for each of the 3x4 pixels"),
        (
            {"inputs": torch.randn(2, 2, 3, 4), "evaluation": (torch.randn(2, 2, 3, 4), torch.zeros(2))},
            "cannot be evaluated",
        ),
        ({"calibration": torch.randn(2, 7)}, "to calibrate Conv2d, give one tensor"),
        ({"preprocessing": {"mean": torch.zeros(1, 2)}}, "the preprocessing of"),
    ],
)
def test_what_cannot_be_a_source(changed: dict[str, Any], said: str) -> None:
    given = {"module": nn.Conv2d(2, 1, 1), "inputs": torch.randn(1, 2, 3, 4), **changed}
    with pytest.raises(BadInputError, match=re.escape(said)):
        source.from_module(**given)


def test_errors_come_before_the_work(deployed: Bundle, broken: Path, tmp_path: Path, monkeypatch: Any) -> None:
    x = torch.randn(1, 2, 3, 4)
    monkeypatch.setattr(source, "from_module", None)
    with pytest.raises(BadInputError, match="exists; give --force"):
        deploy(nn.ReLU(), x, out=broken)
    with pytest.raises(BadInputError, match="cannot be exported in 'int3'"):
        deploy(nn.ReLU(), x, out=tmp_path / "c", precisions="int3")
    with pytest.raises(BadInputError, match="onyx"):
        deploy(nn.ReLU(), x, out=tmp_path / "c", formats=["onyx"])
    with pytest.raises(BadInputError, match="runs must be at least 1"):
        deployed.profile(runs=0)
    with pytest.raises(BadInputError, match="threads must be at least 1"):
        deployed.profile(threads=())
    with pytest.raises(BadInputError, match="name one"):
        deployed.parity(settings={"cpu": "max"})
    with pytest.raises(BadInputError, match="must end with"):
        deployed.report(tmp_path / "r.pdf")
    with pytest.raises(ArtifactError, match="is no bundle"):
        Bundle.open(tmp_path / "nothing")
    with pytest.raises((MissingError, BadInputError)):
        deployed.profile("nowhere")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingError, match=re.escape("pip install 'edgeattn[onnx]'")):
        deploy(nn.ReLU(), x, out=tmp_path / "c", formats="onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


class Two(nn.Module):
    def forward(self, a: Tensor, b: Tensor, scale: Tensor | None = None) -> Tensor:
        return a - b if scale is None else scale * (a - b)


def test_inputs_by_name_go_where_forward_has_them() -> None:
    a, b = torch.ones(1, 2), torch.zeros(1, 2)
    made = source.from_module(Two(), {"b": b, "a": a})
    assert list(made.inputs) == ["a", "b"]
    assert torch.equal(made.outputs["y"], a)
    assert list(source.from_module(Two(), {"left": a, "right": b}).inputs) == ["left", "right"]
    with pytest.raises(BadInputError, match="the module takes the inputs a, b, scale; b is missing"):
        source.from_module(Two(), {"a": a, "scale": b})


def test_wrappers_are_taken_off() -> None:
    wrapped = nn.DataParallel(torch.compile(nn.ReLU()))
    made = source.from_module(wrapped, torch.randn(1, 2))
    assert (made.name, type(made.module)) == ("ReLU", nn.ReLU)
    odd = type(HOSTILE, (nn.ReLU,), {})()
    assert re.fullmatch(r"[\w.-]+", source.from_module(odd, torch.randn(1, 2)).name)


def test_a_case_does_not_take_the_place_of_another() -> None:
    x = torch.randn(1, 2, 3, 4)
    made = source.from_module(nn.ReLU(), x, cases={"example": x})
    with pytest.raises(BadInputError, match="there is a case 'example' already"):
        cases.inputs(made, understand(made.module, (x,)), [], dynamic_batch=False)


def test_an_interrupt_passes_through(deployed: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "measure", lambda *_: Profile((HOST,), (), False, interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        deployed.profile()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "understand", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deploy(nn.ReLU(), torch.randn(1, 2, 3, 4), out=tmp_path / "b", formats="onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_text_and_runs_nothing(deployed: Bundle) -> None:
    row = Row("conversion", HOSTILE, HOSTILE, HOSTILE, HOSTILE, False, HOSTILE, 1.0, 2.0, 3.0, 4.0, 1.0)
    parity = ParityResult(Report((row,), (NotChecked(HOSTILE, HOSTILE, HOSTILE),), {}, (), (HOSTILE,)))
    trial = Trial(HOSTILE, "onnx", HOSTILE, HOSTILE, HOSTILE, Judgement("survived", HOSTILE))
    tested = SelfTestResult(SelfTest((trial,), ()))
    measured = replace(HOST, subject=replace(HOST.subject, artifact=HOSTILE), untrusted=(HOSTILE,))
    timing = ProfileResult(Profile((measured, EMULATED), (NOT_RUN,), False))
    change = bundles.Change(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    manifest = replace(deployed.manifest, lowering={HOSTILE: (change,)}, model=HOSTILE)
    bundle = Bundle(replace(deployed.data, manifest=manifest, folder=Path(HOSTILE)))
    for result in (parity, tested, timing, bundle):
        page = result._repr_html_()
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert set(re.findall(r"</?(\w+)", page)) <= {
            *("table", "caption", "thead", "tbody", "tr", "th", "td", "p", "span", "br")
        }
        assert HOSTILE in str(result)
        assert repr(result) == str(result)
    assert timing.rows()[1]["instructions"] > 0
    assert timing.rows()[1]["p50_ms"] is None
    assert tested.rows()[0]["verdict"] == "survived"
    for result in (parity, tested, timing, bundle):
        assert len({tuple(row) for row in result.rows()}) == 1


def test_a_bundle_by_another_hand_is_shown_all_the_same(deployed: Bundle) -> None:
    bundle = Bundle(replace(deployed.data, manifest=replace(deployed.manifest, parity={"rows": 3})))
    assert "has no parity that can be read" in str(bundle)
    with pytest.raises(ArtifactError, match="no parity that can be read"):
        _ = bundle.passed


def test_it_is_imported_late() -> None:
    code = (
        "import sys, edgeattn; assert not {'torch', 'numpy'} & set(sys.modules); "
        "edgeattn.deploy, edgeattn.Bundle, edgeattn.assert_parity; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert set(package.__all__) <= set(dir(package))


def test_nothing_in_it_prints_or_exits() -> None:
    for file in (ROOT / "edgeattn" / "interface").glob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)}
        assert not names & {"print", "sys", "SystemExit", "exit", "input"}, file


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text())
    assert len(blocks) == 7
    names: dict[str, Any] = {"__name__": "page"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks:
            exec(compile(block, "python.md", "exec"), names)
    assert {"b", "epoch-7", "p", "report.md"} == {p.name for p in tmp_path.iterdir()}
