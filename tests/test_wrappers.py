"""What people have around a state_dict is taken off, and said; what could be two models is refused."""

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_checkpoints import as_cvnets
from test_dense_heads import run
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export import source
from edgeattn.export.weights import load_weights, read_weights
from edgeattn.sample_models.mobilevitv2 import build

State = dict[str, Tensor]
LIGHTNING = {
    "epoch": 3,
    "global_step": 12,
    "pytorch-lightning_version": "2.5.0",
    "loops": {"fit_loop": {"state_dict": {}}},
}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def read(found: Any, folder: Path) -> State:
    torch.save(found, folder / "w.ckpt")
    return read_weights(folder / "w.ckpt")


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


WRAPPERS: dict[str, tuple[Callable[[State], Any], str]] = {
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, "from state_dict"),
    "model": (lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}, "from model"),
    "cvnets": (lambda s: {"model_state_dict": s, "iterations": 7}, "from model_state_dict"),
    "module": (lambda s: {"module": s}, "from module"),
    "ema": (lambda s: {"ema": s}, "from ema"),
    "model_ema": (lambda s: {"model_ema": s}, "from model_ema"),
    "state_dict_ema": (lambda s: {"state_dict_ema": s}, "from state_dict_ema"),
    "cvnets_ema": (lambda s: {"ema_state_dict": s}, "from ema_state_dict"),
    "nested": (lambda s: {"ema": {"module": s, "decay": 0.99}}, "from ema.module"),
    "a model's settings": (lambda s: {"model": {"width": 1.0}, "state_dict": s}, "from state_dict"),
    "data parallel": (lambda s: prefixed(s, "module."), "without the prefix module."),
    "compiled": (lambda s: prefixed(s, "_orig_mod."), "without the prefix _orig_mod."),
    "both": (lambda s: prefixed(s, "module._orig_mod."), "without the prefix module._orig_mod."),
    "all": (lambda s: {"state_dict": prefixed(s, "module.")}, "from state_dict, without the prefix module."),
    "lightning": (
        lambda s: {**LIGHTNING, "state_dict": prefixed(s, "model.")},
        "from state_dict, without the prefix model.",
    ),
    "lightning net": (
        lambda s: {**LIGHTNING, "state_dict": prefixed(s, "net._orig_mod.")},
        "from state_dict, without the prefix net._orig_mod.",
    ),
    "lightning alone": (lambda s: {**LIGHTNING, "state_dict": s}, "from state_dict"),
    "average": (lambda s: {"n_averaged": torch.tensor(9), **prefixed(s, "module.")}, "without the prefix module."),
    "ordered": (lambda s: {"state_dict": OrderedDict(s)}, "from state_dict"),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_is_taken_off_and_said(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrap, said = WRAPPERS[name]
    state = net().state_dict()
    assert same(read(wrap(state), tmp_path), state)
    assert capsys.readouterr() == ("", f"edgeattn: the weights of {tmp_path / 'w.ckpt'} were taken {said}\n")


def test_a_plain_state_dict_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = net().state_dict()
    assert same(read(state, tmp_path), state)
    # `model.` is a wrapper in a file of Lightning alone: elsewhere it may be the module's own.
    assert same(read(prefixed(state, "model."), tmp_path), prefixed(state, "model."))
    assert capsys.readouterr() == ("", "")


def test_pytorchs_own_wrappers(tmp_path: Path) -> None:
    module = net()
    wrapped = (nn.DataParallel(module), torch.compile(module), torch.optim.swa_utils.AveragedModel(module))
    for wrapper in wrapped:
        assert same(read(wrapper.state_dict(), tmp_path), module.state_dict())


def test_safetensors_have_prefixes_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = net().state_dict()
    save_file(prefixed(state, "module."), tmp_path / "w.safetensors")
    assert same(read_weights(tmp_path / "w.safetensors"), state)
    assert "without the prefix module." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("model_state_dict", "ema_state_dict"), lambda s: {"model_state_dict": s, "ema_state_dict": s, "epoch": 1}),
        (("state_dict", "state_dict_ema"), lambda s: {"state_dict": s, "state_dict_ema": s}),
        (("model", "model_ema"), lambda s: {"model": s, "model_ema": s, "args": None}),
        (("ema.model", "ema.module"), lambda s: {"ema": {"model": s, "module": s}}),
    ],
)
def test_two_candidates_are_refused(names: tuple[str, str], found: Callable[[State], Any], tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as error:
        read(found(net().state_dict()), tmp_path)
    assert f"holds {names[0]} and {names[1]}: more than one state_dict" in str(error.value)
    assert "\n" not in str(error.value)


def recursive() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found.update(model=found, state_dict=found, ema=found)
    return found


@pytest.mark.parametrize(
    "found",
    [{}, {"state_dict": {}}, {"model": {"width": 1.0}}, {"weights": {"x": torch.ones(1)}}, [torch.ones(1)], 3,
     {"state_dict": {"x": torch.ones(1), "y": 2}}, {0: torch.ones(1)}, torch.ones(1), recursive()],
)  # fmt: skip
def test_what_holds_no_state_dict_is_refused(found: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"holds no state_dict \(tensors by name\)"):
        read(found, tmp_path)


class Wrapper(nn.Module):
    """A user's module with an attribute that is also the name of a wrapper."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, net())


@pytest.mark.parametrize("name", ["module", "model", "net", "_orig_mod"])
@pytest.mark.parametrize("wrap", ["state_dict", "data parallel", "compiled", "lightning", "lightning alone", "average"])
def test_a_modules_own_prefix_is_no_wrapper(name: str, wrap: str, tmp_path: Path) -> None:
    module = Wrapper(name)
    expected = {key: value + 1 for key, value in module.state_dict().items()}
    load_weights(module, read(WRAPPERS[wrap][0](expected), tmp_path), tmp_path)
    assert same(module.state_dict(), expected)


@pytest.mark.parametrize("wrap", ["state_dict", "data parallel", "lightning"])
def test_an_average_may_be_the_module_itself(wrap: str, tmp_path: Path) -> None:
    module = torch.optim.swa_utils.AveragedModel(net())
    expected = {key: value + 1 for key, value in net().state_dict().items()}
    own = {"n_averaged": torch.tensor(0), **prefixed(expected, "module.")}
    for state in (own, WRAPPERS[wrap][0](expected), WRAPPERS[wrap][0](own)):
        load_weights(module, read(state, tmp_path), tmp_path)
        assert same(module.state_dict(), own)


def test_two_models_of_lightning_are_refused(tmp_path: Path) -> None:
    state = net().state_dict()
    found = {**LIGHTNING, "state_dict": {**prefixed(state, "model."), **prefixed(state, "net.")}}
    with pytest.raises(BadInputError, match=r"holds model\. and net\.: the keys of two models; save the state_dict of"):
        load_weights(net(), read(found, tmp_path), tmp_path / "w.ckpt")

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.net = net(), net()

    load_weights(Both(), read(found, tmp_path), tmp_path / "w.ckpt")


def test_the_prefix_of_another_model_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"missing model\.0\.bias, .*; extra head\.weight$"):
        load_weights(Wrapper("model"), read({"head.weight": torch.ones(1)}, tmp_path), tmp_path)


def test_a_checkpoint_of_cvnets_in_wrappers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way: CVNets' training checkpoint of several devices, recognised below its wrappers."""
    torch.manual_seed(5)
    module = build(width=0.5, image_size=64, num_classes=7)[0]
    state = {f"module.{as_cvnets(key)}": value for key, value in module.state_dict().items()}
    torch.save({"model_state_dict": state, "iterations": 10, "epoch": 1}, tmp_path / "w.pt")
    loaded = source.load("mobilevitv2", ["image_size=64"], weights=tmp_path / "w.pt")
    assert loaded.preprocessing.source == "cvnets"
    assert loaded.arguments == {"width": 0.5, "num_classes": 7, "image_size": 64}
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(*run(module, x), *run(loaded.module, x))
    assert "taken from model_state_dict, without the prefix module." in capsys.readouterr().err


BESIDE: dict[str, Callable[[State], Any]] = {
    "numbers of numpy": lambda s: {"state_dict": s, "epoch": np.float64(3), "best": np.int64(4)},
    "an array": lambda s: {"state_dict": s, "lr": np.linspace(0, 1, 3)},
    "options": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1, out=Path("x"))},
    "random states": lambda s: {"state_dict": s, "random": np.random.RandomState(0).get_state()},
}


