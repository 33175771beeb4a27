"""Execution providers of onnxruntime, built in or plug-ins: what they take, and what is said where there is none."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import Answer

from edgeattn.bundle import records
from edgeattn.errors import BadInputError, MissingError
from edgeattn.runtimes import RUNTIMES, _providers
from edgeattn.runtimes._providers import Provider

Command = Callable[..., Answer]
# In every build for the CPU. It takes no operator of a model: all of them fall back.
AZURE = "onnxruntime AzureExecutionProvider"


def test_what_falls_back_is_counted(made_bundle: Path, edgeattn: Command) -> None:
    file = made_bundle / "attention-fp32.onnx"
    answer = edgeattn("inspect", file, "--backend", AZURE, "--json")
    assert answer.code == 0, answer.err
    [share] = answer.document["backends"]
    assert (share["backend"], share["taken"], share["partitions"]) == (AZURE, 0, 0)
    assert {left["reason"] for left in share["left"]} == {"CPUExecutionProvider runs it"}
    [own] = edgeattn("inspect", file, "--backends", "--json").document["backends"]
    assert (own["backend"], own["taken"], own["left"]) == ("onnxruntime", len(share["left"]), [])
    assert edgeattn("inspect", file, "--backend", AZURE, "--max-fallback", "Azure=0").code == 1


def test_parity_and_profile_take_one(made_bundle: Path, tmp_path: Path, edgeattn: Command) -> None:
    answer = edgeattn("parity", made_bundle, "--provider", "AzureExecutionProvider", "--json")
    assert answer.code == 0, answer.err
    assert {row["runtime"] for row in answer.document["rows"] if row["hop"] == "conversion"} == {AZURE}
    chosen = ("--runs", 3, "--warmup", 1, "--out", tmp_path / "r.json")
    answer = edgeattn("profile", made_bundle, "--provider", "AzureExecutionProvider", *chosen)
    assert answer.code == 0, answer.err
    [record] = records.load(tmp_path / "r.json").records
    assert record.runtime == AZURE
    assert record.parity
    assert record.parity.passed


@pytest.mark.parametrize("command", ["parity", "profile"])
def test_one_that_is_not_here(command: str, made_bundle: Path, edgeattn: Command) -> None:
    answer = edgeattn(command, made_bundle, "--provider", "NoSuchExecutionProvider")
    assert answer.code == 3
    assert "onnxruntime has no provider 'NoSuchExecutionProvider' here, but " in answer.err
    answer = edgeattn(command, made_bundle, "--provider", "AzureExecutionProvider", "--provider-option", "nothing")
    assert answer.code == 2
    assert "KEY=VALUE" in answer.err
    answer = edgeattn(command, made_bundle, "--provider-option", "a=b")
    assert answer.code == 2
    assert "--provider-option needs --provider" in answer.err


def test_names_with_options() -> None:
    assert Provider.parse("") == Provider()
    assert Provider.parse("X a=b c=d=e") == Provider("X", {"a": "b", "c": "d=e"})
    for bad in ("X a", "X =b"):
        with pytest.raises(BadInputError, match="KEY=VALUE"):
            Provider.parse(bad)


def test_a_plug_in_without_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_providers, "_registered", lambda: {"MineExecutionProvider": "onnxruntime-ep-mine"})
    with pytest.raises(MissingError, match=r"MineExecutionProvider \(onnxruntime-ep-mine\) finds no device"):
        Provider("MineExecutionProvider").check()


@pytest.mark.skipif(not find_spec("onnxruntime_ep_openvino"), reason="pip install onnxruntime-ep-openvino")
def test_openvino(made_bundle: Path, edgeattn: Command) -> None:
    """Intel's plug-in, of the MIT licence. It runs on Intel's processors only, and says so elsewhere."""
    answer = edgeattn("parity", made_bundle, "--provider", "OpenVINOExecutionProvider")
    if answer.code == 3:
        assert "OpenVINOExecutionProvider (onnxruntime-ep-openvino) finds no device that it runs on" in answer.err
        return
    assert answer.code == 0, answer.err
    name = "onnxruntime OpenVINOExecutionProvider"
    share = RUNTIMES.get("onnxruntime").share(made_bundle / "attention-fp32.onnx", name.partition(" ")[2])
    assert share.taken > 0
