"""``edgeattn study``: a question about attention, answered by measurement."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeattn.cli import console

if TYPE_CHECKING:
    from edgeattn.profile.studies import Sweep


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
    from edgeattn.profile.studies import STUDIES

    study = STUDIES.get(name)
    folder = out or Path(f"study-{name}")
    if study.sweep:
        return _sweep(name, study.sweep, bundle, tuple(format or study.formats), folder)
    from edgeattn import targets
    from edgeattn.profile.studies import _run
    from edgeattn.report import forms
    from edgeattn.report.compose import compose
    from edgeattn.report.content import Content
    from edgeattn.system import files, plugins

    plugins.require("matplotlib", "jinja2", extra="report")
    options = _run.Options(target, console.typed(), tuple(format or ()), threads, quick)
    with targets.connect(target, console.settings(cpu=cpu)) as connection, console.progress() as progress:
        found = _run.run(name, connection, options, folder, progress)
        progress.plan(1)
        progress("drawing")
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
    return console.INTERRUPTED if found.stopped else 0


def _sweep(name: str, sweep: "Sweep", folder: Path | None, formats: tuple[str, ...], out: Path) -> int:
    """Each operator of a bundle's fp32 artifacts alone; nothing is timed, so that no target is asked."""
    from edgeattn.bundle import manifest as bundle
    from edgeattn.errors import BadInputError
    from edgeattn.report.pictures import sensitivity
    from edgeattn.system import files, plugins

    if folder is None:
        raise BadInputError(f"study {name} tries the operators of a bundle; name it with --bundle")
    plugins.require("matplotlib", extra="report")
    loaded = bundle.load(folder)
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    try:
        with console.progress() as progress:
            for format_ in formats:
                found[format_] = sweep(loaded, format_, out / f"{format_}.json", progress)
                picture = sensitivity.draw(found[format_], f"{loaded.manifest.model}, {format_}")
                files.write(out / f"{format_}.svg", picture.encode())
    except KeyboardInterrupt:
        return console.fail(f"interrupted; what was found is in {out}, the same command goes on", console.INTERRUPTED)
    console.show(
        {"study": name, "folder": str(out), "found": found},
        lambda: [
            f"{format_}: {one.sqnr_db or float('inf'):.1f} dB with {one.number} {one.kind} alone in int8"
            for format_, all_ in found.items()
            for one in all_[:10]
        ],
    )
    return 0
