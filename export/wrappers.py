"""What training puts around the tensors of a model: the dicts of a checkpoint, and prefixes of all keys."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgeattn.errors import BadInputError
from edgeattn.export.source import kinds
from edgeattn.system.notes import note

# Names under which checkpoints keep a model's state_dict; the last ones keep an average of it over the training (EMA).
_DICTS = (
    "state_dict", "model_state_dict", "model", "module", "net",
    "ema", "model_ema", "state_dict_ema", "ema_state_dict",
)  # fmt: skip
_DEEPEST = 3
# Data parallelism; torch.compile.
_PREFIXES = ("module.", "_orig_mod.")
# A LightningModule's own name for the model that it trains; only in a file of Lightning is it a wrapper.
_LIGHTNING_PREFIXES = ("model.", "net.")
_LIGHTNING = "pytorch-lightning_version"
# torch.optim.swa_utils.AveragedModel counts here what it has averaged, beside the keys of its module.
_COUNTER = "n_averaged"


def take_off(found: object, path: Path) -> dict[str, Tensor]:
    """The state_dict in what ``path`` held; a line on stderr says what was around it.

    Raises:
        BadInputError: there is none, or more than one.
    """
    states = _states(_tensors(found))
    if not states:
        raise BadInputError(f"{path} holds no state_dict (tensors by name)")
    if len(states) > 1:
        raise BadInputError(f"{path} holds {' and '.join(states)}: more than one state_dict; save one of them alone")
    name, state = next(iter(states.items()))
    for key, tensor in state.items():
        if reason := kinds.unusable(tensor):
            raise BadInputError(f"{key} in {path} {reason}")
    lightning = isinstance(found, dict) and _LIGHTNING in found
    if _is_average(state):
        state = {key: value for key, value in state.items() if key != _COUNTER}
    prefix = _common_prefix(state, _PREFIXES + (_LIGHTNING_PREFIXES if lightning else ()))
    around = [*([f"from {name}"] if name else []), *([f"without the prefix {prefix}"] if prefix else [])]
    if around:
        note(f"the weights of {path} were taken {', '.join(around)}")
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _tensors(found: object, depth: int = 0) -> object:
    """The same dicts with numpy's arrays of numbers as tensors."""
    if isinstance(found, np.ndarray) and found.dtype.kind in "biuf":
        return torch.from_numpy(np.array(found))
    if isinstance(found, dict) and depth <= _DEEPEST:
        return {key: _tensors(value, depth + 1) for key, value in found.items()}
    return found


def fitted(state: dict[str, Tensor], expected: Collection[str], path: Path | None) -> dict[str, Tensor]:
    """The tensors without a prefix of all their names, of any kind, where a module has those without it and none with
    it; a line on stderr says so."""
    rest = state
    while rest and not rest.keys() & set(expected):
        rest = without_prefix(rest)
    if not rest or rest is state:
        return state
    prefix = next(iter(state)).removesuffix(next(iter(rest)))
    note(f"the weights of {path} were taken without the prefix {prefix}")
    return rest


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the first part of their names, where it is the same in all; none if it is not."""
    heads = {key.partition(".")[0] for key in state if "." in key}
    if len(heads) != 1 or not all("." in key for key in state):
        return {}
    return {key.partition(".")[2]: value for key, value in state.items()}


def put_back(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the wrappers that a module has of its own, by its ``expected`` tensors, if only they miss."""
    average = _is_average(expected)
    prefix = _common_prefix(
        (key for key in expected if not average or key != _COUNTER), _PREFIXES + _LIGHTNING_PREFIXES
    )
    own = {_COUNTER: expected[_COUNTER]} if average else {}
    if any(prefix + key in expected for key in state):
        return {**own, **{prefix + key: value for key, value in state.items()}}
    return {**own, **state}


def refuse_two(state: Mapping[str, Tensor], path: Path | None) -> None:
    """Say so where the keys are of two models, as of a student and its teacher.

    Raises:
        BadInputError: they are.
    """
    if all(any(key.startswith(prefix) for key in state) for prefix in _LIGHTNING_PREFIXES):
        names = " and ".join(_LIGHTNING_PREFIXES)
        raise BadInputError(f"{path} holds {names}: the keys of two models; save the state_dict of one of them alone")


def _is_average(state: Mapping[str, Tensor]) -> bool:
    return _COUNTER in state and all(key == _COUNTER or key.startswith("module.") for key in state)


def _states(found: object, depth: int = 0) -> dict[str, dict[str, Tensor]]:
    """All state_dicts, by their names in the dicts around them, which dots join."""
    if not isinstance(found, dict) or not found or depth > _DEEPEST:
        return {}
    if all(isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()):
        return {"": found}
    return {
        f"{name}.{inner}".rstrip("."): state
        for name in _DICTS
        for inner, state in _states(found.get(name), depth + 1).items()
    }


def _common_prefix(keys: Iterable[str], prefixes: tuple[str, ...]) -> str:
    """Of these prefixes, those that all keys begin with, one after the other."""
    keys, prefix = list(keys), ""
    while keys and (nexts := [p for p in prefixes if all(key.startswith(prefix + p) for key in keys)]):
        prefix += nexts[0]
    return prefix
