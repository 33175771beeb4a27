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
    from edgeattn.inspection import inspect as inspection
    from edgeattn.interface import render

    with console.progress() as say:
        say.plan(1)
        say(f"reading {artifact}")
        found = inspection.inspect_apart(artifact)
    passed = max_layout_ops is None or found.worst_layout_ops <= max_layout_ops
    verdict = f"{found.worst_layout_ops} layout ops, {max_layout_ops} allowed"
    console.show(
        {**asdict(found), "passed": passed},
        lambda: [*render.inspection(found), *([] if max_layout_ops is None else [verdict])],
    )
    return 0 if passed else 1
