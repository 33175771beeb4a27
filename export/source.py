"""The model to export: a sample model, a factory in the user's own file, or a module in memory."""

import contextlib
import copy
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
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

# The arguments of a module: a tensor, several in order, or several by the names of forward's parameters.
Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
# Names become parts of file names.
_NAME = re.compile(r"\w[\w.-]{0,99}")


@dataclass(frozen=True)
class Evaluation:
    """Labelled inputs: ``inputs`` [n, ...], one a row, for the model's only input, and their classes ``labels`` [n]."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Source:
    """A module in evaluation mode with its example inputs and outputs by name.

    ``calibration`` [n, ...] are unlabelled inputs for its only input, to calibrate int8 on. ``cases`` are more inputs
    to check parity on, each as ``inputs``.
    """

    name: str
    arguments: dict[str, Any]
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    preprocessing: dict[str, Any] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    calibration: Tensor | None = None
    cases: dict[str, dict[str, Tensor]] = field(default_factory=dict)


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
        BadInputError: an argument cannot be used; one sentence says why.
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
        preprocessing = preprocessing or _preprocessing(labelled.get("preprocessing"), name)
        calibration = _calibration(labelled.get("calibration"), named, name)
    return Source(name, parsed, module, named, outputs, preprocessing, evaluation, calibration)


def from_module(
    module: nn.Module,
    inputs: Inputs,
    *,
    name: str | None = None,
    evaluation: tuple[Tensor, Tensor] | None = None,
    calibration: Tensor | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    cases: Mapping[str, Inputs] | None = None,
) -> Source:
    """Copy ``module``, on the CPU and in evaluation mode, and all tensors: the arguments are not changed.

    ``name`` is by default the class's name; ``evaluation`` are inputs [n, ...] and their classes [n], int64.

    Raises:
        BadInputError: an argument cannot be used; one sentence says why.
    """
    if not isinstance(module, nn.Module):
        raise BadInputError(f"{module!r:.60} is no torch.nn.Module: give a module, and its example inputs")
    module = _unwrapped(module)
    name = re.sub(r"[^\w.-]", "_", type(module).__name__).lstrip(".-") if name is None else name
    for what in (name, *(cases or ())):
        if not _NAME.fullmatch(what):
            raise BadInputError(f"{what!r:.120} cannot name a file: use letters, digits, and then _, . or -")
    with contained():
        try:
            module = copy.deepcopy(module).cpu().eval()
        except Exception as error:  # a module may hold anything
            raise BadInputError(f"{name} cannot be copied: {type(error).__name__}: {first_line(error)}") from error
        named = _name_inputs(module, _copies(inputs, name))
        outputs = _name_outputs(module, named)
        more_cases = {
            case: _name_inputs(module, _copies(case_inputs, case)) for case, case_inputs in (cases or {}).items()
        }
        labelled = None
        if evaluation is not None:
            if not isinstance(evaluation, tuple | list) or len(evaluation) != 2:
                raise BadInputError("evaluation takes two tensors: inputs [n, ...], and their classes [n]")
            values, labels = _copies(evaluation, "evaluation")
            labelled = _evaluation({"inputs": values, "labels": labels}, named, outputs, name)
        if calibration is not None:
            calibration = _calibration(_copies(calibration, "calibrate")[0], named, name)
    return Source(
        name, {}, module, named, outputs, _preprocessing(preprocessing, name), labelled, calibration, more_cases
    )


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module without the wrappers of torch.compile and of data parallelism."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled
        else:
            return module


def _copies(inputs: Inputs, name: str) -> Any:
    """Copies on the CPU, as a tuple or a dict."""

    def copied(x: Tensor) -> Tensor:
        return x.detach().cpu().clone(memory_format=torch.contiguous_format)

    if isinstance(inputs, Mapping):
        return {key: copied(x) for key, x in _example(dict(inputs), name).items()}
    return tuple(map(copied, _example(inputs, name)))


def parse_arguments(build: Callable[..., Any], arguments: Sequence[str], *, model: str) -> dict[str, Any]:
    """``K=V`` texts as the keyword arguments of ``build``, each in the type of its annotation or default."""
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
    """A public checkpoint for a sample model, recognised by its keys; None if it is none."""
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


def _unpack(returned: Any, name: str) -> tuple[nn.Module, Any, Any]:
    """(module, inputs or None, evaluation or None) from a factory's return value."""
    parts = returned if isinstance(returned, tuple) and len(returned) in (2, 3) else (returned,)
    module, inputs, labelled = (*parts, None, None)[:3]
    if not isinstance(module, nn.Module):
        raise BadInputError(f"{name} returned {type(module).__name__}, not a torch.nn.Module")
    return module, None if inputs is None else _example(inputs, name), labelled


