"""``edgeattn profile``: how fast, on a target."""

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
        bool, typer.Option("--cool-down", help="android: let the phone cool down before each artifact.")
    ] = False,
    runner: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="android: your own benchmark_model or onnxruntime_perf_test, for arm64."),
    ] = None,
    python: console.Python = None,
    install: console.Install = False,
    runtime: Annotated[list[str] | None, typer.Option(help="One of the target's; all by default.")] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads of the runtime; several numbers, several records.")
    ] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="50, or 3 where instructions are counted.")] = None,
    warmup: Annotated[
        str | None, typer.Option(metavar="auto|N", help="Runs before the first sample: until the times settle, or N.")
    ] = None,
    operators: Annotated[bool, typer.Option(help="Time by operator too, where the runtime gives it.")] = True,
    out: Annotated[Path | None, typer.Option(metavar="RECORDS.json", help="Write what was measured.")] = None,
    json: console.Json = False,
) -> int:
    """Measure every artifact of BUNDLE on a target: times, or counted instructions where it is emulated.

    Artifacts of one runtime are measured in turn, A B A B. Ctrl-C keeps what was measured.

    Example: edgeattn profile b --threads 1 --threads 2 --out records.json
    """
    console.wants(json)
    from edgeattn.bundle import manifest as bundles
    from edgeattn.interface.results import ProfileResult
    from edgeattn.profile import devices
    from edgeattn.profile.latency import summary
    from edgeattn.profile.run import Options
    from edgeattn.system import files

    options = Options(
        target,
        threads=tuple(dict.fromkeys(threads or (1,))),
        runs=runs,
        warmup=_warmup(warmup),
        runtimes=tuple(dict.fromkeys(runtime or ())),
        operators=operators,
        command=console.typed(),
    )
    files.check(out)
    loaded = bundles.load(bundle)
    settings = console.settings(
        cpu=cpu,
        cores=cores,
        cool_down="yes" if cool_down else None,
        runner=runner,
        python=python,
        install="yes" if install else None,
    )
    with console.progress() as progress:
        found = devices.measure(loaded, options, settings, out, progress)
    result = ProfileResult(found)
    statistics = [asdict(summary(record.samples_ns)) if record.samples_ns else None for record in found.records]
    ratios = [asdict(ratio) for ratio in result.ratios]
    console.show(
        {"passed": found.passed, **asdict(found), "statistics": statistics, "ratios": ratios},
        result.shown,
    )
    return console.INTERRUPTED if found.interrupted else 0 if found.passed else 1


def _warmup(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return "auto" if text else None
    if not text.isdecimal():
        raise typer.BadParameter(f"--warmup is auto or a number of runs, not {text!r}")
    return int(text)
