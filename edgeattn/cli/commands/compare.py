"""``edgeattn compare``: two artifacts, bundles or files of records, side by side."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A bundle, an artifact, or a file of records.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another of the same kind.")],
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N,N,...",
            help="Artifacts: the size of an input that both leave free, in OLD's layout: x=1,3,64,64.",
        ),
    ] = None,
    max_slowdown: Annotated[
        float | None,
        typer.Option(
            min=0, help="Records: exit 1 if time or instructions certainly grew by more than this factor (1.10)."
        ),
    ] = None,
    max_size_growth: Annotated[
        float | None,
        typer.Option(min=0, help="Records: exit 1 if a file grew by more than this factor; 1.0 allows no growth."),
    ] = None,
    max_layout_ops: Annotated[
        int | None, typer.Option(min=0, help="Records: exit 1 if an artifact of NEW has more layout ops than this.")
    ] = None,
    max_p99: Annotated[
        float | None, typer.Option(min=0, help="Records: exit 1 if p99 certainly grew by more than this factor.")
    ] = None,
    max_load: Annotated[
        float | None, typer.Option(min=0, help="Records: exit 1 if the time to load grew by more than this factor.")
    ] = None,
    max_memory: Annotated[
        float | None, typer.Option(min=0, help="Records: exit 1 if the peak of memory grew by more than this factor.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Records: what OLD has measured and NEW has not is no failure.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Records: exit 1 also if it cannot be told whether a limit is kept.")
    ] = False,
    json: console.Json = False,
) -> int:
    """Run two artifacts or bundles on the same inputs and show how their outputs differ; or compare two files of
    records: faster, slower, same, or can't tell. Exit 1 on a certain regression, and for what was not measured again.

    Examples: edgeattn compare b/attention-fp32.onnx b/attention-fp32.tflite, or edgeattn compare old.json new.json
    """
    console.use_json(json)
    gates = {
        "max_slowdown": max_slowdown,
        "max_size_growth": max_size_growth,
        "max_layout_ops": max_layout_ops,
        "max_p99": max_p99,
        "max_load": max_load,
        "max_memory": max_memory,
        "allow_missing": allow_missing or None,
        "strict": strict or None,
    }
    chosen = {name: value for name, value in gates.items() if value is not None}
    records = [path.suffix == ".json" for path in (old, new)]
    if all(records):
        if shape:
            raise typer.BadParameter("--shape goes with two artifacts")
        return _records(old, new, {name.removeprefix("max_"): value for name, value in chosen.items()})
    if any(records):
        raise typer.BadParameter("give two files of records, two bundles or two artifacts, not one of each")
    if chosen:
        raise typer.BadParameter(f"--{next(iter(chosen)).replace('_', '-')} goes with two files of records")
    from edgeattn.interface import render
    from edgeattn.parity import diff

    with console.progress() as progress:
        rows = diff.compare(old, new, progress, sizes=_sizes(shape or []))
    console.show({"rows": [asdict(row) for row in rows]}, lambda: [render.comparison(rows)])
    return 0


def _sizes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    sizes = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        parts = numbers.split(",")
        if not name or not all(part.strip().isdecimal() and len(part) < 10 and int(part) for part in parts):
            raise typer.BadParameter(f"--shape takes NAME=N,N,... with whole numbers from 1 on, not {text!r}")
        sizes[name] = tuple(int(part) for part in parts)
    return sizes


def _records(old: Path, new: Path, limits: dict[str, float]) -> int:
    from edgeattn.bundle import records
    from edgeattn.interface import render_records
    from edgeattn.profile import comparison

    before, after = records.load(old), records.load(new)
    result = comparison.compare(old=before.records, new=after.records, limits=comparison.Limits(**limits))  # type: ignore[arg-type]
    console.show({"passed": result.passed, **asdict(result)}, lambda: render_records.compared(result))
    return 0 if result.passed else 1
