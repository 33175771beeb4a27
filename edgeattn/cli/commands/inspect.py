"""``edgeattn inspect``: the operators and sizes of a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def inspect(
    artifact: Annotated[Path, typer.Argument(help="An .aimodel, .mlpackage, .onnx or .tflite from any tool.")],
    max_layout_ops: Annotated[
        int | None,
        typer.Option(min=0, help="Exit 1 if the file, as saved or as optimised, has more layout ops than this."),
    ] = None,
    backends: Annotated[
        bool, typer.Option("--backends", help="Also ask every backend here which operators it takes, and why not.")
    ] = False,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Ask this one alone; repeatable: 'litert gpu, fp32', onnxruntime."),
    ] = None,
    max_partitions: Annotated[
        int | None, typer.Option(min=0, help="Exit 1 if a backend makes more partitions of the file than this.")
    ] = None,
    max_fallback: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Exit 1 if backends so named leave more operators: gpu=0; repeatable."),
    ] = None,
    json: console.Json = False,
) -> int:
    """Count operators, layout ops, bytes moved and multiply-adds of a saved file.

    Examples: edgeattn inspect a.onnx --max-layout-ops 0, or edgeattn inspect a.tflite --max-fallback gpu=0
    """
    console.use_json(json)
    from edgeattn.inspection import shares
    from edgeattn.inspection.inspect import inspect_apart
    from edgeattn.interface.results import InspectionResult
    from edgeattn.parity import layers

    limits = shares.fallback_limits(max_fallback or ())
    is_asked = backends or bool(backend) or max_partitions is not None or bool(limits)
    with console.progress() as progress:
        progress.plan(1 + is_asked)
        progress(f"reading {artifact}")
        inspection = inspect_apart(artifact)
        found = None
        if is_asked:
            progress(f"asking the backends of {artifact}")
            found = shares.shares(artifact, tuple(backend or ()), layers.located_in_file(artifact))
    broken = shares.broken(found or (), partitions=max_partitions, fallback=limits)
    result = InspectionResult((inspection,), max_layout_ops, found, broken)
    asked = {} if found is None else {"backends": [asdict(share) for share in found], "broken": broken}
    console.show({**asdict(inspection), **asked, "passed": result.passed}, result.shown)
    return 0 if result.passed else 1
