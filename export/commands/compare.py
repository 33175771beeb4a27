"""``edgeattn compare``: two artifacts or bundles, side by side."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from export.commands import _console as console


def compare(
    a: Annotated[Path, typer.Argument(help="A bundle or an artifact.")],
    b: Annotated[Path, typer.Argument(help="Another of the same kind.")],
    json: console.Json = False,
) -> int:
    """Run A and B on the same inputs and say how their outputs differ.

    Example: edgeattn compare b/attention-fp32.onnx b/attention-fp32.tflite
    """
    console.wants(json)
    from export import compare as comparing
    from export import render

    with console.progress() as say:
        say(f"running {a} and {b}")
        rows = comparing.compare(a, b)
    console.show({"rows": [asdict(row) for row in rows]}, lambda: [render.comparison(rows)])
    return 0
