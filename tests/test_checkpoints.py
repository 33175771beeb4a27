"""Checkpoints of others: transformers' for real, timm's and CVNets' by their keys."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Answer
from safetensors.torch import save_file
from test_models import TransformersModel, lively
from torch import Tensor

from edgeattn.errors import BadInputError
from edgeattn.export import source
from edgeattn.sample_models._checkpoints import recognise
from edgeattn.sample_models.mobilevitv2 import MobileViTv2


@pytest.fixture(scope="module")
def theirs() -> TransformersModel:
    model = lively(TransformersModel(0.75))
    assert isinstance(model, TransformersModel)
    return model


def as_timm(key: str) -> str:
    """Our key as timm writes it, by the naming in its MobileViT source."""
    key = re.sub(r"\b(stem|depthwise|expand|reduce|local\.0|project)\.0\.", r"\1.conv.", key)
    key = re.sub(r"\b(stem|depthwise|expand|reduce|local\.0|project)\.1\.", r"\1.bn.", key)
    key = re.sub(r"layers\.(\d)\.expand\.", r"layers.\1.mlp.fc1.", key)
    key = re.sub(r"layers\.(\d)\.reduce\.", r"layers.\1.mlp.fc2.", key)
    for ours, name in (
        ("layers", "transformer"), ("attention", "attn"), ("norm_attn", "norm1"), ("norm_feed_forward", "norm2"),
        ("local.0", "conv_kxk"), ("local.1", "conv_1x1"), ("project", "conv_proj"), ("classifier", "head.fc"),
        ("expand", "conv1_1x1"), ("depthwise", "conv2_kxk"), ("reduce", "conv3_1x1"),
    ):  # fmt: skip
        key = key.replace(ours, name)
    return re.sub(r"^stages\.0\.", "stages.0.0.", key)


def as_cvnets(key: str) -> str:
    """Our key as CVNets writes it."""
    depth = {"2": 2, "3": 4, "4": 3}
    key = re.sub(r"layers\.(\d)\.norm_attention\.", r"global_rep.\1.pre_norm_attn.0.", key)
    key = re.sub(r"layers\.(\d)\.attention\.(\w+)\.", r"global_rep.\1.pre_norm_attn.1.\2.block.conv.", key)
    key = re.sub(r"layers\.(\d)\.norm_feed_forward\.", r"global_rep.\1.pre_norm_ffn.0.", key)
    key = re.sub(r"layers\.(\d)\.expand\.", r"global_rep.\1.pre_norm_ffn.1.block.conv.", key)
    key = re.sub(r"layers\.(\d)\.reduce\.", r"global_rep.\1.pre_norm_ffn.3.block.conv.", key)
    key = re.sub(r"^stages\.(\d)\.1\.norm\.", lambda m: f"stages.{m[1]}.1.global_rep.{depth[m[1]]}.", key)
    key = re.sub(r"\blocal\.1\.", "local_rep.1.block.conv.", key)
    for ours, name in (
        ("stem", "conv_1"),
        ("local.0", "local_rep.0"),
        ("project", "conv_proj"),
        ("expand", "block.exp_1x1"),
        ("depthwise", "block.conv_3x3"),
        ("reduce", "block.red_1x1"),
    ):
        key = key.replace(f"{ours}.0.", f"{name}.block.conv.").replace(f"{ours}.1.", f"{name}.block.norm.")
    key = re.sub(r"^stages\.0\.", "stages.0.0.", key)
    key = re.sub(r"^stages\.(\d)", lambda m: f"layer_{int(m[1]) + 1}", key)
    return key.replace("classifier.", "classifier.1.")


def logits(module: torch.nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return module(x)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("how", ["safetensors", "bin", "folder"])
def test_transformers_checkpoint(
    theirs: TransformersModel, how: str, dtype: torch.dtype, limit: float, tmp_path: Path
) -> None:
    model = theirs.to(dtype)
    model.model.save_pretrained(tmp_path / "saved")
    path = {"folder": tmp_path / "saved", "safetensors": tmp_path / "saved" / "model.safetensors"}.get(how)
    if path is None:
        path = tmp_path / "pytorch_model.bin"
        torch.save(model.model.state_dict(), path)
    loaded = source.load("mobilevitv2", ["image_size=64"], weights=path)
    assert loaded.arguments == {"width": 0.75, "num_classes": 10, "image_size": 64}
    assert loaded.preprocessing.source == "transformers"
    assert loaded.preprocessing.channels == "BGR"
    x = torch.randn(2, 3, 64, 64, dtype=dtype)
    expected = logits(model, x)
    # Scaled, since random weights may give logits of any size.
    error = (logits(loaded.module.to(dtype), x) - expected).abs().max() / max(1.0, float(expected.abs().max()))
    assert error <= limit
    theirs.double()


@pytest.mark.parametrize(("name", "rename"), [("timm", as_timm), ("cvnets", as_cvnets)])
def test_names_of_timm_and_cvnets(name: str, rename: Callable[[str], str]) -> None:
    model = lively(MobileViTv2(0.5, 7)).float()
    state = {rename(key): value for key, value in model.state_dict().items()}
    known = {
        "timm": "stages.2.1.transformer.0.attn.qkv_proj.weight",
        "cvnets": "layer_3.1.global_rep.0.pre_norm_attn.1.qkv_proj.block.conv.weight",
    }
    assert known[name] in state
    found = recognise(state)
    assert found is not None
    assert (found.source, found.arguments) == (name, {"width": 0.5, "num_classes": 7})
    assert found.state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, found.state[key]) for key, value in model.state_dict().items())
    assert found.preprocessing["channels"] == "RGB"


def test_our_own_state_dict_is_no_foreign_one() -> None:
    assert recognise(MobileViTv2(0.5, 7).state_dict()) is None


def test_a_missing_and_an_extra_key_are_named(tmp_path: Path) -> None:
    state = {as_timm(key): value.clone() for key, value in MobileViTv2(0.5, 7).state_dict().items()}
    gone = state.pop("stages.2.1.transformer.0.attn.qkv_proj.bias")
    state["stages.2.1.more.weight"] = gone
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(BadInputError) as error:
        source.load("mobilevitv2", ["image_size=64"], weights=tmp_path / "w.safetensors")
    assert "missing stages.2.1.layers.0.attention.qkv_proj.bias" in str(error.value)
    assert "extra stages.2.1.more.weight" in str(error.value)


def test_a_checkpoint_without_a_classifier_is_refused_or_taken_in_part(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    state = {as_timm(k): v.clone() for k, v in MobileViTv2(0.5, 7).state_dict().items() if "classifier" not in k}
    save_file(state, path)
    with pytest.raises(BadInputError, match=r"missing classifier\.bias, classifier\.weight; --partial loads"):
        source.load("mobilevitv2", ["image_size=64"], weights=path)
    made = source.load("mobilevitv2", ["image_size=64", "num_classes=3"], weights=path, partial=True)
    assert made.notes == (f"only a part of {path} was loaded; not in the file classifier.bias, classifier.weight",)
    assert made.arguments["width"] == 0.5
    assert made.outputs["y"].shape == (1, 3)
    assert torch.equal(made.module.state_dict()["stem.0.weight"], state["stem.conv.weight"])
    save_file({"stages.0.0.conv1_1x1.conv.weight": torch.ones(1)}, path)
    with pytest.raises(BadInputError, match="has no classifier"):
        source.load("mobilevitv2", weights=path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"neither model\.safetensors nor"):
        source.load("mobilevitv2", weights=tmp_path)


def test_export_of_a_checkpoint(theirs: TransformersModel, edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    state = {key: value.float().contiguous() for key, value in theirs.model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    options = ("--arg", "image_size=64", "--format", "onnx", "--json")
    answer = edgeattn(
        "export", "mobilevitv2", *options, "--weights", tmp_path / "w.safetensors", "--out", tmp_path / "b"
    )  # fmt: skip
    assert answer.code == 0, answer.err
    manifest = answer.document["manifest"]
    assert manifest["preprocessing"]["source"] == "transformers"
    assert manifest["arguments"]["width"] == 0.75


def test_preprocessing_is_in_every_file(edgeattn: Callable[..., Answer], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    lively(TransformersModel(0.5)).float().model.save_pretrained(folder)
    out = tmp_path / "b"
    answer = edgeattn("export", "mobilevitv2", "--weights", folder, "--arg", "image_size=64", "--out", out, "--json")
    assert answer.code == 0, answer.err
    expected = answer.document["manifest"]["preprocessing"]
    assert expected["source"] == "transformers"
    for suffix in ("onnx", "tflite", "mlpackage"):
        found = edgeattn("inspect", out / f"mobilevitv2-fp32.{suffix}", "--json").document
        assert json.loads(found["details"]["metadata"]["edgeattn.preprocessing"]) == expected


def test_hub_names(edgeattn: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cache"
    lively(TransformersModel(0.5)).float().model.save_pretrained(folder)
    asked = []

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    options = ("--arg", "image_size=64", "--format", "onnx", "--out", "b")
    answer = edgeattn("export", "mobilevitv2", "--weights", "some/model@v2", *options)
    assert answer.code == 0, answer.err
    assert asked == [("some/model", "model.safetensors", "v2")]

    def offline(repository: str, file: str, revision: str | None) -> str:
        raise errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    answer = edgeattn("export", "mobilevitv2", "--weights", "some/model", *options, "--force")
    assert answer.code == 2
    assert "hub cannot be reached" in answer.err
    answer = edgeattn("export", "mobilevitv2", "--weights", "some/model.pt", *options, "--force")
    assert answer.code == 2
    assert "there is no weights file" in answer.err

    monkeypatch.setattr("edgeattn.system.plugins.find_spec", lambda name: None if "hub" in name else True)
    answer = edgeattn("export", "mobilevitv2", "--weights", "some/model", *options, "--force")
    assert answer.code == 3
    assert "pip install 'edgeattn[hub]'" in answer.err
