"""``edgeattn report``: a report of records and bundles."""

from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def report(
    sources: Annotated[list[Path], typer.Argument(metavar="RECORDS|BUNDLE...", help="Files of records, or bundles.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The report: .html, .md, .csv or .json.")] = Path(
        "report.html"
    ),
    layers: Annotated[
        bool, typer.Option("--layers/--no-layers", help="Also compare the values inside a bundle's artifacts.")
    ] = True,
    backends: Annotated[
        bool, typer.Option("--backends", help="Also ask every backend here which operators of a bundle it takes.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Also show what others have published, in sections of its own.")
    ] = False,
    json: console.Json = False,
) -> int:
    """Write a report of records and bundles: the verdict, figures and pictures. The records in a bundle are included.

    Example: edgeattn report b phone.json --out report.html
    """
    console.use_json(json)
    from edgeattn.interface.bundle import write_report

    with console.progress() as progress:
        written = write_report(sources, out, layers=layers, backends=backends, published=published, progress=progress)
    console.show({"report": str(out), "verdict": written.document.verdict}, written.shown)
    return 0
