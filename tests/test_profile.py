"""``edgeattn profile``: what is measured, in which order, what is kept when something goes wrong, and what is said."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Answer
from test_export import replace_file

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.bundle.golden import golden_cases
from edgeattn.bundle.records import Device, Operator
from edgeattn.errors import ArtifactError, BadInputError, TargetError
from edgeattn.profile.operators import assign_layers, mark_layout_ops
from edgeattn.profile.run import Options, Profile, profile
from edgeattn.targets import Connection, Job, Measurement

Command = Callable[..., Answer]
OPTIONS = Options("host")
AGAIN = "again-fp32.onnx"


@pytest.fixture
def twice(bundle: Path) -> Path:
    """A bundle with two artifacts for one runtime."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    first = next(a for a in manifest["artifacts"] if a["format"] == "onnx")
    shutil.copyfile(bundle / first["file"]["path"], bundle / AGAIN)
    manifest["artifacts"].append({**first, "file": {**first["file"], "path": AGAIN}})
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


class Fake(Connection):
    """A target that answers with the golden outputs; what it is asked for is kept."""

    place, warmup, runs = "fake", None, 50

    def __init__(self, bundle: Path, **changes: Any) -> None:
        loaded = bundles.load(bundle)
        self.runtimes = {"onnx": ("quick", "slow"), "tflite": ("litert",)}
        golden = next(iter(golden_cases(loaded).values()))
        self.outputs = {"y": golden.reference("fp32")["y"]}
        self.changes: dict[str, Any] = changes
        self.asked: list[list[Job]] = []
        self.trouble: Callable[[Sequence[Job]], None] = lambda jobs: None

    def run(self, job: Job) -> Measurement:
        return self.run_interleaved([job])[0]

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        self.asked.append(list(jobs))
        self.trouble(jobs)
        times = tuple(int(x) for x in 1e6 * (1 + 0.01 * np.random.default_rng(0).standard_normal(50)))
        last = jobs[0].artifact.suffix == ".tflite"
        outputs = {name: y.transpose(0, 2, 3, 1) if last else y for name, y in self.outputs.items()}
        seen = Measurement(
            origin="host",
            device=Device("fake", {}),
            runtime=jobs[0].runtime,
            runtime_version="1",
            warmup=0,
            samples_ns=times,
            first=outputs,
            last=outputs,
        )
        return tuple(replace(seen, **self.changes) for _ in jobs)


def test_every_runtime_and_number_of_threads(twice: Path) -> None:
    fake = Fake(twice)
    found = profile(bundles.load(twice), fake, replace(OPTIONS, threads=(1, 2)))
    assert found.passed
    asked = [(group[0].runtime, group[0].threads, len(group)) for group in fake.asked]
    assert asked == [
        ("quick", 1, 2),
        ("quick", 2, 2),
        ("slow", 1, 2),
        ("slow", 2, 2),
        ("litert", 1, 1),
        ("litert", 2, 1),
    ]
    groups = {(r.runtime, r.threads): r.group for r in found.records if r.group}
    assert len(set(groups.values())) == 4
    assert {r.subject.format for r in found.records if not r.group} == {"tflite"}
    assert [entry.reason for entry in found.not_run] == [
        f"fake does not run {name}" for name in ("coreai", "coreml", "executorch")
    ]
    for record in found.records:
        assert record.untrusted == ()
        assert record.subject.layout_ops == 0
        assert record.parity
        assert record.parity.passed
        assert record.started_at.endswith("+00:00")


def test_one_runtime_alone(twice: Path) -> None:
    found = profile(bundles.load(twice), Fake(twice), replace(OPTIONS, runtimes=("slow",)))
    assert {record.runtime for record in found.records} == {"slow"}
    assert any("none was asked for" in entry.reason for entry in found.not_run)
    with pytest.raises(BadInputError, match="no runtime 'nosuch'; choose from litert, quick, slow"):
        profile(bundles.load(twice), Fake(twice), replace(OPTIONS, runtimes=("nosuch",)))


@pytest.mark.parametrize(
    ("asked", "given"), [(None, None), ("auto", None), (0, 0), (7, 7)],
)  # fmt: skip
def test_the_warm_up_that_is_asked_for(asked: Any, given: int | None, bundle: Path) -> None:
    fake = Fake(bundle)
    profile(bundles.load(bundle), fake, replace(OPTIONS, warmup=asked))
    assert {job.warmup for group in fake.asked for job in group} == {given}


