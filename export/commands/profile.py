"""``edgeattn profile``: how fast, on a target."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from export.commands import _console as console


def profile(
    bundle: Annotated[Path, typer.Argument(help="A folder made by `edgeattn export`.")],
    target: Annotated[str, typer.Option(metavar=console.TARGET, help="Where to run.")] = "host",
    cpu: console.Cpu = None,
    cores: console.Cores = None,
    cool_down: Annotated[
        bool, typer.Option("--cool-down", help="android: let the phone cool down before each artifact.")
    ] = False,
    runner: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="android: your own benchmark_model or onnxruntime_perf_test, for arm64."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    runs: Annotated[int | None, typer.Option(min=1, help="50, or 3 where instructions are counted.")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="5, or 2 where instructions are counted.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="RECORDS.json", help="Write what was measured.")] = None,
    json: console.Json = False,
) -> int:
    """Measure every artifact of BUNDLE on a target: times, or counted instructions where it is emulated.

    Example: edgeattn profile b --target emulated-arm --cpu cortex-a53 --out records.json
    """
    console.wants(json)
    from edgeattn import files, records
    from export import bundle as bundles
    from export import parallel, render, targets
    from export import profile as profiles
    from export.commands import _several

    files.check(out)
    loaded = bundles.load(bundle)
    settings = console.settings(cpu=cpu, cores=cores, cool_down="yes" if cool_down else None, runner=runner)

    def measure(one: str) -> profiles.Profile:
        with targets.connect(one, settings) as connection:
            return profiles.profile(loaded, connection, profiles.Options(one, threads, runs, warmup), say)

    with console.progress() as say:
        found = _several.together(bundle.name, parallel.each(measure, targets.expand(target)))
    if out:
        records.save(out, found.records, found.not_run)
    console.show(
        {"passed": found.complete, **asdict(found)},
        lambda: list(render.records(found.records, found.not_run)),
    )
    return 0 if found.complete else 1
