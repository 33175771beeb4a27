"""``edgeattn inspect``: the operators and sizes of a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def inspect(
    artifact: Annotated[Path, typer.Argument(help="An .onnx, .tflite or .mlpackage from any tool.")],
    max_layout_ops: Annotated[
        int | None,
        typer.Option(min=0, help="Exit 1 if the file, as saved or as optimised, has more layout ops than this."),
    ] = None,
    json: console.Json = False,
) -> int:
    """Count operators, layout ops, bytes moved and multiply-adds of a saved file.

    Example: edgeattn inspect b/attention-fp32.onnx --max-layout-ops 0
    """
    console.use_json(json)
    from edgeattn.inspection.inspect import inspect_apart
    from edgeattn.interface.results import InspectionResult

    with console.progress() as progress:
        progress.plan(1)
        progress(f"reading {artifact}")
        inspection = inspect_apart(artifact)
    result = InspectionResult((inspection,), max_layout_ops)
    console.show({**asdict(inspection), "passed": result.passed}, result.shown)
    return 0 if result.passed else 1