def _example(inputs: Any, name: str) -> Any:
    """The inputs as a tuple, list or dict of tensors."""
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    tensors = list(inputs.values()) if isinstance(inputs, dict) else inputs
    if not isinstance(tensors, tuple | list) or not tensors or not all(isinstance(t, Tensor) for t in tensors):
        raise BadInputError(f"{name} must give its example inputs as a tensor, or a tuple or dict of tensors")
    return inputs


def _evaluation(labelled: Any, inputs: dict[str, Tensor], outputs: dict[str, Tensor], name: str) -> Evaluation:
    """The labelled inputs of a factory, checked: the model must have one input, and logits as its first output."""
    example, logits = next(iter(inputs.values())), next(iter(outputs.values()))
    if len(inputs) != 1 or example.shape[:1] != (1,) or logits.dim() != 2 or len(logits) != 1:
        raise BadInputError(f"{name} cannot be evaluated: that needs one input of batch 1, and logits [1, classes]")
    fields = labelled if isinstance(labelled, dict) else {}
    values, labels = fields.get("inputs"), fields.get("labels")
    if not isinstance(values, Tensor) or not isinstance(labels, Tensor):
        raise BadInputError(f"{name} must give its evaluation as a dict of tensors: inputs and labels")
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


def _preprocessing(values: Any, name: str) -> dict[str, Any]:
    """The image preprocessing, checked to fit into the manifest."""
    try:
        json.dumps(values)
        return dict(values or {})
    except (TypeError, ValueError) as error:
        raise BadInputError(f"the preprocessing of {name} must be plain numbers, texts, lists and dicts") from error


def _calibration(values: Any, inputs: dict[str, Tensor], name: str) -> Tensor | None:
    """Calibration inputs, checked to fit the model's only input."""
    if values is None:
        return None
    example = next(iter(inputs.values()))
    fits = isinstance(values, Tensor) and values.shape[1:] == example.shape[1:] and values.dtype == example.dtype
    if not fits or not len(values) or len(inputs) != 1 or len(example) != 1:
        raise BadInputError(f"to calibrate {name}, give one tensor for its only input: {list(example.shape[1:])} each")
    checked: Tensor = values
    return checked


def _shape(text: str) -> list[int]:
    try:
        shape = [int(part) for part in text.split(",")]
    except ValueError:
        shape = []
    if not shape or min(shape) < 1:
        raise BadInputError(f"--input-shape takes positive numbers such as 1,3,256,256, not {text!r}")
    return shape


def _name_inputs(module: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """Inputs by the names of forward's parameters, in their order. A dict with other names stays as it is."""
    names = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if isinstance(inputs, dict):
        first = names[: len(inputs)]
        if not inputs.keys() & set(names):
            return dict(inputs)
        if inputs.keys() != set(first):
            names_in_dict = ", ".join(inputs)
            raise BadInputError(
                f"the module takes {', '.join(names)} in this order; {names_in_dict} are not the first of them"
            )
        return {name: inputs[name] for name in first}
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
    for what, tensors in (("parameters", [*module.parameters()]), ("inputs", [*inputs.values()])):
        for tensor in tensors:
            # The reference is computed in float32 and float64; lower precisions are made from it.
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                raise BadInputError(
                    f"the module's {what} are {tensor.dtype}: give it in float32, as module.float() does"
                )
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
