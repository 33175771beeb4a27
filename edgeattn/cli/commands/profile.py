"""``edgeattn profile``: the speed on a target."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeattn.cli import console


def profile(
    bundle: Annotated[Path, typer.Argument(help="A folder made by `edgeattn export`.")],
    target: Annotated[str, typer.Option(metavar=console.TARGET, help="Where to run.")] = "host",
    cpu: console.Cpu = None,
    cores: console.Cores = None,
    cool_down: Annotated[
        bool, typer.Option("--cool-down", help="android: wait until the phone has cooled down before each artifact.")
    ] = False,
    runner: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="android: your own benchmark_model or onnxruntime_perf_test, for arm64."),
    ] = None,
    gpu_library: console.GpuLibrary = None,
    python: console.Python = None,
    install: console.Install = False,
    runtime: Annotated[
        list[str] | None, typer.Option(help="A runtime of the target; repeatable; default: all.")
    ] = None,
    provider: console.Provider = None,
    provider_option: console.ProviderOption = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads of the runtime; repeatable: a record for each number.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help="Timed runs; default: 50, or 3 where instructions are counted.")
    ] = None,
    starts: Annotated[
        int,
        typer.Option(
            min=1, max=100, help="Processes to measure one after another, --runs each: 5 for a gate with `compare`."
        ),
    ] = 1,
    duration: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="Measure the artifacts of each runtime for so long, minute by minute: 90s, 30m or 2h.",
        ),
    ] = None,
    warmup: Annotated[
        str | None,
        typer.Option(
            metavar="auto|N", help="Untimed runs before the first timed one: until the times settle (auto), or N."
        ),
    ] = None,
    operators: Annotated[bool, typer.Option(help="Also time each operator, if the runtime supports it.")] = True,
    out: Annotated[Path | None, typer.Option(metavar="RECORDS.json", help="Write the records to this file.")] = None,
    json: console.Json = False,
) -> int:
    """Measure every artifact of BUNDLE on a target: times, or counted instructions on an emulated core.

    Runs of the artifacts in one runtime are interleaved, A B A B. Ctrl-C ends it and keeps the records so far.

    Example: edgeattn profile b --threads 1 --threads 2 --out records.json
    """
    console.use_json(json)
    from edgeattn.bundle import manifest
    from edgeattn.bundle.records import documents
    from edgeattn.interface.results import ProfileResult
    from edgeattn.profile import devices, heat
    from edgeattn.profile.latency import summary
    from edgeattn.profile.run import Options
    from edgeattn.system import duration as lengths
    from edgeattn.system import files

    options = Options(
        target,
        threads=tuple(dict.fromkeys(threads or (1,))),
        runs=runs,
        warmup=_warmup(warmup),
        runtimes=tuple(dict.fromkeys([*(runtime or ()), *console.provider(provider, provider_option)])),
        operators=operators,
        command=console.command_line(),
        starts=starts,
        seconds=None if duration is None else lengths.parse(duration),
    )
    options.check()
    files.check(out)
    loaded = manifest.load(bundle)
    settings = console.settings(
        cpu=cpu,
        cores=cores,
        cool_down="yes" if cool_down else None,
        runner=runner,
        gpu_library=gpu_library,
        python=python,
        install="yes" if install else None,
    )
    with console.progress() as progress:
        measured = devices.measure(loaded, options, settings, out, progress)
    result = ProfileResult(measured)
    statistics = [asdict(summary(record.samples_ns)) if record.samples_ns else None for record in measured.records]
    ratios = [asdict(ratio) for ratio in result.ratios]
    courses = [asdict(found) if (found := heat.course(record)) else None for record in measured.records]
    places = [{**asdict(found), "sentence": found.sentence} for found in heat.places(measured.records)]
    document = {"passed": measured.passed, **vars(measured), "records": documents(measured.records)}
    derived = {"statistics": statistics, "ratios": ratios, "courses": courses, "places": places}
    console.show({**document, **derived}, result.shown)
    return console.INTERRUPTED if measured.interrupted else 0 if measured.passed else 1


def _warmup(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return "auto" if text else None
    if not text.isdecimal():
        raise typer.BadParameter(f"--warmup is auto or a number of runs, not {text!r}")
    return int(text)
