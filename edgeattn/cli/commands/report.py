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
    from rich.markup import escape

    from edgeattn.report import forms
    from edgeattn.report import gather as reporting
    from edgeattn.system import files, plugins

    forms.check(out)
    files.check(out)
    plugins.require("matplotlib", "jinja2", extra="report")
    with console.progress() as say:
        document = reporting.write(reporting.gather(sources, say, inside=layers), out, say)
    lines = [f"{s.question} {s.answer}. {s.detail}" for s in document.verdict]
    console.show(
        {"report": str(out), "verdict": document.verdict},
        lambda: [*map(escape, lines), escape(f"The report is {out}")],
    )
    return 0
