"""``edgeattn inspect``: what a file is made of."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def inspect(
    artifact: Annotated[Path, typer.Argument(help="An .onnx, .tflite or .mlpackage, made by anyone.")],
    max_layout_ops: Annotated[
        int | None,
        typer.Option(min=0, help="Exit 1 if there are more layout ops, in the file or as optimised."),
    ] = None,
    json: console.Json = False,
) -> int:
    """Count operators, layout ops, bytes moved and multiply-adds of a saved file.

    Example: edgeattn inspect b/attention-fp32.onnx --max-layout-ops 0
    """
    console.wants(json)
    from edgeattn.inspection.inspect import inspect_apart
    from edgeattn.interface.results import InspectionResult

    with console.progress() as progress:
        progress.plan(1)
        progress(f"reading {artifact}")
        found = inspect_apart(artifact)
    result = InspectionResult((found,), max_layout_ops)
    console.show({**asdict(found), "passed": result.passed}, result.shown)
    return 0 if result.passed else 1
