"""What is exported: a sample model, or a factory in the user's own file, with arguments and weights."""

import contextlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError, EdgeAttnError
from edgeattn.export import hub
from edgeattn.export.user_code import contained
from edgeattn.export.weights import load_weights, read_weights
from edgeattn.sample_models import MODELS
from edgeattn.sample_models._checkpoints import Checkpoint
from edgeattn.system.vendor_errors import first_line


@dataclass(frozen=True)
class Evaluation:
    """Labelled inputs: ``inputs`` [n, ...], one a row, for the model's only input, and their classes ``labels`` [n]."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Source:
    """A module in evaluation mode with named example inputs, and what it makes of them, by name.

    ``calibration`` [n, ...] are unlabelled inputs for its only input, to calibrate int8 on.
    """

    name: str
    arguments: dict[str, Any]
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    preprocessing: dict[str, Any] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    calibration: Tensor | None = None


def load(
    model: str,
    arguments: Sequence[str] = (),
    *,
    weights: Path | None = None,
    input_shapes: Sequence[str] = (),
    seed: int = 0,
) -> Source:
    """Build the model that ``model`` names; random weights and inputs come from ``seed``.

    Raises:
        BadInputError: in one sentence, whatever is wrong with what was given.
    """
    name, build = _factory(model)
    parsed = parse_arguments(build, arguments, model=name)
    state, preprocessing = None, {}
    if weights is not None:
        if hub.is_name(str(weights)):
            weights = hub.fetch(str(weights))
        state = read_weights(weights)
        checkpoint = _recognised(model, state)
        if checkpoint is not None:
            state = checkpoint.state
            preprocessing = {"source": checkpoint.source, **checkpoint.preprocessing}
            parsed = {**checkpoint.arguments, **parsed}
    with contained():
        torch.manual_seed(seed)
        built = _call(build, parsed, name)
        module, inputs, labelled = _unpack(built, name)
        if input_shapes:
            inputs = tuple(torch.randn(_shape(text)) for text in input_shapes)
        if inputs is None:
            raise BadInputError(
                f"{name} gave a module without example inputs; return (module, inputs) or give --input-shape 1,3,64,64"
            )
        if state is not None:
            load_weights(module, state, weights)
        module = module.eval()
        named = _name_inputs(module, inputs)
        outputs = _name_outputs(module, named)
    evaluation = calibration = None
    if labelled is not None:
        evaluation = _evaluation(labelled, named, outputs, name)
        preprocessing = preprocessing or dict(labelled.get("preprocessing") or {})
        calibration = _calibration(labelled, evaluation, name)
    return Source(name, parsed, module, named, outputs, preprocessing, evaluation, calibration)


def parse_arguments(build: Callable[..., Any], arguments: Sequence[str], *, model: str) -> dict[str, Any]:
    """``K=V`` texts as the keyword arguments of ``build``, each in the type that its annotation or default says."""
    parameters = inspect.signature(build).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    result: dict[str, Any] = {}
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadInputError(f"--arg takes K=V, not {text!r}")
        if key not in parameters and not open_ended:
            known = ", ".join(parameters) or "none"
            raise BadInputError(f"{model} has no argument {key!r}; it takes: {known}")
        result[key] = _value(key, value, parameters.get(key))
    return result


def _value(key: str, text: str, parameter: inspect.Parameter | None) -> Any:
    kinds: tuple[Any, ...] = ()
    if parameter is not None and parameter.annotation is not parameter.empty:
        kind = parameter.annotation
        if isinstance(kind, str):
            kind = {"int": int, "float": float, "bool": bool, "str": str}.get(kind, str)
        kinds = get_args(kind) or (kind,)
    elif parameter is not None and parameter.default not in (parameter.empty, None):
        kinds = (type(parameter.default),)
    else:
        kinds = (int, float, bool, str)
    for kind in kinds:
        if kind is bool and text.lower() in ("true", "false", "1", "0"):
            return text.lower() in ("true", "1")
        if kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
        if kind is str:
            return text
    wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise BadInputError(f"argument {key} must be {wanted}, not {text!r}")


def _recognised(model: str, state: dict[str, Tensor]) -> Checkpoint | None:
    """A checkpoint of somebody else's for a sample model, which knows it by its keys."""
    recognise = MODELS.get(model).recognise if model in MODELS.names else None
    return recognise(state) if recognise is not None else None


def _factory(model: str) -> tuple[str, Callable[..., Any]]:
    if ".py:" not in model:
        if model not in MODELS.names:
            known = ", ".join(MODELS.names)
            raise BadInputError(f"there is no sample model {model!r}; choose from {known}, or give FILE.py:FACTORY")
        return model, MODELS.get(model).build
    file, _, function = model.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise BadInputError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"_edgeattn_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInputError(f"{path} cannot be imported")
    namespace = importlib.util.module_from_spec(spec)
    # As when a script is run: its folder is importable, and dataclasses find their module.
    sys.modules[spec.name] = namespace
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        with contained():
            spec.loader.exec_module(namespace)
    except (Exception, SystemExit) as error:
        raise BadInputError(f"{path} failed on import: {type(error).__name__}: {first_line(error)}") from error
    finally:
        sys.path.pop(0)
    build = getattr(namespace, function, None)
    if not callable(build):
        raise BadInputError(f"{path} has no function {function!r}")
    return function, build