@pytest.mark.parametrize("which", ["first", "last"])
def test_outputs_that_are_not_the_references(which: str, bundle: Path) -> None:
    fake = Fake(bundle)
    fake.changes = {which: {"y": fake.outputs["y"] + 1}}
    found = profile(bundles.load(bundle), fake, OPTIONS)
    assert not found.passed
    parity = found.records[0].parity
    assert parity
    assert not parity.passed
    assert f"y of the {which} run" in parity.reason


def test_a_record_says_itself_when_not_to_trust_it(bundle: Path) -> None:
    drift = tuple(range(1_000_000, 1_500_000, 10_000))
    found = profile(bundles.load(bundle), Fake(bundle, samples_ns=drift, untrusted=("hot",)), OPTIONS)
    assert found.records[0].untrusted[0] == "hot"
    assert "the times drift" in found.records[0].untrusted[1]


def test_what_one_artifact_breaks_the_others_do_not_pay_for(twice: Path) -> None:
    fake = Fake(twice)

    def trouble(jobs: Sequence[Job]) -> None:
        if any(job.artifact.name == AGAIN for job in jobs):
            raise ArtifactError("it refuses again")

    fake.trouble = trouble
    kept: list[Profile] = []
    found = profile(bundles.load(twice), fake, replace(OPTIONS, runtimes=("quick",)), keep=kept.append)
    assert [record.subject.artifact for record in found.records] == ["attention-fp32.onnx"]
    assert found.records[0].group == ""
    assert not found.passed
    assert any(entry.reason == "it refuses again" for entry in found.not_run)
    assert kept[-1].records == found.records


def test_a_target_that_vanishes(twice: Path) -> None:
    fake = Fake(twice)

    def vanish(jobs: Sequence[Job]) -> None:
        if len(fake.asked) > 1:
            raise TargetError("the phone is gone")

    fake.trouble = vanish
    found = profile(bundles.load(twice), fake, OPTIONS)
    assert {record.runtime for record in found.records} == {"quick"}
    assert not found.passed
    fake.asked = [[], []]
    with pytest.raises(TargetError, match="the phone is gone"):
        profile(bundles.load(twice), fake, OPTIONS)


def test_an_interrupt_keeps_what_there_is(twice: Path) -> None:
    fake = Fake(twice)

    def interrupt(jobs: Sequence[Job]) -> None:
        if len(fake.asked) == 2:
            raise KeyboardInterrupt

    fake.trouble = interrupt
    found = profile(bundles.load(twice), fake, OPTIONS)
    assert {record.runtime for record in found.records} == {"quick"}
    assert sum(entry.reason == "interrupted" for entry in found.not_run) == 3
    assert not found.passed
    fake.asked = [[]]
    with pytest.raises(KeyboardInterrupt):
        profile(bundles.load(twice), fake, OPTIONS)


