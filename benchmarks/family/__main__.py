"""`make bench-family`: small vision models, through the stock converters and through edgeattn; prints Markdown.

Exits with 1 if a file of ours is another model, has more operators, layout ops or multiply-adds than the stock one, or
is missing where there is a stock one.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.family.measure import OURS, STOCK, Row
from benchmarks.family.models import BY_NAME
from benchmarks.family.table import faults, table, write
from benchmarks.peers.convert import all_versions
from edgeattn.formats import FORMATS

ROOT = Path(__file__).parent.parent.parent


def main(
    only: Annotated[list[str] | None, typer.Option(help="This model alone; repeatable.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file too.")] = None,
    page: Annotated[Path | None, typer.Option("--write", help="Replace the marked section of this page.")] = None,
) -> None:
    """Convert and count, one process for each model; progress goes to stderr."""
    names = only or list(BY_NAME)
    if unknown := [name for name in names if name not in BY_NAME]:
        raise typer.BadParameter(f"there is no {unknown[0]}; choose from {', '.join(BY_NAME)}", param_hint="--only")
    if page and only:
        raise typer.BadParameter("a page gets all models, not some", param_hint="--write")
    rows: list[Row] = []
    for number, name in enumerate(names, 1):
        print(f"{name} ({number} of {len(names)})", end=" ", file=sys.stderr, flush=True)
        begin = time.monotonic()
        rows += _apart(name)
        print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    versions = ", ".join(f"{name} {version}" for name, version in all_versions().items() if name != "onnx2tf")
    text = f"{time.strftime('%Y-%m-%d')}; fp32; {platform.machine()}, {platform.system()}; {versions}\n\n{table(rows)}"
    print(text)
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if page:
        write(page, text)
    found = faults(rows)
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        raise typer.Exit(1)


def _apart(name: str) -> list[Row]:
    """The rows of one model, out of a process of its own; if that dies, rows that say so."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.family.worker", name, str(out)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            check=False,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if done.returncode == 0:
            return [Row(**row) for row in json.loads(out.read_text())]
    last = (done.stderr.strip().splitlines() or [""])[-1]
    reason = f"its process ended with {done.returncode}: {last}"
    return [Row(name, format_name, form, refusal=reason) for format_name in FORMATS.names for form in (STOCK, OURS)]


if __name__ == "__main__":
    typer.run(main)
