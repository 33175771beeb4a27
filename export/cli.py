"""The ``edgeattn`` command: the only place that prints or exits. Heavy packages are imported inside the commands."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeattn.errors import EdgeAttnError, MissingError

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    help="Separable self-attention from PyTorch to ONNX, TFLite and Core ML, checked against its reference.",
    pretty_exceptions_enable=False,
)
# What typer raises for bad usage; its home moves between versions of typer, its place above BadParameter does not.
_UsageError: Any = typer.BadParameter.__mro__[2]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout, and nothing else there.")]
TARGET = "NAME[:ADDRESS]"
Cpu = Annotated[str | None, typer.Option(help="emulated-arm: cortex-a53, cortex-a76, neoverse-n1 or max.")]
_json_wanted = False


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A sample model's name, or FILE.py:FACTORY. The file is run.")],
    arg: Annotated[list[str] | None, typer.Option(metavar="K=V", help="An argument of the model.")] = None,
    format: Annotated[list[str] | None, typer.Option(help="onnx, tflite or coreml; all by default.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A .safetensors, .pt, .pth or .bin state dict, a folder, or a hub name.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle's folder; MODEL-bundle by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    input_shape: Annotated[
        list[str] | None, typer.Option(metavar="1,3,256,256", help="Shape of a random example input.")
    ] = None,
    input: Annotated[
        list[Path] | None, typer.Option(metavar="FILE.safetensors", help="More inputs to check parity on.")
    ] = None,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Leave the batch size free (ONNX, Core ML).")
    ] = False,
    edge_layout: Annotated[
        str | None, typer.Option(help="Layout of TFLite's edges: channels_last (default) or channels_first.")
    ] = None,
    json: Json = False,
) -> int:
    """Export MODEL to a bundle and check that it is still the same model.

    Example: edgeattn export attention --arg embed_dim=192 --out b
    """
    _wants(json)
    from export import pipeline, render, source

    options = pipeline.Options(
        formats=tuple(dict.fromkeys(format or ())),
        precisions=tuple(dict.fromkeys(precision or ("fp32",))),
        edge_layout=edge_layout,
        dynamic_batch=dynamic_batch,
        inputs=tuple(input or ()),
        force=force,
    )
    name = model.rpartition(":")[2]
    out = out or Path(f"{name}-bundle")
    pipeline.check(options, out)
    with _progress() as say:
        say(f"building {name}")
        loaded = source.load(model, arg or (), weights=weights, input_shapes=input_shape or ())
        result = pipeline.export(loaded, options, out, say)
    passed = result.report.passed and not result.refused
    document = {"bundle": str(out), "passed": passed, "manifest": asdict(result.bundle.manifest)}
    _print(
        document,
        lambda: [
            render.files(result.bundle),
            render.lowering(result.bundle),
            *render.parity(result.report),
            *(f"{kind} was not made: {reason}" for kind, reason in result.refused.items()),
        ],
    )
    return 0 if passed else 1


@app.command()
def inspect(
    artifact: Annotated[Path, typer.Argument(help="An .onnx, .tflite or .mlpackage, made by anyone.")],
    max_layout_ops: Annotated[
        int | None,
        typer.Option(min=0, help="Exit 1 if there are more layout ops, in the file or as optimised."),
    ] = None,
    json: Json = False,
) -> int:
    """Count operators, layout ops, bytes moved and multiply-adds of a saved file.

    Example: edgeattn inspect b/attention-fp32.onnx --max-layout-ops 0
    """
    _wants(json)
    from export import inspection, render

    with _progress() as say:
        say(f"reading {artifact}")
        found = inspection.inspect(artifact)
    passed = max_layout_ops is None or found.worst_layout_ops <= max_layout_ops
    verdict = f"{found.worst_layout_ops} layout ops, {max_layout_ops} allowed"
    _print(
        {**asdict(found), "passed": passed},
        lambda: [*render.inspection(found), *([] if max_layout_ops is None else [verdict])],
    )
    return 0 if passed else 1


@app.command()
def parity(
    bundle: Annotated[Path, typer.Argument(help="A folder made by `edgeattn export`.")],
    target: Annotated[str | None, typer.Option(metavar=TARGET, help="Run there, and not in the runtimes here.")] = None,
    cpu: Cpu = None,
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
    json: Json = False,
) -> int:
    """Check every artifact of BUNDLE against the reference, in every runtime that is here, or on a target.

    Examples: edgeattn parity b --layers, or edgeattn parity b --target emulated-arm
    """
    _wants(json)
    from contextlib import nullcontext

    from edgeattn import files
    from export import bundle as bundles
    from export import layers as inside
    from export import picture as pictures
    from export import render, selftest, summary, targets, verify

    if self_test and (layers or picture):
        raise typer.BadParameter("give --self-test, or --layers and --picture, not both")
    if target and (self_test or layers or picture):
        raise typer.BadParameter("--self-test, --layers and --picture look at the runtimes here; leave --target out")
    settings = _settings(cpu=cpu)
    if settings and not target:
        raise typer.BadParameter(f"--{next(iter(settings))} goes with --target")
    if picture is not None:
        pictures.check(picture)
    files.check(junit, markdown)
    loaded = bundles.load(bundle)
    if self_test:
        with _progress() as say:
            tested = selftest.self_test(loaded, say)
        _print(
            {"passed": tested.passed, "kill_rates": tested.kill_rates, **asdict(tested)},
            lambda: render.self_test(tested),
        )
        return 0 if tested.passed else 1
    with targets.connect(target, settings) if target else nullcontext() as connection, _progress() as say:
        report = verify.verify(loaded, say, connection=connection)
        found = inside.compare(loaded, say) if layers or picture else None
    verify.require_a_check(loaded, report)
    if junit:
        files.write(junit, summary.junit(report, bundle.name))
    if markdown:
        files.write(markdown, summary.markdown(report, bundle.name).encode())
    if found and picture:
        pictures.draw(found, loaded.manifest.model, picture)
    passed = report.passed and (found is None or found.passed)
    _print(
        {"passed": passed, **asdict(report), **({"layers": asdict(found)} if found else {})},
        lambda: [*render.parity(report), *(render.layers(found) if found else ())],
    )
    return 0 if passed else 1


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A bundle or an artifact.")],
    b: Annotated[Path, typer.Argument(help="Another of the same kind.")],
    json: Json = False,
) -> int:
    """Run A and B on the same inputs and say how their outputs differ.

    Example: edgeattn compare b/attention-fp32.onnx b/attention-fp32.tflite
    """
    _wants(json)
    from export import compare as comparing
    from export import render

    with _progress() as say:
        say(f"running {a} and {b}")
        rows = comparing.compare(a, b)
    _print({"rows": [asdict(row) for row in rows]}, lambda: [render.comparison(rows)])
    return 0


@app.command()
def profile(
    bundle: Annotated[Path, typer.Argument(help="A folder made by `edgeattn export`.")],
    target: Annotated[str, typer.Option(metavar=TARGET, help="Where to run.")] = "host",
    cpu: Cpu = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    runs: Annotated[int | None, typer.Option(min=1, help="50, or 3 where instructions are counted.")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="5, or 2 where instructions are counted.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="RECORDS.json", help="Write what was measured.")] = None,
    json: Json = False,
) -> int:
    """Measure every artifact of BUNDLE on a target: times, or counted instructions where it is emulated.

    Example: edgeattn profile b --target emulated-arm --cpu cortex-a53 --out records.json
    """
    _wants(json)
    from edgeattn import files, records
    from export import bundle as bundles
    from export import profile as profiles
    from export import render, targets

    files.check(out)
    loaded = bundles.load(bundle)
    with targets.connect(target, _settings(cpu=cpu)) as connection, _progress() as say:
        options = profiles.Options(target, threads, runs, warmup)
        found = profiles.profile(loaded, connection, options, say)
    if out:
        records.save(out, found.records)
    _print(
        {"passed": found.complete, **asdict(found)},
        lambda: list(render.records(found.records, found.not_run)),
    )
    return 0 if found.complete else 1


@app.command()
def setup(
    target: Annotated[str, typer.Argument(help="emulated-arm")],
    json: Json = False,
) -> int:
    """Build what a target needs, once, into the cache folder of the user.

    Example: edgeattn setup emulated-arm
    """
    _wants(json)
    from edgeattn.errors import BadInputError
    from export import plugins

    module = plugins.get("targets", target)
    if not hasattr(module, "setup"):
        raise BadInputError(f"{target} needs no set-up")
    with _progress() as say:
        folder = module.setup(say)
    _print({"target": target, "folder": folder}, lambda: [f"{target} is ready, in {folder}"])
    return 0


@app.command()
def models(json: Json = False) -> int:
    """List the sample models and their arguments.

    Example: edgeattn models
    """
    _wants(json)
    import inspect as python_inspect

    import sample_models

    found: dict[str, dict[str, Any]] = {}
    for name in sample_models.names():
        build = sample_models.factory(name)
        arguments = {p.name: p.default for p in python_inspect.signature(build).parameters.values()}
        found[name] = {"about": (python_inspect.getdoc(build) or "").split("\n\n")[0], "arguments": arguments}
    _print(
        found,
        lambda: [
            f"[bold]{name}[/]  {entry['about']}\n  " + "  ".join(f"{k}={v}" for k, v in entry["arguments"].items())
            for name, entry in found.items()
        ],
    )
    return 0


@app.command()
def doctor(json: Json = False) -> int:
    """Say for every format, runtime and target whether it works here, and what would mend it.

    Example: edgeattn doctor
    """
    _wants(json)
    from export import plugins, runtimes
    from export.pipeline import versions

    found: dict[str, dict[str, str]] = {"formats": {}, "runtimes": {}, "targets": {}}
    for name in plugins.names("formats"):
        format_ = plugins.get("formats", name)
        try:
            plugins.require(*format_.PACKAGES, extra=format_.EXTRA)
            found["formats"][name] = "ready"
        except MissingError as error:
            found["formats"][name] = str(error)
    for name in plugins.names("runtimes"):
        found["runtimes"][name] = runtimes.missing(plugins.get("runtimes", name)) or "ready"
    for name in plugins.names("targets"):
        found["targets"][name.replace("_", "-")] = plugins.get("targets", name).unavailable() or "ready"
    tools = versions()
    _print(
        {**found, "versions": tools},
        lambda: [
            *(f"{kind[:-1]} [bold]{name}[/]: {state}" for kind in found for name, state in found[kind].items()),
            "versions: " + ", ".join(f"{k} {v}" for k, v in tools.items()),
        ],
    )
    return 0


def _settings(**given: str | None) -> dict[str, str]:
    """The settings of a target that were given; the target itself says which it takes."""
    return {name: value for name, value in given.items() if value is not None}


def _wants(json: bool) -> None:
    global _json_wanted
    _json_wanted = json


def _print(document: Any, lines: Callable[[], list[Any]]) -> None:
    """One JSON document, or what ``lines`` makes, to stdout."""
    if _json_wanted:
        from pydantic_core import to_json

        sys.stdout.write(to_json(document, indent=2, inf_nan_mode="null").decode() + "\n")
        return
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200, soft_wrap=True)
    for line in lines():
        console.print(line)
        console.print()


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on stderr, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    # A line a step and no spinner: the converters write through the same file descriptor, which is silenced then.
    console = Console(stderr=True, highlight=False)
    yield lambda text: console.print(f"[dim]{text} …[/]")


def main() -> None:
    """Run the command; every expected error is one sentence on stderr and its exit code."""
    global _json_wanted
    _json_wanted = "--json" in sys.argv
    try:
        code = app(standalone_mode=False)
    except EdgeAttnError as error:
        code = _fail(str(error), error.exit_code)
    except _UsageError as error:
        code = _fail(error.format_message() or "say what to do; see edgeattn --help", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("interrupted; nothing was written", 130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"edgeattn: {' '.join(sentence.split())}\n")
    if _json_wanted:
        _print({"error": sentence, "exit_code": code}, list)
    return code


if __name__ == "__main__":
    main()
