"""The function that builds a model: a sample model's, one in the user's own file, or one that reads a program."""

import contextlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import nn
from torch.export import ExportedProgram

from edgeattn.errors import BadInputError, EdgeAttnError
from edgeattn.export.source import programs
from edgeattn.export.user_code import contained
from edgeattn.sample_models import MODELS
from edgeattn.system.vendor_errors import first_line


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


def name_of(model: str) -> str:
    """The name of the model that ``model`` names, and of its files."""
    if model.endswith(programs.SUFFIX):
        return file_name(Path(model).stem)
    return model.rpartition(":")[2]


def file_name(name: str) -> str:
    """``name`` without what a file name cannot hold."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".-")


def find(model: str) -> Callable[..., Any]:
    """The function that builds the model.

    Raises:
        BadInputError: there is no such model, file or function, or the file fails on import.
    """
    if model.endswith(programs.SUFFIX):
        if not Path(model).is_file():
            raise BadInputError(f"there is no file {model}")
        return lambda: programs.read(Path(model))
    if ".py:" not in model:
        if model not in MODELS.names:
            known = ", ".join(MODELS.names)
            raise BadInputError(
                f"there is no sample model {model!r}; choose from {known}, or give FILE.py:FACTORY or FILE.pt2"
            )
        return MODELS.get(model).build
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
    return build  # type: ignore[no-any-return]


def call(build: Callable[..., Any], arguments: dict[str, Any], name: str) -> Any:
    try:
        return build(**arguments)
    except EdgeAttnError:
        raise
    except (Exception, SystemExit) as error:
        raise BadInputError(f"{name} failed: {type(error).__name__}: {first_line(error)}") from error


def unpack(returned: Any, name: str) -> tuple[nn.Module | ExportedProgram, Any, Any]:
    """(module, inputs or None, evaluation or None) from a factory's return value."""
    parts = returned if isinstance(returned, tuple) and len(returned) in (2, 3) else (returned,)
    module, inputs, labelled = (*parts, None, None)[:3]
    if not isinstance(module, nn.Module | ExportedProgram):
        raise BadInputError(f"{name} returned {type(module).__name__}, not a torch.nn.Module")
    return module, inputs, labelled
