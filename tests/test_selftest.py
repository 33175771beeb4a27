"""Would parity have noticed? Damaged artifacts are noticed, sound ones are not, and a blind verifier is found out."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Answer
from torch import Tensor, nn

from edgeattn.bundle import manifest as bundles
from edgeattn.export import pipeline, source
from edgeattn.parity import mutation, selftest
from edgeattn.parity.mutation import onnx as onnx_mutation
from edgeattn.precision import FP32, PRECISIONS, NoiseLimits

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import sound

Command = Callable[..., Answer]
FORMATS = {"coreai", "coreml", "executorch", "onnx", "tflite"}


def verdicts(document: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for trial in document["trials"]:
        found.setdefault(trial["mutation"], set()).add(trial["judgement"]["verdict"])
    return found


def judge_fp32_by(noise_units: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRECISIONS, "fp32", replace(FP32, limits=NoiseLimits(noise_units, noise_units)))


def test_every_damage_to_the_layer_is_noticed_and_the_bundle_stays(edgeattn: Command, made_bundle: Path) -> None:
    before = bundles.describe(made_bundle.parent, made_bundle)
    answer = edgeattn("parity", made_bundle, "--self-test", "--json")
    assert answer.code == 0
    assert answer.document["passed"]
    assert answer.document["kill_rates"] == dict.fromkeys(sorted(FORMATS), 1.0)
    every = {m.name for m in mutation.MUTATIONS} | {mutation.EXCHANGE, mutation.SOFTMAX, mutation.RELU}
    assert verdicts(answer.document) == {name: {"killed"} for name in every}
    for name in FORMATS:
        assert {t["mutation"] for t in answer.document["trials"] if t["format"] == name} == every
    assert bundles.describe(made_bundle.parent, made_bundle) == before


def test_norms_and_residuals_too(norm_bundle: Path) -> None:
    found = selftest.self_test(bundles.load(norm_bundle))
    assert found.passed, [t for t in found.trials if t.judgement.verdict == "survived"]
    for name in FORMATS:
        kinds = {t.mutation for t in found.trials if t.format == name and t.judgement.verdict == "killed"}
        assert kinds >= {mutation.SUBTRACTION, mutation.EPSILON}


def test_a_blind_verifier_is_found_out(edgeattn: Command, made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge_fp32_by(1e30, monkeypatch)
    monkeypatch.setattr(selftest, "MUTANTS_PER_KIND", 1)
    answer = edgeattn("parity", made_bundle, "--self-test", "--json")
    assert answer.code == 1
    assert not answer.document["passed"]
    found = verdicts(answer.document)
    assert found.pop("one weight NaN") == {"killed"}
    assert found == {kind: {"survived"} for kind in found}
    # One of thirteen kinds is still seen.
    assert answer.document["kill_rates"] == dict.fromkeys(sorted(FORMATS), pytest.approx(1 / 13))
    people = edgeattn("parity", made_bundle, "--self-test")
    assert people.code == 1
    assert "survived" in people.out
    assert "7.7%" in people.out


def test_a_file_that_the_runtime_refuses_is_counted_apart(
    edgeattn: Command, made_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_mutation.EDITOR, "write", lambda source, target, *_: target.write_bytes(b"no model"))
    answer = edgeattn("parity", made_bundle, "--self-test", "--json")
    assert answer.code == 0
    found = {(t["format"], t["judgement"]["verdict"]) for t in answer.document["trials"]}
    assert found == {(name, "refused" if name == "onnx" else "killed") for name in FORMATS}
    assert answer.document["kill_rates"]["onnx"] == 1


def test_a_self_test_that_changes_nothing_does_not_pass(made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that forgets its change makes equivalent mutants only: that must not look like success."""

    def copy(source: Path, target: Path, *_: object) -> None:
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(onnx_mutation.EDITOR, "write", copy)
    monkeypatch.setattr(selftest, "MUTANTS_PER_KIND", 1)
    found = selftest.self_test(bundles.load(made_bundle))
    onnx = [t.judgement for t in found.trials if t.format == "onnx"]
    assert {judgement.verdict for judgement in onnx} == {"equivalent"}
    assert "bit for bit" in onnx[0].reason
    assert found.kill_rates == {"coreai": 1, "coreml": 1, "executorch": 1, "onnx": 0, "tflite": 1}
    assert not found.passed


class OneScore(nn.Module):
    """Attention to one patch, which has score 1 whatever the query says."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value = nn.Conv2d(8, 1, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x) * self.query(x).softmax(-1)


def test_an_equivalent_mutant_is_listed_and_not_counted(tmp_path: Path) -> None:
    """A query's damage changes nothing (but for a NaN). The lowering would leave the query out."""
    torch.manual_seed(0)
    given = source.from_module(OneScore(), torch.randn(1, 8, 2, 1))
    made = pipeline.export(given, pipeline.Options(formats=("onnx",), lowering=False), tmp_path / "b")
    found = selftest.self_test(made.bundle)
    assert found.passed
    on_query = {t.mutation: t.judgement.verdict for t in found.trials if t.place.startswith("query")}
    assert on_query.pop("one weight NaN") == "killed"
    assert set(on_query.values()) == {"equivalent"}
    assert found.kill_rates == {"onnx": 1}


def test_mutants_that_could_show_nothing_are_refused(
    edgeattn: Command, made_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "mutants", lambda *_: ())
    answer = edgeattn("parity", made_bundle, "--self-test")
    assert answer.code == 2
    assert "has no weight" in answer.err
    monkeypatch.setattr(selftest, "check_artifact", lambda *_: [])
    answer = edgeattn("parity", made_bundle, "--self-test")
    assert answer.code == 2
    assert "no golden case" in answer.err


def test_a_bundle_that_fails_as_it_is_is_refused(
    edgeattn: Command, made_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge_fp32_by(1e-9, monkeypatch)
    answer = edgeattn("parity", made_bundle, "--self-test")
    assert answer.code == 2
    assert "as it is" in answer.err


def test_what_cannot_be_mutated_or_run_is_said(
    edgeattn: Command, made_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert edgeattn("parity", tmp_path / "nosuch", "--self-test").code == 2
    monkeypatch.setattr(mutation.EDITORS, "beside", mutation.EDITORS.names)
    answer = edgeattn("parity", made_bundle, "--self-test")
    assert answer.code == 3
    assert "cannot be mutated" in answer.err


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_nothing_sound_is_killed(number: int) -> None:
    """A sample of `make bench-sound`."""
    found = sound.check(number)
    assert found.passed, found
    assert found.noise_units.keys() == FORMATS


def test_the_sample_of_sound_configurations_is_broad() -> None:
    some = [sound.configuration(number) for number in range(200)]
    assert some == [sound.configuration(number) for number in range(200)]
    assert {c.pixels for c in some} == {1, 2, 4, 9}
    assert min(c.embed_dim for c in some) <= 2
    assert max(c.embed_dim for c in some) >= 128
