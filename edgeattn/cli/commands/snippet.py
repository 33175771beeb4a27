"""``edgeattn snippet``: the program that runs one artifact in an app."""

from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console
from edgeattn.snippets.languages import LANGUAGES


def snippet(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    language: Annotated[str, typer.Option(help=f"One of {', '.join(LANGUAGES)}.")],
    artifact: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A file of the bundle; default: the recommended one that the language runs."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime; default: 1, as `profile` has.")] = None,
    delegate: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What runs the operators: xnnpack, gpu, webgpu, coreml, ...; default: the CPU."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the program there.")] = None,
    json: console.Json = False,
) -> int:
    """Print the program that loads an artifact in an app: its names, shapes, layout, pixels and labels filled in.

    Example: edgeattn snippet b --language python --out app.py
    """
    console.use_json(json)
    from dataclasses import asdict

    from rich.text import Text

    from edgeattn.bundle import manifest
    from edgeattn.snippets import write
    from edgeattn.system import files

    files.check(out)
    made = write.snippet(manifest.load(bundle), language, artifact, threads=threads, delegate=delegate)
    if out:
        files.write(out, made.code.encode())
    console.show(
        asdict(made),
        lambda: [Text(f"{out} loads {made.artifact}: {made.compiled}" if out else made.code.rstrip("\n"))],
    )
    return 0
