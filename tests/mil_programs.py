"""Small ML programs made with coremltools' builder, saved, and run from disk by mil_reference."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy.typing as npt

from edgeattn.runtimes import mil_reference
from edgeattn.system.output import quiet

Array = npt.NDArray[Any]


def save(
    path: Path, inputs: Mapping[str, Array], build: Callable[[Any, SimpleNamespace], Any], target: str = "iOS17"
) -> Path:
    """Write a program as it is, without any pass of the converter; ``build`` gets the builder and its inputs."""
    with quiet():
        import coremltools as ct
        from coremltools.converters.mil.mil import Builder, Function, Program, types

        opset, program = getattr(ct.target, target), Program()
        given = {
            name: Builder.placeholder(a.shape, types.numpy_type_to_builtin_type(a.dtype.type))
            for name, a in inputs.items()
        }
        with Function(given, opset_version=opset) as function:
            made = build(Builder, SimpleNamespace(**function.inputs))
            function.set_outputs(list(made) if isinstance(made, tuple | list) else [made])
        program.add_function("main", function)
        model = ct.convert(
            program,
            convert_to="mlprogram",
            pass_pipeline=ct.PassPipeline.EMPTY,
            minimum_deployment_target=opset,
        )
        model.save(str(path))
    return path


def observe(path: Path, inputs: Mapping[str, Array]) -> dict[str, tuple[str, Array]]:
    """(op, value) of everything that the program computes, by name."""
    seen: dict[str, tuple[str, Array]] = {}
    with mil_reference.opened(path) as session:
        session.run_observed(dict(inputs), lambda value: seen.update({value.name: (value.op, value.value)}))
    return seen
