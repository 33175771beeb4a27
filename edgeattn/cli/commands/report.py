"""``edgeattn report``: what was found, to read."""

from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def report(
    sources: Annotated[list[Path], typer.Argument(metavar="RECORDS|BUNDLE...", help="Files of records, bundles.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .html, .md, .csv or .json.")] = Path("report.html"),
    layers: Annotated[
        bool, typer.Option("--layers/--no-layers", help="Compare the values inside a bundle's artifacts too.")
    ] = True,
    json: console.Json = False,
) -> int:
    """Write a report of records and bundles: the verdict, the figures, pictures; a bundle's own records are read too.

    Example: edgeattn report b phone.json --out report.html
    """
    console.wants(json)
    from edgeattn.interface.bundle import write_report

    with console.progress() as progress:
        written = write_report(sources, out, layers=layers, progress=progress)
    console.show({"report": str(out), "verdict": written.document.verdict}, written.shown)
    return 0
