"""The outputs of a module on its example inputs, flat and by name."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export.source import kinds, names
from edgeattn.system.vendor_errors import first_line


def run(module: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The module's outputs, flat, in order, for copies of its inputs, which it may change."""
    with torch.no_grad():
        return flat(module(*_copies(inputs)))


def _copies(inputs: dict[str, Tensor]) -> list[Tensor]:
    # No part of the module: what watches it is not to see this.
    with torch._C.DisableTorchFunction():
        return [x.clone() for x in inputs.values()]


def flat(result: Any) -> tuple[Tensor, ...]:
    """The tensors in what a module returned, in order, without what is None."""
    return tuple(leaf.tensor for leaf in _leaves(result, ()))


@dataclass(frozen=True)
class _Leaf:
    """A tensor in what a module returned. ``path`` leads to it: keys, and places in tuples and lists, without what is
    None; ``has_key``: it is below a dict, a dataclass or a named tuple, whose key is its first name."""

    path: tuple[str, ...]
    tensor: Tensor
    has_key: bool


def _leaves(result: Any, path: tuple[str, ...], *, has_key: bool = False) -> Iterator[_Leaf]:
    if isinstance(result, Tensor):
        yield _Leaf(path, result, has_key)
    elif result is not None:
        by_name = _fields(result)
        if by_name is not None:
            for key, value in by_name.items():
                yield from _leaves(value, (*path, str(key)) if has_key else (str(key),), has_key=True)
        elif isinstance(result, tuple | list):
            for i, value in enumerate(value for value in result if value is not None):
                yield from _leaves(value, (*path, str(i)), has_key=has_key)
        else:
            raise BadInputError(
                f"the module must return a tensor, or a tuple or dict of tensors, not {type(result).__name__}"
            )


def _fields(result: Any) -> dict[Any, Any] | None:
    """What has names in a dict (transformers' ModelOutput too), a dataclass or a named tuple; None if it is none."""
    if isinstance(result, Mapping):
        return dict(result)
    if is_dataclass(result) and not isinstance(result, type):
        return {field.name: getattr(result, field.name) for field in fields(result)}
    if isinstance(result, tuple) and hasattr(result, "_asdict"):
        return dict(result._asdict())
    return None


def is_flat(result: Any) -> bool:
    """Whether every converter takes the outputs as they are: a tensor, or tensors in one tuple, list or dict."""
    values = tuple(result.values()) if isinstance(result, Mapping) else result
    return isinstance(values, Tensor) or (
        isinstance(values, tuple | list) and all(isinstance(value, Tensor) for value in values)
    )


def first(call: Callable[..., Any], inputs: dict[str, Tensor], about: str = "") -> Any:
    """What a call of the module returns for its example inputs. ``about`` says what is special about it.

    Raises:
        BadInputError: it fails, or returns no tensors.
    """
    try:
        with torch.no_grad():
            result = call(*_copies(inputs))
    except BadInputError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
        raise BadInputError(
            f"the module{about} fails on its example inputs ({shapes}): {type(error).__name__}: {first_line(error)}"
        ) from error
    if not flat(result):
        raise BadInputError("the module must return a tensor, or a tuple or dict of tensors; it returns none")
    for number, tensor in enumerate(flat(result)):
        if reason := kinds.unusable(tensor):
            raise BadInputError(f"output {number} of the module {reason}")
    return result


@dataclass(frozen=True)
class Named:
    """Outputs by the names that the files have. ``renamed`` are names of the user's that files cannot hold, each with
    the one in its place."""

    outputs: dict[str, Tensor]
    renamed: dict[str, str]


def named(result: Any, inputs: Collection[str]) -> Named:
    """The outputs by their keys, which _ joins; ``y``, or ``y_0``, ``y_1_0`` by their places, where they have none, and
    ``out`` in place of ``y`` where an input has such a name.

    Args:
        result: what the module returned.
        inputs: the names of the inputs.
    """
    leaves = list(_leaves(result, ()))
    for stem in ("y", "out", "output_of_model"):
        places = ["_".join((stem, *leaf.path)) if len(leaves) > 1 else stem for leaf in leaves]
        given = ["_".join(leaf.path) if leaf.has_key else place for leaf, place in zip(leaves, places, strict=True)]
        if not set(inputs) & {place for leaf, place in zip(leaves, places, strict=True) if not leaf.has_key}:
            break
    safe = names.safe(given, taken=inputs)
    return Named(
        {name: leaf.tensor for name, leaf in zip(safe, leaves, strict=True)},
        {old: new for old, new in zip(given, safe, strict=True) if old != new},
    )
