"""``edgeattn parity``: still the same model?."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def parity(
    bundle: Annotated[Path, typer.Argument(help="A folder made by `edgeattn export`.")],
    target: Annotated[
        str | None, typer.Option(metavar=console.TARGET, help="Run there, and not in the runtimes here.")
    ] = None,
    cpu: console.Cpu = None,
    cores: console.Cores = None,
    python: console.Python = None,
    install: console.Install = False,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Damage copies of the artifacts: would parity have noticed?")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare the values inside too: where an error begins.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the error by layer; implies --layers.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdicts as JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a summary for a pull request.")] = None,
    json: console.Json = False,
) -> int:
    """Check every artifact of BUNDLE against the reference, in every runtime that is here, or on a target.

    Examples: edgeattn parity b --layers, or edgeattn parity b --target emulated-arm
    """
    console.wants(json)
    from edgeattn.cli import picture as pictures
    from edgeattn.interface.bundle import Bundle
    from edgeattn.parity import ci as summary
    from edgeattn.system import files

    if self_test and (layers or picture):
        raise typer.BadParameter("give --self-test, or --layers and --picture, not both")
    if target and (self_test or layers or picture):
        raise typer.BadParameter("--self-test, --layers and --picture look at the runtimes here; leave --target out")
    settings = console.settings(cpu=cpu, cores=cores, python=python, install="yes" if install else None)
    if settings and not target:
        raise typer.BadParameter(f"--{next(iter(settings))} goes with --target")
    if picture is not None:
        pictures.check(picture)
    files.check(junit, markdown)
    opened = Bundle.open(bundle)
    if self_test:
        with console.progress() as progress:
            tested = opened.self_test(progress=progress)
        found = tested.self_test
        console.show({"passed": found.passed, "kill_rates": found.kill_rates, **asdict(found)}, tested.shown)
        return 0 if found.passed else 1
    with console.progress() as progress:
        whole = opened.parity(target, settings=settings, progress=progress)
        inside = opened.layers(progress=progress) if layers or picture else None
    report = whole.report
    if junit:
        files.write(junit, summary.junit(report, bundle.name))
    if markdown:
        files.write(markdown, summary.markdown(report, bundle.name).encode())
    if inside and picture:
        pictures.draw(inside.layers, opened.manifest.model, picture)
    passed = whole.passed and (inside is None or inside.passed)
    console.show(
        {"passed": passed, **asdict(report), **({"layers": asdict(inside.layers)} if inside else {})},
        lambda: [*whole.shown(), *(inside.shown() if inside else ())],
    )
    return 0 if passed else 1
