"""``edgeattn phone``: measure and check parity in the browser of any phone."""

from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def phone(
    bundle: Annotated[Path, typer.Argument(help="A folder made by `edgeattn export`.")],
    host: Annotated[
        str,
        typer.Option(
            metavar="localhost|lan|ADDRESS", help="Who can reach the page: this computer, or your whole network."
        ),
    ] = "localhost",
    https: Annotated[
        bool | None,
        typer.Option("--https/--http", help="With a certificate of its own, or plain. https unless on localhost."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Any free one by default.")] = 0,
    runs: Annotated[int, typer.Option(min=1, max=10_000, help="Samples of each measurement.")] = 50,
    wait: Annotated[int | None, typer.Option(min=1, help="Stop after so many phones; else with Ctrl-C.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RECORDS.json", help="Added to if it exists; BUNDLE/records.json by default.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="report.html beside the records by default; .html, .md, .csv.")
    ] = None,
    adb: Annotated[
        bool, typer.Option("--adb", help="Open the page on the Android phone that is attached by cable.")
    ] = False,
    json: console.Json = False,
) -> int:
    """Measure BUNDLE in the browser of a phone: shows an address and a code, the phone opens it, and that is all.

    Example: edgeattn phone b --host lan
    """
    console.wants(json)
    from dataclasses import asdict

    from rich.markup import escape

    from edgeattn.bundle import manifest as bundles
    from edgeattn.interface import render_records
    from edgeattn.report import forms
    from edgeattn.report import gather as reporting
    from edgeattn.system import files, plugins

    plugins.require("starlette", "uvicorn", "segno", "cryptography", "matplotlib", "jinja2", extra="phone")
    from edgeattn.phone import session

    if adb and host != "localhost":
        raise typer.BadParameter("--adb brings the page by the cable; leave --host out")
    out = out or bundle / "records.json"
    report = report or out.with_name("report.html")
    forms.check(report)
    loaded = bundles.load(bundle)
    files.check(out, report)
    options = session.Options(
        host=host,
        https=host != "localhost" if https is None else https,
        port=port,
        runs=runs,
        wait=wait,
        out=out,
        adb=adb,
        command=console.typed(),
    )
    found = session.run(loaded, options)
    where = f"Phones: {found.phones}. Records added to {out}: {len(found.records)}."
    if found.records:
        with console.progress() as progress:
            reporting.write(reporting.gather((out,), progress), report, progress)
        where += f" The report is {report}."
    console.show(
        {"passed": found.passed, "out": str(out), "report": str(report), **asdict(found)},
        lambda: [*render_records.measured(found.records, (), found.not_run), escape(where)],
    )
    return 0 if found.passed else 1