def _call(build: Callable[..., Any], arguments: dict[str, Any], name: str) -> Any:
    try:
        return build(**arguments)
    except EdgeAttnError:
        raise
    except (Exception, SystemExit) as error:
        raise BadInputError(f"{name} failed: {type(error).__name__}: {first_line(error)}") from error


def _unpack(built: Any, name: str) -> tuple[nn.Module, Any, Any]:
    """(module, inputs or None, evaluation or None), of what a factory gave."""
    parts = built if isinstance(built, tuple) and len(built) in (2, 3) else (built,)
    module, inputs, labelled = (*parts, None, None)[:3]
    if not isinstance(module, nn.Module):
        raise BadInputError(f"{name} returned {type(module).__name__}, not a torch.nn.Module")
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    tensors = list(inputs.values()) if isinstance(inputs, dict) else inputs
    if tensors is not None and not (tensors and all(isinstance(t, Tensor) for t in tensors)):
        raise BadInputError(f"{name} must give its example inputs as a tensor, or a tuple or dict of tensors")
    return module, inputs, labelled


def _evaluation(labelled: Any, inputs: dict[str, Tensor], outputs: dict[str, Tensor], name: str) -> Evaluation:
    """The labelled inputs that a factory gave, as far as they fit the model: one input, and logits as first output."""
    example, logits = next(iter(inputs.values())), next(iter(outputs.values()))
    if len(inputs) != 1 or example.shape[:1] != (1,) or logits.dim() != 2 or len(logits) != 1:
        raise BadInputError(f"{name} cannot be evaluated: that needs one input of batch 1, and logits [1, classes]")
    found = labelled if isinstance(labelled, dict) else {}
    values, labels = found.get("inputs"), found.get("labels")
    if not isinstance(values, Tensor) or not isinstance(labels, Tensor):
        raise BadInputError(f"{name} must give its evaluation as a dict of tensors: inputs and labels")
    try:
        json.dumps(found.get("preprocessing"))
    except (TypeError, ValueError) as error:
        raise BadInputError(f"the preprocessing of {name} must be plain numbers, texts, lists and dicts") from error
    if values.shape[1:] != example.shape[1:] or values.dtype != example.dtype:
        raise BadInputError(
            f"the evaluation inputs of {name} are {list(values.shape[1:])} {values.dtype} each, but the model takes "
            f"{list(example.shape[1:])} {example.dtype}"
        )
    if labels.shape != values.shape[:1] or labels.dtype != torch.int64 or not len(labels):
        raise BadInputError(f"{name} must give one int64 label for each of its evaluation inputs")
    if not bool(((labels >= 0) & (labels < logits.shape[1])).all()):
        raise BadInputError(f"the evaluation labels of {name} must be from 0 to {logits.shape[1] - 1}")
    return Evaluation(values, labels)


def _calibration(labelled: dict[str, Any], evaluation: Evaluation, name: str) -> Tensor | None:
    """The inputs to calibrate on that a factory gave beside its labelled ones."""
    values = labelled.get("calibration")
    if values is None:
        return None
    like = evaluation.inputs
    if (
        not isinstance(values, Tensor)
        or values.shape[1:] != like.shape[1:]
        or values.dtype != like.dtype
        or not len(values)
    ):
        raise BadInputError(
            f"the calibration inputs of {name} must be as its evaluation inputs: {list(like.shape[1:])} each"
        )
    return values


def _shape(text: str) -> list[int]:
    try:
        shape = [int(part) for part in text.split(",")]
    except ValueError:
        shape = []
    if not shape or min(shape) < 1:
        raise BadInputError(f"--input-shape takes positive numbers such as 1,3,256,256, not {text!r}")
    return shape


def _name_inputs(module: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """Inputs by the names of the forward's own parameters."""
    if isinstance(inputs, dict):
        return dict(inputs)
    names = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(names) < len(inputs):
        names = [f"x_{i}" for i in range(len(inputs))]
    return dict(zip(names, inputs, strict=False))


def run(module: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The module's outputs, flat, in order."""
    with torch.no_grad():
        result = module(*inputs.values())
    if isinstance(result, Tensor):
        return (result,)
    if hasattr(result, "to_tuple"):
        result = result.to_tuple()
    values = tuple(result.values()) if isinstance(result, dict) else tuple(result)
    if not all(isinstance(value, Tensor) for value in values):
        raise BadInputError("the module must return a tensor, or a tuple or dict of tensors")
    return values


def _name_outputs(module: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    try:
        values = run(module, inputs)
    except BadInputError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
        raise BadInputError(
            f"the module fails on its example inputs ({shapes}): {type(error).__name__}: {first_line(error)}"
        ) from error
    return {"y": values[0]} if len(values) == 1 else {f"y_{i}": value for i, value in enumerate(values)}