def test_on_the_command_line(edgeattn: Command, twice: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    answer = edgeattn("profile", twice, "--runs", 30, "--warmup", 2, "--threads", 1, "--out", out, "--json")
    assert answer.code == 0, answer.err
    (ratio,) = answer.document["ratios"]
    assert (ratio["baseline"], ratio["candidate"]) == ("attention-fp32.onnx", AGAIN)
    speed = ratio["times_as_fast"]
    assert speed["low"] <= speed["value"] <= speed["high"]
    executorch, one, two, lite = records.load(out).records
    assert one.group == two.group != lite.group == executorch.group == ""
    assert one.command.startswith("edgeattn profile ")
    assert len(one.samples_ns) == len(two.samples_ns) == 30
    assert answer.document["statistics"][1]["p50_ns"] == np.median(one.samples_ns)
    named = {operator.layer for operator in one.operators}
    assert named >= {"out_proj", "softmax()"}
    assert any(name.startswith("qkv_proj") for name in named)
    assert any("Softmax" in operator.kind for operator in lite.operators)
    assert "cores" in one.device.details
    answer = edgeattn("profile", twice, "--runs", 5, "--warmup", 0, "--no-operators", "--runtime", "onnxruntime")
    assert answer.code == 0, answer.err
    assert "Interleaved runs" in answer.out
    assert "by operator" not in answer.out
    assert "only 5 samples" in answer.out
    assert "0 runs, " in answer.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--warmup", "soon"), "--warmup is auto or a number"),
        (("--warmup", "-1"), "--warmup is auto or a number"),
        (("--runtime", "nosuch"), "host has no runtime 'nosuch'"),
        (("--threads", "0"), "--threads"),
        (("--out", "nosuch/r.json"), "cannot be written"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], said: str, edgeattn: Command, made_bundle: Path) -> None:
    answer = edgeattn("profile", made_bundle, *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""


def test_operators_find_their_layers(twice: Path) -> None:
    given = [
        Operator("relu_nchwc", "Conv", "", 5),
        Operator("node_mul_1", "Mul", "", 4),
        Operator("ReorderInput_token_4", "ReorderInput", "", 3),
        Operator("mystery", "Transpose", "", 2),
    ]
    found = assign_layers(twice / AGAIN, given)
    assert [operator.layer.rstrip("_23") for operator in found] == ["qkv_proj", "mul()", "", ""]
    assert [operator.layout for operator in found] == [False, False, False, True]
    with pytest.raises(ArtifactError):
        assign_layers(twice / "manifest.json", given)


def test_layout_ops_among_kernels_are_marked() -> None:
    names = (
        "Transpose (ND, X32)",
        "Static Reshape (NC)",
        "Depth To Space (NHWC, X32)",
        "Softmax (NC, F32)",
        "TRANSPOSE",
    )
    found = mark_layout_ops([Operator(name, name, "", 1) for name in names])
    assert [operator.layout for operator in found] == [True, False, True, False, True]


def test_a_layout_op_by_its_indices_is_marked(twice: Path) -> None:
    """A Gather counts as one because of what it reads: the file is asked, not the name."""
    model = onnx.load(twice / AGAIN)
    order = onnx.numpy_helper.from_array(np.arange(32)[::-1].copy(), "order")
    model.graph.initializer.append(order)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Gather", ["before", "order"], ["y"], name="shuffle", axis=1))
    replace_file(twice, AGAIN, model.SerializeToString())
    (found,) = assign_layers(twice / AGAIN, [Operator("shuffle", "Gather", "", 5)])
    assert (found.layout, found.layer) == (True, "")


def test_starts_are_one_record(twice: Path) -> None:
    """Each start is a run of its own; only the first times the operators; a bad one fails the record."""
    fake = Fake(twice)
    found = profile(bundles.load(twice), fake, replace(OPTIONS, runtimes=("quick",), starts=3))
    assert found.passed
    assert [len(record.samples_ns) for record in found.records] == [150, 150]
    assert {record.starts for record in found.records} == {(50, 50, 50)}
    assert [[job.operators for job in group] for group in fake.asked] == [[True, True], [False, False], [False, False]]
    single = profile(bundles.load(twice), Fake(twice), replace(OPTIONS, runtimes=("quick",)))
    assert {record.starts for record in single.records} == {()}

    def worsen(jobs: Sequence[Job]) -> None:
        if len(wrong.asked) == 2:
            wrong.outputs = {"y": wrong.outputs["y"] + 1}

    wrong = Fake(twice)
    wrong.trouble = worsen
    failed = profile(bundles.load(twice), wrong, replace(OPTIONS, runtimes=("quick",), starts=2))
    assert not failed.passed
    assert not any(record.parity and record.parity.passed for record in failed.records)


@pytest.mark.parametrize(
    ("error", "interrupted"), [(KeyboardInterrupt(), True), (TargetError("the board is gone"), False)]
)
def test_what_ends_a_start_costs_no_earlier_one(error: BaseException, interrupted: bool, twice: Path) -> None:
    fake = Fake(twice)

    def end(jobs: Sequence[Job]) -> None:
        if len(fake.asked) == 3:
            raise error

    fake.trouble = end
    found = profile(bundles.load(twice), fake, replace(OPTIONS, runtimes=("quick",), starts=5))
    assert found.interrupted is interrupted
    assert not found.passed
    assert [record.starts for record in found.records] == [(50, 50), (50, 50)]
    assert all(record.partial and "after 2 of 5 starts" in record.untrusted[0] for record in found.records)


def test_starts_on_this_machine(made_bundle: Path, tmp_path: Path, edgeattn: Command) -> None:
    out = tmp_path / "r.json"
    chosen = ("--runtime", "onnxruntime", "--runs", 4, "--warmup", 1, "--starts", 3, "--no-operators")
    assert edgeattn("profile", made_bundle, *chosen, "--out", out).code == 0
    [record] = records.load(out).records
    assert record.starts == (4, 4, 4)
    assert edgeattn("compare", out, out).code == 0
    assert edgeattn("profile", made_bundle, "--starts", 0).code == 2
