"""``edgeattn study``: a question about attention, answered by measurement."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from export.commands import _console as console


def study(
    name: Annotated[str, typer.Argument(help="layout, scaling, mobilevit or precision.")],
    target: Annotated[str, typer.Option(metavar=console.TARGET, help="Where to run.")] = "host",
    cpu: console.Cpu = None,
    format: Annotated[list[str] | None, typer.Option(help="By default the study's own.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A small form, of less than a minute.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For the records and the report; study-NAME by default.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="precision: the bundle whose fp32 artifacts are tried.")
    ] = None,
    json: console.Json = False,
) -> int:
    """Answer a question by measurement: what the layout buys, how attention scales, what it saves in a whole
    network; which operators int8 hurts (precision, of a bundle).

    What the folder holds already is not measured again: a study that was interrupted goes on with the same command.

    Example: edgeattn study layout --quick --out s
    """
    console.wants(json)
    from export import plugins

    if name == "precision":
        return _precision(bundle, tuple(format or plugins.names("precisions")), out or Path("study-precision"))
    from edgeattn import files
    from edgeattn.report import forms
    from edgeattn.report.compose import compose
    from edgeattn.report.content import Content
    from export import targets
    from export.studies import _run

    plugins.get("studies", name)
    plugins.require("matplotlib", "jinja2", extra="report")
    folder = out or Path(f"study-{name}")
    options = _run.Options(target, console.typed(), tuple(format or ()), threads, quick)
    with targets.connect(target, console.settings(cpu=cpu)) as connection, console.progress() as say:
        found = _run.run(name, connection, options, folder, say)
        say("drawing")
        document = compose(Content(records=found.records, not_run=found.not_run))
        for form in ("report.html", "report.md"):
            files.write(folder / form, forms.write(document, folder / form))
    console.show(
        {"study": name, "folder": str(folder), "verdict": document.verdict, **asdict(found)},
        lambda: [
            *(f"{said.question}: {said.answer}; {said.detail}" for said in document.verdict),
            f"{len(found.records)} records and the report are in {folder}",
            *(["It was interrupted; the same command goes on."] if found.stopped else []),
        ],
    )
    return 1 if found.stopped else 0


def _precision(folder: Path | None, formats: tuple[str, ...], out: Path) -> int:
    """Each operator of a bundle's fp32 artifacts alone in int8; nothing is timed, so that no target is asked."""
    from edgeattn import files
    from edgeattn.errors import BadInputError
    from export import bundle, plugins, sensitivity

    if folder is None:
        raise BadInputError("study precision tries the operators of a bundle; name it with --bundle")
    plugins.require("matplotlib", extra="report")
    loaded = bundle.load(folder)
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    with console.progress() as say:
        for format_ in formats:
            found[format_] = sensitivity.sweep(loaded, format_, out / f"{format_}.json", say)
            picture = sensitivity.draw(found[format_], f"{loaded.manifest.model}, {format_}")
            files.write(out / f"{format_}.svg", picture.encode())
    console.show(
        {"study": "precision", "folder": str(out), "found": found},
        lambda: [
            f"{format_}: {one.sqnr_db or float('inf'):.1f} dB with {one.number} {one.kind} alone in int8"
            for format_, all_ in found.items()
            for one in all_[:10]
        ],
    )
    return 0
