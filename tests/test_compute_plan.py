"""Core ML's compute plan as an answer to who runs what: coremltools itself, with a stand-in for Core ML below it."""

import platform
from collections.abc import Callable
from pathlib import Path

import apple
import pytest
from conftest import Answer
from coremltools.models import compute_plan, model

PACKAGE = "attention-fp32.mlpackage"


def test_the_plan_says_who_runs_what(
    made_bundle: Path, edgeattn: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(apple, "ORIGINAL", [made_bundle / PACKAGE])
    for module in (model, compute_plan):
        monkeypatch.setattr(module, "_MLModelProxy", apple.Framework)
    monkeypatch.setattr(model, "_macos_version", lambda: (15, 0))
    answer = edgeattn("inspect", made_bundle / PACKAGE, "--backends", "--json")
    assert answer.code == 0, answer.err
    shares = {share["backend"]: share for share in answer.document["backends"]}
    assert shares["coreml, CPU only"]["left"] == []
    for name in ("coreml, CPU and GPU", "coreml, CPU and Neural Engine", "coreml, all"):
        (left,) = shares[name]["left"]
        assert (left["kind"], left["reason"]) == ("softmax", "only the CPU supports it")
        assert shares[name]["taken"] == shares["coreml, CPU only"]["taken"] - 1
        assert shares[name]["partitions"] == 2
        assert "no trace" in shares[name]["note"]
    limits = ("--max-fallback", "Neural Engine=0", "--json")
    assert edgeattn("inspect", made_bundle / PACKAGE, *limits).code == 1
    monkeypatch.setattr(apple.Framework, "plans", False)
    answer = edgeattn("inspect", made_bundle / PACKAGE, "--backends", "--json")
    assert all(share["taken"] is None for share in answer.document["backends"])
    assert "has no compute plan" in answer.document["backends"][0]["note"]
