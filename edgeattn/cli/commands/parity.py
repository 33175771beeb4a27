"""``edgeattn parity``: still the same model?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def parity(
    bundle: Annotated[Path, typer.Argument(help="A folder made by `edgeattn export`.")],
    target: Annotated[
        str | None,
        typer.Option(metavar=console.TARGET, help="Run on this target instead of in the runtimes of this machine."),
    ] = None,
    cpu: console.Cpu = None,
    cores: console.Cores = None,
    gpu_library: console.GpuLibrary = None,
    python: console.Python = None,
    install: console.Install = False,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this backend of this machine; repeatable: 'litert gpu', onnxruntime."),
    ] = None,
    provider: console.Provider = None,
    provider_option: console.ProviderOption = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Damage copies of the artifacts, and check that parity notices.")
    ] = False,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Also compare the values inside the artifacts, to find where an error begins."),
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the error of each layer; implies --layers.")
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Judge the accuracy on so many labelled inputs. [default: all; 500 where it is slow]",
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdicts as JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a summary for a pull request.")] = None,
    json: console.Json = False,
) -> int:
    """Check every artifact of BUNDLE against the reference, in every runtime of this machine, or on a target.

    Examples: edgeattn parity b --layers, or edgeattn parity b --target emulated-arm
    """
    console.use_json(json)
    from edgeattn.cli import picture as pictures
    from edgeattn.interface.bundle import Bundle
    from edgeattn.parity import ci
    from edgeattn.system import files

    if self_test and (layers or picture):
        raise typer.BadParameter("give --self-test, or --layers and --picture, not both")
    if target and (self_test or layers or picture):
        raise typer.BadParameter("--self-test, --layers and --picture use the runtimes of this machine; omit --target")
    settings = console.settings(
        cpu=cpu, cores=cores, gpu_library=gpu_library, python=python, install="yes" if install else None
    )
    if settings and not target:
        raise typer.BadParameter(f"--{next(iter(settings)).replace('_', '-')} needs --target")
    if target and (backend or provider):
        raise typer.BadParameter("--backend is of this machine; omit --target")
    backends = tuple(dict.fromkeys([*(backend or ()), *console.provider(provider, provider_option)]))
    if picture is not None:
        pictures.check(picture)
    files.check(junit, markdown)
    opened = Bundle.open(bundle)
    if self_test:
        with console.progress() as progress:
            self_tested = opened.self_test(backends=backends, progress=progress)
        result = self_tested.self_test
        console.show({"passed": result.passed, "kill_rates": result.kill_rates, **asdict(result)}, self_tested.shown)
        return 0 if result.passed else 1
    with console.progress() as progress:
        checked = opened.parity(target, settings=settings, backends=backends, held_out=held_out, progress=progress)
        inner = opened.layers(backends=backends, progress=progress) if layers or picture else None
    report = checked.report
    if junit:
        files.write(junit, ci.junit(report, bundle.name))
    if markdown:
        files.write(markdown, ci.markdown(report, bundle.name).encode("utf-8", "replace"))
    if inner and picture:
        pictures.draw(inner.layers, opened.manifest.model, picture)
    passed = checked.passed and (inner is None or inner.passed)
    console.show(
        {"passed": passed, **asdict(report), **({"layers": asdict(inner.layers)} if inner else {})},
        lambda: [*checked.shown(), *(inner.shown() if inner else ())],
    )
    return 0 if passed else 1
