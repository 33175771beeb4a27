"""``edgeattn study``: a question about attention, answered by measurement."""

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
    format: Annotated[
        list[str] | None, typer.Option(help="onnx, tflite or coreml; repeatable; default: the study's own.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A small version of less than a minute.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The folder of the records and the report; default: study-NAME."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="precision: the bundle whose fp32 artifacts are quantised.")
    ] = None,
    json: console.Json = False,
) -> int:
    """Answer a question by measurement: the cost of the layout (layout), how attention scales (scaling), its cost in a
    whole network (mobilevit), or which operators of a bundle are sensitive to int8 (precision).

    Records that the folder has are not measured again: the same command resumes an interrupted study.

    Example: edgeattn study layout --quick --out s
    """
    console.use_json(json)
    from edgeattn.bundle.records import documents
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
    options = _run.Options(target, console.command_line(), tuple(format or ()), threads, quick)
    with targets.connect(target, console.settings(cpu=cpu)) as connection, console.progress() as progress:
        outcome = _run.run(name, connection, options, folder, progress)
        progress.plan(1)
        progress("drawing")
        document = compose(Content(records=outcome.records, not_run=outcome.not_run))
        for form in ("report.html", "report.md"):
            files.write(folder / form, forms.write(document, folder / form))
    shown = {**vars(outcome), "records": documents(outcome.records)}
    console.show(
        {"study": name, "folder": str(folder), "verdict": document.verdict, **shown},
        lambda: [
            *(f"{statement.question}: {statement.answer}; {statement.detail}" for statement in document.verdict),
            f"{len(outcome.records)} records and the report are in {folder}",
            *(["It was interrupted; the same command resumes it."] if outcome.stopped else []),
        ],
    )
    return console.INTERRUPTED if outcome.stopped else 0


def _sweep(name: str, sweep: "Sweep", folder: Path | None, formats: tuple[str, ...], out: Path) -> int:
    """Quantise each operator of a bundle's fp32 artifacts alone. Nothing is timed, so no target is needed."""
    from edgeattn.bundle import manifest
    from edgeattn.errors import BadInputError
    from edgeattn.report.pictures import sensitivity
    from edgeattn.system import files, plugins

    if folder is None:
        raise BadInputError(f"study {name} quantises the operators of a bundle: give one with --bundle")
    plugins.require("matplotlib", extra="report")
    loaded = manifest.load(folder)
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    try:
        with console.progress() as progress:
            for format_ in formats:
                results[format_] = sweep(loaded, format_, out / f"{format_}.json", progress)
                picture = sensitivity.draw(results[format_], f"{loaded.manifest.model}, {format_}")
                files.write(out / f"{format_}.svg", picture.encode("utf-8", "replace"))
    except KeyboardInterrupt:
        return console.fail(
            f"interrupted; the results so far are in {out}, and the same command resumes it", console.INTERRUPTED
        )
    console.show(
        {"study": name, "folder": str(out), "found": results},
        lambda: [
            f"{format_}: {result.sqnr_db or float('inf'):.1f} dB with {result.number} {result.kind} alone in int8"
            for format_, operators in results.items()
            for result in operators[:10]
        ],
    )
    return 0