@pytest.mark.parametrize("kind", BESIDE)
def test_what_stands_beside_the_tensors(kind: str, tmp_path: Path) -> None:
    state = net().state_dict()
    assert same(read(BESIDE[kind](state), tmp_path), state)


def test_arrays_are_tensors(tmp_path: Path) -> None:
    state = net().state_dict()
    assert same(read({key: value.numpy() for key, value in state.items()}, tmp_path), state)


class Code:
    def __reduce__(self) -> Any:
        return print, ("this ran",)


def test_code_is_named_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInputError, match=r"or is damaged and was not loaded \(it names print\); save"):
        read({"state_dict": net().state_dict(), "hook": Code()}, tmp_path)
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.pth.tar", "w", "w.pt.tar"])
@pytest.mark.parametrize("legacy", [True, False])
def test_other_endings_and_the_older_format(name: str, legacy: bool, tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    assert same(read_weights(tmp_path / name), state)


def test_torchscript_is_named(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(net().eval(), torch.zeros(1, 3, 4, 4)), tmp_path / "w.pt")
    with pytest.raises(BadInputError, match=r"w\.pt is TorchScript: save the state_dict of the module"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.to("meta"), "is on the meta device"),
        (lambda x: x.to_sparse(), "is sparse"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "is quantised already"),
        (lambda x: x.to(torch.complex64), "is complex"),
        (lambda x: x * torch.nan, "has NaN values"),
        (lambda x: (x * 100).to(torch.int8), "is int8, and the model needs floats"),
    ],
)
def test_tensors_that_cannot_be_weights(change: Callable[[Tensor], Tensor], said: str, tmp_path: Path) -> None:
    state = net().state_dict()
    with pytest.raises(BadInputError, match=rf"^0\.weight in .*w\.ckpt {said}"):
        load_weights(net(), read({**state, "0.weight": change(state["0.weight"])}, tmp_path), tmp_path / "w.ckpt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_float_type(dtype: torch.dtype, tmp_path: Path) -> None:
    module = net()
    low = {key: value.to(dtype) if value.is_floating_point() else value for key, value in module.state_dict().items()}
    load_weights(module, read(low, tmp_path), tmp_path)
    assert torch.equal(module[0].weight, low["0.weight"].float())
    assert module[0].weight.dtype == torch.float32


def test_any_common_prefix_is_taken_off_where_the_rest_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = net()
    expected = {key: value + 1 for key, value in module.state_dict().items()}
    load_weights(module, read(prefixed(expected, "model.backbone."), tmp_path), tmp_path)
    assert same(module.state_dict(), expected)
    assert "without the prefix model.backbone." in capsys.readouterr().err


def test_a_part_is_loaded_if_asked_and_the_rest_is_named(tmp_path: Path) -> None:
    module, path = net(), tmp_path / "w.ckpt"
    state = {key: value + 1 for key, value in module.state_dict().items()}
    head = state.pop("1.weight")
    given = {**state, "1.bias": torch.ones(7), "criterion.weight": head}
    with pytest.raises(BadInputError, match=r"missing 1\.weight; extra criterion\.weight; --partial loads the others$"):
        load_weights(module, read(given, tmp_path), path)
    with pytest.raises(BadInputError, match=r"^1\.bias in .* has shape \[7\], but the model needs \[4\]; --partial"):
        load_weights(module, {**state, "1.weight": head, "1.bias": torch.ones(7)}, path)
    before = module[1].bias.clone()
    (note,) = load_weights(module, read(given, tmp_path), path, partial=True)
    assert note == (
        f"only a part of {path} was loaded; not in the file 1.weight; of another shape there 1.bias; "
        "there too many criterion.weight"
    )
    assert torch.equal(module[0].weight, state["0.weight"])
    assert torch.equal(module[1].bias, before)
    with pytest.raises(BadInputError, match="are not of this model"):
        load_weights(module, {"other.weight": head}, path, partial=True)
