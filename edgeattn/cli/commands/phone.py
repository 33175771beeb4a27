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
            metavar="localhost|lan|ADDRESS",
            help="Who can reach the page: this computer (localhost), or your whole network (lan).",
        ),
    ] = "localhost",
    https: Annotated[
        bool | None,
        typer.Option(
            "--https/--http",
            help="Serve with a self-signed certificate, or without encryption; default: https unless on localhost.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port of the page; default: any free port.")] = 0,
    runs: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Timed runs of each artifact; default: 50.")
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="Run each artifact for so long, minute by minute: 90s or 5m."),
    ] = None,
    wait: Annotated[int | None, typer.Option(min=1, help="Stop after this many phones; default: until Ctrl-C.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RECORDS.json", help="Add the records to this file; default: BUNDLE/records.json."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a report (.html, .md, .csv or .json); default: report.html beside the records."
        ),
    ] = None,
    adb: Annotated[
        bool, typer.Option("--adb", help="Open the page on the Android phone that is attached by USB.")
    ] = False,
    camera: Annotated[
        bool, typer.Option("--camera", help="The page first shows the camera, with the model's live answers.")
    ] = False,
    json: console.Json = False,
) -> int:
    """Measure BUNDLE in the browser of any phone: open the address that is shown, or scan its QR code.

    Example: edgeattn phone b --host lan
    """
    console.use_json(json)

    from rich.markup import escape

    from edgeattn.bundle import manifest
    from edgeattn.bundle.records import documents
    from edgeattn.interface import render_records
    from edgeattn.report import forms, gather
    from edgeattn.system import duration as lengths
    from edgeattn.system import files, plugins

    plugins.require("starlette", "uvicorn", "segno", "cryptography", "matplotlib", "jinja2", extra="phone")
    from edgeattn.phone import session

    seconds = None if duration is None else lengths.parse(duration)
    if seconds and runs:
        raise typer.BadParameter("--for measures as often as its time allows; leave --runs out")
    if adb and host != "localhost":
        raise typer.BadParameter("--adb serves the page through USB; omit --host")
    out = out or bundle / "records.json"
    report = report or out.with_name("report.html")
    forms.check(report)
    loaded = manifest.load(bundle)
    files.check(out, report)
    options = session.Options(
        host=host,
        https=host != "localhost" if https is None else https,
        port=port,
        runs=runs or 50,
        wait=wait,
        out=out,
        adb=adb,
        command=console.command_line(),
        seconds=seconds,
        camera=camera,
    )
    result = session.run(loaded, options)
    summary = f"Phones: {result.phones}. Records added to {out}: {len(result.records)}."
    if result.records:
        with console.progress() as progress:
            gather.write(gather.gather((out,), progress), report, progress)
        summary += f" The report is {report}."
    shown = {**vars(result), "records": documents(result.records)}
    console.show(
        {"passed": result.passed, "out": str(out), "report": str(report), **shown},
        lambda: [*render_records.measured(result.records, (), result.not_run), escape(summary)],
    )
    # Who only looked has asked for no measurement.
    return 0 if result.passed or (camera and not result.phones) else 1
